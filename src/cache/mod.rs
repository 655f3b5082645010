//! Sessions on disk, in the runtime directory (`sts-protocol(7)`, "Session files").
//!
//! `LINK@PEER` holds the sessions with one peer, PEER being the first 32 hexadecimal digits of its fingerprint;
//! `LINK@recv` is what sts-recv has received, in [`Journal`]. No link has an `@` in its name, so no two links share a
//! file. Every change of a session file is made under the lock on `LINK@lock`, which is never replaced: read again,
//! write, fsync, rename, fsync the directory. So two machines must never share, copy or restore this directory.

mod answer;
mod checked_line;
mod deletion;
pub(crate) mod field_text;
mod file_names;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod journal;
mod latest_streams;
mod pairing_locks;
mod peer_sessions;
mod receive_file;
mod receive_state;
mod reserve;
mod rotation;
mod session_file;
mod session_order;
pub(crate) mod status;
mod stream_end;
mod told_text;
mod totals;
mod usual_dirs;
mod watch;
mod watched_file;

#[cfg(test)]
mod tests;

use std::path::Path;

pub(crate) use self::deletion::forget;
#[cfg(feature = "legacy")]
pub(crate) use self::file_names::{LEGACY_FILE, has_legacy_file};
pub(crate) use self::file_names::{PeerKey, peer_key};
use self::file_names::{link_of, peer_of};
pub(crate) use self::journal::Journal;
pub use self::peer_sessions::StoredSession;
pub(crate) use self::peer_sessions::{PeerSessions, SessionOutline};
use self::peer_sessions::{limit, promote, retire_current};
pub(crate) use self::receive_state::{Counters, JournalEntry, OpenStream, ReceiveState};
use self::session_file::Unusable;
pub(crate) use self::session_order::SessionOrder;
pub(crate) use self::stream_end::{EndOfStream, StreamEnd};
pub(crate) use self::totals::Totals;
pub(crate) use self::watch::FileChange;
pub use self::watch::Watch;
pub(crate) use self::watched_file::ListedSession;
use crate::crypto::schedule::Digest;
use crate::files::{self, Dir, Guard, Lock};
use crate::name::LinkName;
use crate::session::{Session, SessionId, Standing};
use crate::text;
use crate::{Error, Exit, Result};

/// A file of sessions with another peer than its name says.
const OF_OTHER_PEER: Unusable = Unusable::Malformed("the peer that the file is named after");

/// The sessions of one link.
#[derive(Debug)]
pub struct Cache {
    dir: Dir,
    link: LinkName,
    /// The link as an argument to sts-pair, for the commands in hints.
    typed: String,
}

impl Cache {
    /// Opens the runtime directory for the sessions of `link`; `typed` is what the user calls it, safe in a shell.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where it is absent: there is no session; [`Exit::NotTrusted`] as in [`Dir::open`].
    pub fn open(path: &Path, link: &LinkName, typed: &str) -> Result<Self> {
        Self::open_beside(path, link, typed, PAIR_THERE)
    }

    /// The same, where the other device pairs by another command.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub(crate) fn open_beside(path: &Path, link: &LinkName, typed: &str, command: &str) -> Result<Self> {
        let dir = Dir::open(path, Guard::Private).map_err(|error| usual_dirs::unusable(path, error))?;
        let dir = dir.ok_or_else(|| no_session(path, link, typed, command))?;
        Ok(Self { dir, link: link.clone(), typed: typed.to_owned() })
    }

    /// Opens the runtime directory to look at the sessions of `link`, and to change none: root may look at any user's.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub(crate) fn look(path: &Path, link: &LinkName) -> Result<Self> {
        let typed = link.to_string();
        let dir = usual_dirs::look(path)?.ok_or_else(|| no_session(path, link, &typed, PAIR_THERE))?;
        Ok(Self { dir, link: link.clone(), typed })
    }

    /// Opens the runtime directory, made with mode 0700 where it is absent, as sts-pair does.
    ///
    /// # Errors
    /// As [`Dir::create`].
    pub fn create(path: &Path, link: &LinkName, typed: &str) -> Result<Self> {
        let dir = Dir::create(path, Guard::Private).map_err(|error| usual_dirs::unusable(path, error))?;
        Ok(Self { dir, link: link.clone(), typed: typed.to_owned() })
    }

    /// The link's name.
    #[must_use]
    pub(crate) fn link(&self) -> &LinkName {
        &self.link
    }

    /// The command that agrees new keys on this link.
    #[must_use]
    pub(crate) fn pairing_command(&self) -> String {
        format!("sts-pair {}", self.typed)
    }

    /// The runtime directory.
    #[must_use]
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Takes the lock of the link's one receiver; it is held until dropped.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where another sts-recv runs.
    pub(crate) fn lock_receiving(&self) -> Result<Lock> {
        self.try_lock_receiving()?.ok_or_else(|| {
            Error::new(Exit::TryAgain, format!("cannot receive from {}", self.link))
                .because("another sts-recv is already running on this link")
        })
    }

    fn try_lock_receiving(&self) -> Result<Option<Lock>> {
        files::try_lock(&self.dir, &format!("{}@recv.lock", self.link))
    }

    /// Whether an sts-recv runs on the link.
    ///
    /// # Errors
    /// As [`files::read_private`].
    #[cfg(feature = "legacy")]
    pub(crate) fn is_receiving(&self) -> Result<bool> {
        Ok(self.try_lock_receiving()?.is_none())
    }

    /// The error of having no session, which says where it was looked for and what makes one.
    #[must_use]
    pub(crate) fn no_session(&self) -> Error {
        self.no_session_beside(PAIR_THERE)
    }

    /// The same, where the other device pairs by another command.
    pub(crate) fn no_session_beside(&self, command: &str) -> Error {
        no_session(self.dir.path(), &self.link, &self.typed, command)
    }

    /// All sessions of the link: those with one peer stand together, newest first.
    ///
    /// # Errors
    /// [`Exit::Failed`] for a file that is malformed or not ours, with the remedy; otherwise as [`files::read_private`].
    pub fn load(&self) -> Result<Vec<StoredSession>> {
        let (mut sessions, mut peers) = (Vec::new(), self.peers()?);
        peers.sort_unstable();
        for peer in peers {
            sessions.append(&mut self.read(peer)?.sessions);
        }
        Ok(sessions)
    }

    /// Whether `is_wanted` is true of any session of the link: reads one file after the other until it is. One that cannot be read
    /// has none.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the directory cannot be read; those of `is_wanted`.
    pub(crate) fn any(&self, mut is_wanted: impl FnMut(&Session) -> Result<bool>) -> Result<bool> {
        for peer in self.peers()? {
            for stored in self.read(peer).unwrap_or_default().sessions {
                if is_wanted(&stored.session)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The sessions with one peer; none where there is no file.
    ///
    /// # Errors
    /// As [`Cache::load`].
    pub(crate) fn load_peer(&self, peer: &Digest) -> Result<PeerSessions> {
        self.read(peer_key(peer))
    }

    /// Whether a session is stored now, whatever it was at the last look.
    ///
    /// # Errors
    /// As [`Cache::load`].
    pub(crate) fn has(&self, session: &Session) -> Result<bool> {
        let of_peer = self.load_peer(&session.peer)?;
        Ok(of_peer.sessions.iter().any(|stored| stored.session.id == session.id))
    }

    /// The slave stores a session before it says so (step 6), and moves no other: an older pending one may be what its
    /// master uses already. One that is stored already, in whatever standing, stays as it is.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be written; what was stored is then as it was.
    pub(crate) fn store_pending(&self, session: &Session, now: u64) -> Result<()> {
        self.store(session, |sessions| {
            sessions.insert(0, StoredSession::new(session, Standing::Pending));
            limit(sessions, now);
        })
    }

    /// The master stores a session once the slave has it (step 6): the one before it retires. One that is stored
    /// already, in whatever standing, stays as it is.
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub fn store_current(&self, session: &Session, now: u64) -> Result<()> {
        self.store(session, |sessions| {
            retire_current(sessions, now);
            sessions.insert(0, StoredSession::new(session, Standing::Current));
            limit(sessions, now);
        })
    }

    /// Makes a pending session the current one, once something authentic came under it; the one before it retires.
    /// False where it is not pending (any more).
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub fn promote(&self, peer: &Digest, id: &SessionId, now: u64) -> Result<bool> {
        self.change(peer, |sessions| {
            let is_it = |stored: &StoredSession| stored.session.id == *id && stored.standing == Standing::Pending;
            let Some(at) = sessions.iter().position(is_it) else { return Ok((false, false)) };
            promote(sessions, at, now);
            limit(sessions, now);
            Ok((true, true))
        })
    }

    /// The master notes that the slave uses a session (step 8); false where it is gone.
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub fn prove(&self, peer: &Digest, id: &SessionId) -> Result<bool> {
        self.change(peer, |sessions| {
            let stored = sessions.iter_mut().find(|stored| stored.session.id == *id);
            Ok(stored.map_or((false, false), |stored| (true, !std::mem::replace(&mut stored.proven, true))))
        })
    }

    /// Writes down that something was received under these sessions, so that they are not used without receive state.
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub(crate) fn set_received(&self, peer: &Digest, ids: &[SessionId]) -> Result<()> {
        self.change(peer, |sessions| {
            let mut changed = false;
            for stored in sessions.iter_mut().filter(|stored| ids.contains(&stored.session.id)) {
                changed |= !std::mem::replace(&mut stored.received, true);
                stored.proven = true;
            }
            Ok(((), changed))
        })
    }

    /// Erases the keys of what is over by `state`, which is written down, in the sessions with a peer: nothing that is stored
    /// leads to them after this. Writes nothing where there are none.
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub(crate) fn erase_keys(&self, peer: &Digest, state: &ReceiveState) -> Result<()> {
        self.change(peer, |sessions| {
            let mut changed = false;
            for Session { id, receive, .. } in sessions.iter_mut().map(|stored| &mut stored.session) {
                changed |= state.session(*id).is_some_and(|(streams, _)| receive.reduce(streams));
            }
            Ok(((), changed))
        })
    }

    fn lock(&self) -> Result<Lock> {
        files::lock(&self.dir, &format!("{}@lock", self.link))
    }

    fn read(&self, peer: PeerKey) -> Result<PeerSessions> {
        let bytes = files::read_private(&self.dir, &self.file_of(peer))?;
        bytes.map_or(Ok(PeerSessions::default()), |bytes| self.parse_usable(peer, &bytes))
    }

    /// Reads a file of which the error says what to do about it.
    fn parse_usable(&self, peer: PeerKey, bytes: &[u8]) -> Result<PeerSessions> {
        self.parse(peer, bytes).map_err(|unusable| self.unusable(peer, &unusable))
    }

    /// The error of a file that cannot be used.
    fn unusable(&self, peer: PeerKey, unusable: &Unusable) -> Error {
        let name = self.file_of(peer);
        match unusable {
            Unusable::Malformed(expected) => Error::new(Exit::Failed, text::show(&self.dir.join(&name)))
                .because(format!("not a valid session file: expected {expected}"))
                .hint(format!("agree on new keys, which replaces this file: {}", self.pairing_command())),
            Unusable::Later => self.of_later_version(&name),
        }
    }

    /// The error of a file that a later version wrote: it is left as it is.
    pub(crate) fn of_later_version(&self, name: &str) -> Error {
        Error::new(Exit::Protocol, text::show(&self.dir.join(name)))
            .because("a later version of these tools wrote it")
            .hint("use that version on this device; the file is left as it is")
    }

    fn parse(&self, peer: PeerKey, bytes: &[u8]) -> std::result::Result<PeerSessions, Unusable> {
        let parsed = session_file::parse(self.link.as_str(), bytes)?;
        let is_of_peer = |stored: &StoredSession| peer_key(&stored.session.peer) == peer;
        if parsed.sessions.iter().all(is_of_peer) { Ok(parsed) } else { Err(OF_OTHER_PEER) }
    }

    /// Reads a file without its keys.
    fn outline(&self, peer: PeerKey, bytes: &[u8]) -> Result<Vec<SessionOutline>> {
        let outlines = session_file::outline(self.link.as_str(), bytes).and_then(|outlines| {
            let is_of_peer = |outline: &SessionOutline| peer_key(&outline.peer) == peer;
            if outlines.iter().all(is_of_peer) { Ok(outlines) } else { Err(OF_OTHER_PEER) }
        });
        outlines.map_err(|unusable| self.unusable(peer, &unusable))
    }

    /// Adds a session by `add`, unless it is there.
    fn store(&self, session: &Session, add: impl FnOnce(&mut Vec<StoredSession>)) -> Result<()> {
        if !session_file::can_hold(&session.topics) {
            return Err(Error::new(Exit::Config, "invalid topic").because("it contains control characters"));
        }
        let name = self.name(&session.peer);
        let lock = self.lock()?;
        let mut of_peer = match files::read_private(&self.dir, &name)? {
            Some(bytes) => match self.parse(peer_key(&session.peer), &bytes) {
                Ok(of_peer) => of_peer,
                // Keys that cannot be read are lost already: a malformed file must not stop the pairing that replaces it.
                Err(Unusable::Malformed(_)) => PeerSessions::default(),
                Err(Unusable::Later) => return Err(self.of_later_version(&name)),
            },
            None => PeerSessions::default(),
        };
        // A repeated step must not give a session's stream numbers a second time.
        if of_peer.sessions.iter().any(|stored| stored.session.id == session.id) {
            return Ok(());
        }
        of_peer.change(add);
        self.write(&lock, &name, &of_peer)
    }

    /// Reads under the lock, changes, and writes if `change` says so.
    fn change<T>(&self, peer: &Digest, change: impl FnOnce(&mut Vec<StoredSession>) -> Result<(T, bool)>) -> Result<T> {
        let lock = self.lock()?;
        let mut of_peer = self.load_peer(peer)?;
        let (result, changed) = of_peer.change(change)?;
        if changed {
            self.write(&lock, &self.name(peer), &of_peer)?;
        }
        Ok(result)
    }

    fn write(&self, lock: &Lock, name: &str, of_peer: &PeerSessions) -> Result<()> {
        // What was deleted is remembered for as long as the peer may ask for it.
        if of_peer.sessions.is_empty() && of_peer.deleted.is_empty() {
            return files::remove(&self.dir, name).map(|_| ());
        }
        let text = session_file::encode(self.link.as_str(), of_peer);
        files::replace(&self.dir, lock, name, text.as_bytes())
    }
}

/// What is to be run on the other device to pair, and when.
const PAIR_THERE: &str = "and sts-pair on the other device at the same time";
/// The same, where it has the old program, which as master asks only once.
pub(crate) const START_THERE: &str = "then `start` on the other device while it runs";

fn no_session(path: &Path, link: &LinkName, typed: &str, there: &str) -> Error {
    let error = Error::new(Exit::TryAgain, format!("no session for {link}"));
    let looked = format!("looked in {}", text::show(path));
    match usual_dirs::other_with_sessions(path, Some(link)) {
        Some(other) => error
            .because(format!("{looked}; there is one in {}", text::show(&other)))
            .hint(format!("set STS_RUNTIME_DIR={} for all tools on this link", text::quote(&other))),
        None => error.because(looked).hint(format!("run sts-pair {typed}, {there}")),
    }
}
