//! A link opened for use: its configuration, where its keys and sessions are, and its connection to the broker.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rand::{CryptoRng, RngExt};

use crate::cache::{self, Cache};
use crate::cli::CommonArgs;
#[cfg(feature = "legacy")]
use crate::config::Legacy;
use crate::config::{self, Config, Environment, Protection};
use crate::files::{self, Dir, Guard};
use crate::identity::{IDENTITY_FILE, Identity, KNOWN_PEERS_FILE, KnownPeers, PeersStore};
use crate::mqtt::{self, TicketPlace, Version};
use crate::name::PeerName;
use crate::peers::{LinkPeers, Reach, no_peer_trusted};
use crate::report::Reporter;
use crate::sandbox::{self, Needs};
use crate::stdio::Signals;
use crate::suite::Suite;
use crate::text::quote;
use crate::{Error, Exit, Result};

/// Payloads up to this length in bytes are looked at whatever `max_message` says here; the peer's may be larger.
const MAX_FOREIGN: usize = 1 << 20;

/// Seconds since 1970 by this device's clock, which may be wrong.
#[must_use]
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A configuration that was found, read and understood, and the directories that go with it.
#[derive(Debug)]
pub struct Link {
    /// What it says.
    pub config: Config,
    identity_dir: PathBuf,
    runtime_dir: PathBuf,
    argument: Option<OsString>,
    /// What is sealed is padded to a multiple of this many bytes.
    pad: Option<usize>,
    /// What a service reads again: the configuration, and the password files that it names.
    sources: Vec<PathBuf>,
    /// `--no-sandbox`.
    no_sandbox: bool,
}

/// Which tool speaks to the broker; each has a client id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// sts-pair.
    Pair,
    /// sts-send.
    Send,
    /// sts-recv: the one that keeps the configured id, and with it a session in the broker.
    Receive,
    /// sts-recv with `--last`, beside any other sts-recv.
    ReceiveLast,
}

impl Link {
    /// Finds and reads the configuration that the command line means; its warnings go to `report`.
    ///
    /// # Errors
    /// As [`config::load`].
    pub fn open(args: &CommonArgs, report: &Reporter) -> Result<Self> {
        let env = Environment::of_process();
        let loaded = config::load(args.link.as_deref(), &args.overrides, &env)?;
        for warning in &loaded.warnings {
            report.warning(warning);
        }
        let mut sources = loaded.secret_files;
        sources.push(loaded.located.path);
        let link = Self {
            config: loaded.config,
            identity_dir: loaded.located.identity_dir,
            runtime_dir: env.runtime_dir(),
            argument: args.link.clone(),
            pad: None,
            sources,
            no_sandbox: args.no_sandbox,
        };
        if !loaded.is_protection_overridden {
            link.refuse_downgrade()?;
        }
        #[cfg(feature = "legacy")]
        if let Protection::Legacy(_) = link.config.protection {
            report.warning(crate::legacy::WEAKNESS);
        }
        Ok(link)
    }

    /// A link that was encrypted does not become plain by one line in a file, only by the command line; and one of STS/2 does not
    /// become one of the old program.
    ///
    /// # Errors
    /// [`Exit::Config`] where the file says so, and the link has a session or a peer that was trusted for it.
    fn refuse_downgrade(&self) -> Result<()> {
        let (how, so, hint) = match &self.config.protection {
            Protection::Sealed(_) => return Ok(()),
            Protection::None => (
                "is not encrypted (sts_mode = nosec)",
                "its data would be sent in the clear",
                "set sts_mode to master or slave; to send in the clear on purpose: -o sts_mode=nosec, or another link",
            ),
            Protection::Legacy(_) => (
                "is for the old program (sts_version = 1)",
                "nothing would be authenticated",
                "remove sts_version = 1; to speak to the old program on purpose: -o sts_version=1, or another link",
            ),
        };
        let link = &self.config.link;
        // What cannot be read is of no use to an encrypted link either.
        let links = match &self.config.protection {
            Protection::Legacy(_) => cache::status::sealed_links(&self.runtime_dir),
            _ => cache::status::links(&self.runtime_dir),
        };
        let has_session = links.is_ok_and(|links| links.contains(link));
        let is_bound = |peers: KnownPeers| {
            peers.lines().iter().any(|line| line.binding.names(link) || line.binding.has_paired(link))
        };
        let has_peer = Dir::open(&self.identity_dir, Guard::Public)
            .and_then(|dir| dir.map(|dir| KnownPeers::load(self.peers_store(dir))).transpose())
            .is_ok_and(|peers| peers.is_some_and(is_bound));
        let what = match (has_session, has_peer) {
            (false, false) => return Ok(()),
            (true, _) => "sessions",
            (false, true) => "trusted peers",
        };
        Err(Error::new(Exit::Config, format!("link `{link}` {how}, but it has {what}")).because(so).hint(hint))
    }

    /// Pads what is sealed to a multiple of this many bytes, if any.
    ///
    /// # Errors
    /// [`Exit::Usage`] where nothing is sealed, or where no message has room for so many.
    pub(crate) fn pad_to(mut self, pad: Option<usize>) -> Result<Self> {
        let max_message = self.config.mqtt.max_message;
        let longest = max_message - Suite::MAX_OVERHEAD_LEN;
        let why = match pad {
            Some(_) if self.config.protection == Protection::None => {
                "the link is not encrypted (sts_mode = nosec), so nothing is padded".to_owned()
            }
            Some(_) if self.config.sealed().is_none() => {
                "the old program always pads to 16 bytes (sts_version = 1)".to_owned()
            }
            Some(pad) if pad > longest => format!("it can be at most {longest} bytes (max_message = {max_message})"),
            _ => {
                self.pad = pad;
                return Ok(self);
            }
        };
        Err(Error::new(Exit::Usage, "--pad").because(why))
    }

    /// How this link speaks to the old program, if it does.
    #[cfg(feature = "legacy")]
    pub(crate) fn legacy(&self) -> Option<Legacy> {
        match self.config.protection {
            Protection::Legacy(legacy) => Some(legacy),
            Protection::None | Protection::Sealed(_) => None,
        }
    }

    /// What is sealed is padded to a multiple of this many bytes.
    pub(crate) fn pad(&self) -> Option<usize> {
        self.pad
    }

    /// What every run on this link needs of the system after it has started: its sessions, the keys that it trusts, which
    /// may change meanwhile, and the broker. Only sts-pair writes in the directory of the keys.
    pub(crate) fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        if self.config.protection != Protection::None || self.leaves_tickets() {
            needs.write_dir(&self.runtime_dir);
        }
        // Where sessions are that this run does not see, which an error then says.
        for dir in Environment::of_process().usual_runtime_dirs(files::us()) {
            needs.look_in_dir(&dir);
        }
        needs.look_in_dir(&self.identity_dir);
        if self.config.sealed().is_some() {
            for file in [IDENTITY_FILE, KNOWN_PEERS_FILE] {
                needs.read_file(&self.identity_dir.join(file));
            }
        }
        self.config.mqtt.endpoint.needs(&mut needs);
        needs
    }

    /// What sts-pair needs besides [`Link::needs`]; `again` where it reads the configuration again.
    pub(crate) fn pairing_needs(&self, again: bool) -> Needs {
        let mut needs = self.needs();
        if self.config.sealed().is_some() {
            needs.write_dir(&self.identity_dir);
        }
        if again {
            for path in &self.sources {
                needs.read_file(path);
            }
        }
        needs
    }

    /// Gives up everything else, for good, unless the command line says that it must not. Returns what this run holds then;
    /// `None` if it gave up nothing.
    pub(crate) fn enter_sandbox(&self, needs: Needs, report: &Reporter) -> Option<Needs> {
        if self.no_sandbox {
            report.verbose("no sandbox (--no-sandbox)");
            return None;
        }
        Signals::look_at_start();
        if self.leaves_tickets() {
            // If it cannot be made, a connection leaves no ticket, and the next one does without.
            let _ = self.create_cache();
        }
        let held = needs.granted();
        sandbox::enter(&held, report);
        Some(held)
    }

    /// Makes the directories in which sts-pair is to put what a run without a session waits for. Of what is absent when the
    /// sandbox is entered, no right can be kept.
    ///
    /// # Errors
    /// As [`Link::identity_dir`] and [`Link::create_cache`].
    pub(crate) fn make_dirs(&self) -> Result<()> {
        match self.config.protection {
            Protection::None => return Ok(()),
            Protection::Sealed(_) => drop(self.identity_dir()?),
            Protection::Legacy(_) => {}
        }
        self.create_cache().map(drop)
    }

    /// Whom an encrypted link accepts; `None` where the configuration says `nosec`.
    ///
    /// # Errors
    /// [`Exit::Usage`] on a link to the old program; otherwise as [`LinkPeers::load`].
    pub fn peers(&self) -> Result<Option<LinkPeers>> {
        self.peers_within(Reach::All)
    }

    /// As [`Link::peers`], for a run that sends to one of them: that of this name, or the only one.
    ///
    /// # Errors
    /// As [`Link::peers`].
    pub(crate) fn peer_to_reach(&self, to: Option<&PeerName>) -> Result<Option<LinkPeers>> {
        self.peers_within(Reach::One(to))
    }

    fn peers_within(&self, reach: Reach<'_>) -> Result<Option<LinkPeers>> {
        let sealed = match &self.config.protection {
            Protection::None => return Ok(None),
            Protection::Sealed(sealed) => sealed,
            Protection::Legacy(_) => {
                return Err(Error::new(Exit::Usage, format!("link `{}` has no peer to trust", self.config.link))
                    .because("the old program has no keys (sts_version = 1)")
                    .hint("replace the program at both ends, and remove sts_version = 1"));
            }
        };
        let route = self.config.route().expect("an encrypted link has a route");
        // Only what writes there makes the directory.
        let dir = Dir::open(&self.identity_dir, Guard::Public)?.ok_or_else(no_peer_trusted)?;
        LinkPeers::load(self.config.link.clone(), self.peers_store(dir), sealed, route, reach).map(Some)
    }

    /// The known peers in this directory.
    fn peers_store(&self, dir: Dir) -> PeersStore {
        // If there is no such directory, or it cannot be used, there is no session either, which then is the error.
        PeersStore::new(dir, Dir::open(&self.runtime_dir, Guard::Private).ok().flatten())
    }

    /// The directory with this device's identity key and the keys that it trusts.
    ///
    /// # Errors
    /// As [`Dir::create`].
    pub(crate) fn identity_dir(&self) -> Result<Dir> {
        Environment::of_process().create_identity_dir(&self.identity_dir)
    }

    /// The path of that directory, which may be absent.
    pub(crate) fn keys_dir(&self) -> &Path {
        &self.identity_dir
    }

    /// Whether this device has a key of its own and trusts another one, as every session needs. True where the link
    /// needs neither.
    ///
    /// # Errors
    /// As [`Identity::load_public`] and [`KnownPeers::load`].
    pub(crate) fn is_enrolled(&self) -> Result<bool> {
        if self.config.sealed().is_none() {
            return Ok(true);
        }
        let Some(dir) = Dir::open(&self.identity_dir, Guard::Public)? else { return Ok(false) };
        Ok(Identity::load_public(&dir)?.is_some() && !KnownPeers::load(self.peers_store(dir))?.lines().is_empty())
    }

    /// Makes this device's identity key where there is none yet, as pairing an encrypted link does.
    ///
    /// # Errors
    /// As [`Identity::of_device`].
    pub(crate) fn make_identity(&self, report: &Reporter) -> Result<()> {
        if self.config.sealed().is_none() {
            return Ok(());
        }
        let dir = self.identity_dir()?;
        match Identity::load_public(&dir)? {
            Some(_) => Ok(()),
            None => Identity::of_device(&dir, report).map(drop),
        }
    }

    /// The cache of the link's sessions, in the runtime directory as it is.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn cache(&self) -> Result<Cache> {
        Cache::open(&self.runtime_dir, &self.config.link, &self.as_typed())
    }

    /// As [`Link::cache`], in a runtime directory that is made where it is absent.
    ///
    /// # Errors
    /// As [`Cache::create`].
    pub fn create_cache(&self) -> Result<Cache> {
        if !self.runtime_dir.exists() {
            Environment::of_process().check_runtime_home()?;
        }
        Cache::create(&self.runtime_dir, &self.config.link, &self.as_typed())
    }

    /// Whether connections leave tickets in the runtime directory.
    fn leaves_tickets(&self) -> bool {
        self.config.mqtt.endpoint.tls.is_some()
    }

    /// Where a connection over TLS finds the ticket of the one before it.
    fn ticket_place(&self) -> Option<TicketPlace> {
        let is_ours = self.runtime_dir.exists() || Environment::of_process().check_runtime_home().is_ok();
        is_ours.then(|| TicketPlace { dir: self.runtime_dir.clone(), name: format!("{}@tls", self.config.link) })
    }

    /// The link as the user named it, for a command to type.
    fn as_typed(&self) -> String {
        match &self.argument {
            Some(argument) => quote(Path::new(argument)),
            None => self.config.link.to_string(),
        }
    }

    /// A client, as [`Link::client`], that begins to connect when it is first driven.
    ///
    /// # Errors
    /// As [`Link::client`].
    pub fn connect(&self, tool: Tool, rng: &mut impl CryptoRng) -> Result<mqtt::Client> {
        let mut client = self.client(tool, rng)?;
        client.connect(Instant::now());
        Ok(client)
    }

    /// A client of the broker, idle until [`mqtt::Client::connect`]. Two processes never share a client id, since the broker
    /// would drop the first: only sts-recv, of which a link has one, uses the configured id as it is.
    ///
    /// # Errors
    /// [`Exit::Config`] where something in the configuration does not fit into MQTT.
    pub fn client(&self, tool: Tool, rng: &mut impl CryptoRng) -> Result<mqtt::Client> {
        let config = &self.config.mqtt;
        let unique = format!("{:08x}", rng.random::<u32>());
        let derived = |id: &str, tool: &str| derive_client_id(id, tool, &unique, config.version);
        let client_id = match (&config.session.client_id, tool) {
            (Some(id), Tool::Receive) => id.clone(),
            (Some(id), Tool::Send) => derived(id, "send"),
            (Some(id), Tool::ReceiveLast) => derived(id, "last"),
            (Some(id), Tool::Pair) => derived(id, "pair"),
            (None, _) => format!("sts-{unique}{:08x}", rng.random::<u32>()),
        };
        // A broker keeps messages for a client that it will know again, and for no other.
        let durable = tool == Tool::Receive && config.session.client_id.is_some();
        let defaults = mqtt::ClientOptions::new(client_id);
        let options = mqtt::ClientOptions {
            version: config.version,
            login: config.login.clone(),
            keep_alive: Duration::from_secs(config.keep_alive.into()),
            unique_client_id: !durable,
            v5: mqtt::V5Options {
                session_expiry: config.session.expiry,
                message_expiry: config.message_expiry,
                // Nothing that the others wait for is ever retained.
                wants_retained: matches!(tool, Tool::Receive | Tool::ReceiveLast),
            },
            clean_session: if durable { config.session.clean.unwrap_or(false) } else { true },
            limits: mqtt::ClientLimits {
                max_send: config.max_message,
                max_receive: config.max_message.max(MAX_FOREIGN),
                ..defaults.limits
            },
            ..defaults
        };
        let mut endpoint = config.endpoint.clone();
        if let Some(tls) = &mut endpoint.tls {
            tls.tickets = self.ticket_place();
        }
        mqtt::Client::new(endpoint, options)
    }
}

/// The client id of a tool, of a configured one: that is cut where the version limits the length, since what is
/// `unique` tells them apart.
fn derive_client_id(id: &str, tool: &str, unique: &str, version: Version) -> String {
    let suffix = format!("-{tool}-{unique}");
    let room = version.max_client_id().map_or(id.len(), |max| max.saturating_sub(suffix.len()));
    let end = (0..=room.min(id.len())).rev().find(|end| id.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{suffix}", &id[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_client_ids_fit_and_stay_distinct() {
        for id in ["station", "a-client-id-of-23-bytes", "ßßßßßßßßßßß", "x"] {
            let ids = ["send", "last", "pair"].map(|tool| derive_client_id(id, tool, "0123abcd", Version::V31));
            assert!(ids.iter().all(|id| id.len() <= 23 && id.ends_with("-0123abcd")), "{ids:?}");
            assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2] && !ids.contains(&id.to_owned()));
        }
        assert_eq!(
            derive_client_id("gateway-station", "send", "0123abcd", Version::V311),
            "gateway-station-send-0123abcd"
        );
        assert_eq!(derive_client_id("gateway-station", "send", "0123abcd", Version::V31), "gateway-s-send-0123abcd");
    }
}
