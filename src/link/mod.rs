//! A link opened for use: its configuration, where its keys and sessions are, and its connection to the broker.

mod client;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use self::client::Tool;
use crate::cache::{self, Cache, START_THERE};
#[cfg(feature = "legacy")]
use crate::config::Legacy;
use crate::config::{self, Config, Environment, Protection};
use crate::files::{self, Dir, Guard};
use crate::identity::{IDENTITY_FILE, Identity, KNOWN_PEERS_FILE, KnownPeers, PeersStore};
use crate::name::PeerName;
use crate::peers::{LinkPeers, Reach, no_peer_trusted};
use crate::report::Reporter;
use crate::sandbox::{self, Needs};
use crate::stdio::Signals;
use crate::stream::{SentTime, max_record_len};
use crate::suite::Suite;
use crate::text::quote;
use crate::{Error, Exit, Result};

/// Seconds since 1970 by this device's clock, which may be wrong.
#[must_use]
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// When this program was built, in seconds since 1970: no clock that is right is before that.
const BUILD_TIME: &str = env!("STS_BUILD_TIME");

/// Whether this can be the time now: a clock that was never set says less.
#[must_use]
pub(crate) fn is_plausible(now: SystemTime) -> bool {
    let built = Duration::from_secs(BUILD_TIME.parse().unwrap_or(0));
    now.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since >= built)
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

/// Which link to open, and what the command line says about it.
#[derive(Clone, Debug, Default)]
pub struct LinkOptions {
    /// Its name, or the path of its file.
    pub link: Option<OsString>,
    /// Keys of the configuration, as `KEY=VALUE`.
    pub overrides: Vec<String>,
    /// `--no-sandbox`.
    pub no_sandbox: bool,
}

impl Link {
    /// Finds and reads the configuration that the command line means; its warnings go to `report`.
    ///
    /// # Errors
    /// As [`config::load`]; [`Exit::Config`] where the file takes its protection away from a link that had one, and the error of
    /// a file that would say so, but cannot be used.
    pub fn open(options: &LinkOptions, report: &Reporter) -> Result<Self> {
        let env = Environment::of_process();
        let loaded = config::load(options.link.as_deref(), &options.overrides, &env)?;
        for warning in &loaded.warnings {
            report.warning(warning);
        }
        let mut sources = loaded.secret_files;
        sources.push(loaded.located.path);
        let link = Self {
            config: loaded.config,
            identity_dir: loaded.located.identity_dir,
            runtime_dir: env.runtime_dir(),
            argument: options.link.clone(),
            pad: None,
            sources,
            no_sandbox: options.no_sandbox,
        };
        if !loaded.is_protection_asked_for {
            link.refuse_downgrade()?;
            #[cfg(feature = "legacy")]
            link.tell_legacy_session(report);
        }
        #[cfg(feature = "legacy")]
        if link.config.protection.is_legacy() {
            report.warning(crate::legacy::WEAKNESS);
        }
        Ok(link)
    }

    /// A link that was encrypted does not become plain by one line in a file, only by the command line; and one of STS/2 does not
    /// become one of the old program.
    ///
    /// # Errors
    /// [`Exit::Config`] where the file says so, and the link has a session or a peer that was trusted for it; otherwise as
    /// [`cache::status::links_with_peers`], [`Dir::open`] and [`KnownPeers::load`].
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
        // What cannot be read may say that the link was encrypted.
        let links = cache::status::links_with_peers(&self.runtime_dir)?;
        let has_session = links.get(link).is_some_and(|peers| match &self.config.protection {
            // A session of the old program has no peer.
            Protection::Legacy(_) => !peers.is_empty(),
            Protection::None | Protection::Sealed(_) => true,
        });
        let what = if has_session {
            "sessions"
        } else if self.has_trusted_peer()? {
            "trusted peers"
        } else {
            return Ok(());
        };
        Err(Error::new(Exit::Config, format!("link `{link}` {how}, but it has {what}")).because(so).hint(hint))
    }

    /// Whether a peer was trusted for this link, or has paired with it.
    fn has_trusted_peer(&self) -> Result<bool> {
        match Dir::open(&self.identity_dir, Guard::Public)? {
            Some(dir) => self.peers_store(dir).open()?.has_peer_of(&self.config.link),
            None => Ok(false),
        }
    }

    /// Whether this is a link of STS/2 that only has a session of the old program.
    #[cfg(feature = "legacy")]
    fn has_only_legacy_session(&self) -> bool {
        let link = &self.config.link;
        // Looked for by its name: a gateway may have a hundred thousand others.
        let is_there = self.config.sealed().is_some() && cache::has_legacy_file(&self.runtime_dir, link);
        let links = || cache::status::links_with_peers(&self.runtime_dir);
        is_there && links().is_ok_and(|links| links.get(link).is_none_or(Vec::is_empty))
    }

    /// Says that there is only such a session: the line that says so may have been lost.
    #[cfg(feature = "legacy")]
    fn tell_legacy_session(&self, report: &Reporter) {
        let link = &self.config.link;
        if self.has_only_legacy_session() {
            let what = "has a session of the old program, but its configuration does not say sts_version = 1";
            let hint = "if the other device has the old program, add sts_version = 1 on a line of its own; \
                        otherwise agree on new keys with it";
            report.warning_with_hint(format_args!("link `{link}` {what}"), Some(hint));
        }
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
            Some(_) if max_record_len(max_message, pad) <= SentTime::ITEM_LEN => {
                format!("it leaves too little room in a message (max_message = {max_message})")
            }
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

    /// As [`Link::peers`], for a run that only receives.
    ///
    /// # Errors
    /// As [`Link::peers`].
    pub(crate) fn senders(&self) -> Result<Option<LinkPeers>> {
        self.peers_within(Reach::Senders)
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
        Ok(Identity::load_public(&dir)?.is_some() && !KnownPeers::load_as_asked(self.peers_store(dir))?.is_empty())
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
        let (dir, link, typed) = (&self.runtime_dir, &self.config.link, self.as_typed());
        match self.config.protection {
            Protection::None | Protection::Sealed(_) => Cache::open(dir, link, &typed),
            Protection::Legacy(_) => Cache::open_beside(dir, link, &typed, START_THERE),
        }
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

    /// The link as the user named it, for a command to type.
    fn as_typed(&self) -> String {
        match &self.argument {
            Some(argument) => quote(Path::new(argument)),
            None => self.config.link.to_string(),
        }
    }
}
