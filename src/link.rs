//! A link opened for use: its configuration, who is at both ends of it, and what to tell the broker.

use std::collections::HashMap;
use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rand::{CryptoRng, RngExt};

use crate::cache::{Cache, Watch};
use crate::cli::{CommonArgs, Reporter};
use crate::config::{self, Config, Environment, PeerName};
use crate::crypto::schedule::Digest;
use crate::files::{Dir, Guard};
use crate::handshake::{Code, Enrolment, Peer};
use crate::identity::{Identity, KnownPeers, PublicKey};
use crate::mqtt;
use crate::role::Role;
use crate::route::Route;
use crate::session::{Expected, Session};
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
}

impl Link {
    /// Finds and reads the configuration that the command line means; its warnings go to `report`.
    ///
    /// # Errors
    /// As [`config::locate::load`].
    pub fn open(args: &CommonArgs, report: &Reporter) -> Result<Self> {
        let env = Environment::of_process();
        let loaded = config::locate::load(args.link.as_deref(), &args.overrides, &env)?;
        for warning in &loaded.warnings {
            report.warning(warning);
        }
        Ok(Self {
            config: loaded.config,
            identity_dir: loaded.located.identity_dir,
            runtime_dir: env.runtime_dir(),
            argument: args.link.clone(),
        })
    }

    /// The two ends of an encrypted link; `None` where the configuration says `nosec`.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where this device has no identity key yet, or a file that must be ours is not.
    pub fn ends(&self) -> Result<Option<LinkPeers>> {
        let Some(sealed) = &self.config.sealed else { return Ok(None) };
        let dir = Dir::create(&self.identity_dir, Guard::Public)?;
        let public = Identity::load_public(&dir)?.ok_or_else(nobody_trusted)?;
        let known = KnownPeers::load(&dir)?;
        Ok(Some(LinkPeers {
            dir,
            public,
            known,
            turn: None,
            role: sealed.role,
            suite: sealed.suite,
            route: self.config.route().expect("an encrypted link has a route"),
            wanted: sealed.peers.clone(),
        }))
    }

    /// Makes this device's identity key where there is none yet, as pairing an encrypted link does.
    ///
    /// # Errors
    /// As [`Identity::load_or_create`].
    pub fn make_identity(&self) -> Result<()> {
        if self.config.sealed.is_none() {
            return Ok(());
        }
        let dir = Dir::create(&self.identity_dir, Guard::Public)?;
        match Identity::load_public(&dir)? {
            Some(_) => Ok(()),
            None => Identity::load_or_create(&dir, &mut rand::rng()).map(drop),
        }
    }

    /// The link's sessions, in the runtime directory as it is.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn sessions(&self) -> Result<Cache> {
        Cache::open(&self.runtime_dir, &self.config.link, &self.as_typed())
    }

    /// The link's sessions, in the runtime directory that is made where it is absent.
    ///
    /// # Errors
    /// As [`Cache::create`].
    pub fn create_sessions(&self) -> Result<Cache> {
        Cache::create(&self.runtime_dir, &self.config.link, &self.as_typed())
    }

    /// The link as the user named it, for a command to type.
    fn as_typed(&self) -> String {
        match &self.argument {
            Some(argument) => quote(Path::new(argument)),
            None => self.config.link.to_string(),
        }
    }

    /// A client that begins to connect when it is first driven. Two processes never share a client id, since the broker
    /// would drop the first: only sts-recv, of which a link has one, uses the configured id as it is.
    ///
    /// # Errors
    /// [`Exit::Config`] where something in the configuration does not fit into MQTT.
    pub fn connect(&self, tool: Tool, rng: &mut impl CryptoRng) -> Result<mqtt::Client> {
        let config = &self.config.mqtt;
        let unique = format!("{:08x}", rng.random::<u32>());
        let client_id = match (&config.client_id, tool) {
            (Some(id), Tool::Receive) => id.clone(),
            (Some(id), Tool::Send) => format!("{id}-send-{unique}"),
            (Some(id), Tool::Pair) => format!("{id}-pair-{unique}"),
            (None, _) => format!("sts-{unique}{:08x}", rng.random::<u32>()),
        };
        // A broker keeps messages for a client that it will know again, and for no other.
        let durable = tool == Tool::Receive && config.client_id.is_some();
        let options = mqtt::ClientOptions {
            version: config.version,
            login: config.login.clone(),
            keep_alive: Duration::from_secs(config.keep_alive.into()),
            unique_client_id: !durable,
            clean_session: if durable { config.clean_session.unwrap_or(false) } else { true },
            max_send: config.max_message,
            max_receive: config.max_message.max(MAX_FOREIGN),
            ..mqtt::ClientOptions::new(client_id)
        };
        let mut client = mqtt::Client::new(config.endpoint.clone(), options)?;
        client.connect(Instant::now());
        Ok(client)
    }
}

/// This device and those that it accepts on an encrypted link.
#[derive(Debug)]
pub struct LinkPeers {
    dir: Dir,
    /// The public half of this device's identity key: sealing and opening take no other.
    pub public: PublicKey,
    known: KnownPeers,
    /// The turn of the loop in which it was looked at last: within one nothing is looked at twice.
    turn: Option<Instant>,
    /// Which side this is.
    pub role: Role,
    /// The suite that the configuration asks for.
    pub suite: Suite,
    /// The topics.
    pub route: Route,
    wanted: Vec<PeerName>,
}

/// Whom a link accepts, in the order of the configuration or of `known_peers`.
#[derive(Clone, Debug, Default)]
pub struct AcceptedPeers {
    all: Vec<Peer>,
    places: HashMap<Digest, usize>,
}

impl AcceptedPeers {
    /// The peer with the key of this fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: &Digest) -> Option<&Peer> {
        self.places.get(fingerprint).map(|place| &self.all[*place])
    }
}

impl Deref for AcceptedPeers {
    type Target = [Peer];

    fn deref(&self) -> &[Peer] {
        &self.all
    }
}

impl FromIterator<Peer> for AcceptedPeers {
    fn from_iter<I: IntoIterator<Item = Peer>>(peers: I) -> Self {
        let all: Vec<_> = peers.into_iter().collect();
        let places = all.iter().zip(0..).map(|(peer, place)| (*peer.key.fingerprint().as_bytes(), place)).collect();
        Self { all, places }
    }
}

impl LinkPeers {
    /// Looks at the known peers again, if their file changed.
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub fn refresh(&mut self) -> Result<bool> {
        self.known.refresh(&self.dir)
    }

    /// Whether [`LinkPeers::refresh`] has something to read: one stat for each turn of a tool's loop, of which `now` is the time.
    ///
    /// # Errors
    /// As [`KnownPeers::has_changed`].
    pub fn have_changed(&mut self, now: Instant) -> Result<bool> {
        let new_turn = self.turn.replace(now) != Some(now);
        Ok(new_turn && self.known.has_changed(&self.dir)?)
    }

    /// The peers that this link accepts: those that `peer` names, else the only pinned one (on a wildcard link, all).
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where none is pinned, [`Exit::Config`] where it is not clear which one is meant or a name in
    /// `peer` is not pinned.
    pub fn peers(&self) -> Result<AcceptedPeers> {
        let pinned: AcceptedPeers = self.pinned().collect();
        if pinned.is_empty() {
            return Err(nobody_trusted());
        }
        if self.wanted.is_empty() {
            return if pinned.len() == 1 || self.route.is_wildcard() { Ok(pinned) } else { Err(ambiguous(&pinned)) };
        }
        let by_name: HashMap<_, _> = pinned.iter().map(|peer| (&peer.name, peer)).collect();
        let named = |name: &PeerName| {
            by_name.get(name).copied().cloned().ok_or_else(|| {
                Error::new(Exit::NotTrusted, format!("`peer = {name}`"))
                    .because("no key is pinned under this name")
                    .hint(format!("on the other device: sts-pair --key; pipe that line into: sts-pair --trust {name}"))
            })
        };
        self.wanted.iter().map(named).collect()
    }

    /// Those of [`LinkPeers::peers`] that are pinned now: while a tool runs, one that was forgotten is no reason to refuse
    /// the others, and nobody left to trust is none to end.
    #[must_use]
    pub fn peers_left(&self) -> AcceptedPeers {
        let left = || self.pinned().filter(|peer| self.wanted.contains(&peer.name)).collect();
        if self.wanted.is_empty() { self.peers().unwrap_or_default() } else { left() }
    }

    /// From now on this link is to this peer only.
    ///
    /// # Errors
    /// [`Exit::Usage`] where it accepts no peer of that name; otherwise as [`LinkPeers::peers`].
    pub fn only(&mut self, name: &PeerName) -> Result<()> {
        let peers = self.peers()?;
        if !peers.iter().any(|peer| peer.name == *name) {
            return Err(Error::new(Exit::Usage, format!("no peer `{name}` on this link"))
                .because(format!("it accepts {}", list(peers.iter().map(|peer| &peer.name)))));
        }
        self.wanted = vec![name.clone()];
        Ok(())
    }

    /// Enrolment on this link by a code that is good for so many attempts.
    #[must_use]
    pub fn enrolment(&self, code: Code, attempts: usize) -> Enrolment {
        Enrolment::new(code, attempts, self.pinned().collect(), self.wanted.clone())
    }

    /// Pins a peer.
    ///
    /// # Errors
    /// As [`KnownPeers::add`].
    pub fn pin(&mut self, peer: &Peer) -> Result<()> {
        self.known.add(&self.dir, &self.public, &peer.name, &peer.key)
    }

    /// Whether the configuration must say which of several pinned peers the link is to, and does not.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.wanted.is_empty() && !self.route.is_wildcard() && self.pinned().count() > 1
    }

    /// All pinned keys, but not our own: written into the file by hand, it would let anybody reflect us to ourselves.
    fn pinned(&self) -> impl Iterator<Item = Peer> {
        let own = &self.public;
        let others = self.known.iter().filter(move |(_, key)| *key != own);
        others.map(|(name, key)| Peer { name: name.clone(), key: key.clone() })
    }

    /// What a session must agree with to be used on this link.
    #[must_use]
    pub fn expected(&self) -> Expected<'_> {
        Expected { suite: self.suite, role: self.role, own: self.own(), route: &self.route }
    }

    /// This device's identity key, to sign with.
    ///
    /// # Errors
    /// As [`Identity::load_or_create`].
    pub fn identity(&self) -> Result<Identity> {
        Identity::load_or_create(&self.dir, &mut rand::rng())
    }

    /// The fingerprint of this device's key.
    #[must_use]
    pub fn own(&self) -> Digest {
        *self.public.fingerprint().as_bytes()
    }

    /// The peer of a session, if that session may be used: it agrees with the configuration, and its peer is accepted.
    #[must_use]
    pub fn accepts<'a>(&self, session: &Session, peers: &'a AcceptedPeers) -> Option<&'a Peer> {
        if session.mismatch(&self.expected()).is_some() {
            return None;
        }
        peers.get(&session.peer)
    }

    /// The error of having no session to use: as [`Watch::no_session`].
    #[must_use]
    pub fn no_session(&self, cache: &Cache, watch: &Watch, peers: &AcceptedPeers) -> Error {
        watch.no_session(cache, &self.expected(), |session| self.accepts(session, peers).is_some())
    }
}

/// Names for a message: all of a few, the first of many.
#[must_use]
pub fn list<'a>(names: impl ExactSizeIterator<Item = &'a PeerName>) -> String {
    const MOST: usize = 20;
    let more = names.len().saturating_sub(MOST);
    let shown: Vec<_> = names.take(MOST).map(PeerName::as_str).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn nobody_trusted() -> Error {
    Error::new(Exit::NotTrusted, "no peer is trusted yet")
        .because("this device knows nobody's public key")
        .hint("sts-pair --code on both devices; or, on the other one, sts-pair --key; pipe that line into: sts-pair --trust NAME")
}

fn ambiguous(pinned: &[Peer]) -> Error {
    Error::new(Exit::Config, "several peers are trusted, and the configuration does not say which this link is to")
        .because(list(pinned.iter().map(|peer| &peer.name)))
        .hint(format!("add a line to the configuration: peer = {}", pinned[0].name))
}
