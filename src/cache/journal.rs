//! What sts-recv has received on a link: `LINK@recv`, written by the one that holds `LINK@recv.lock`.
//!
//! A text file that begins with a snapshot and grows by a line for each batch of entries, in one write(2). Each line
//! carries a checksum; a last line without its end is the write that a crash cut short, and nothing was acknowledged on
//! its strength. It survives the end of the process at any step; after a power cut on a disk (not in a memory file
//! system, where the sessions are gone too) the last lines may be missing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;

use super::checked_line::put_line;
use super::field_text::hex;
use super::receive_file::{self, UnusableState, put_entry, put_peer, put_time};
use super::receive_state::{JournalEntry, ReceiveState, index};
use super::{Cache, ListedSession};
use crate::crypto::schedule::Digest;
use crate::error::Lack;
use crate::files::{self, Appender, Guard, Lock};
use crate::session::{Session, SessionId, Standing};
use crate::stream::{Progress, StreamState, erases_part};
use crate::text;
use crate::{Error, Exit, Rejected, Result};

/// The file is written anew once it is this long, in bytes, and twice as long as its snapshot was.
pub(super) const MIN_COMPACT_LEN: u64 = 256 << 10;
/// Longest file that is read: 10,000 peers have one of a few MiB.
const MAX_JOURNAL_LEN: u64 = 64 << 20;

struct Known {
    peer: Digest,
    received: bool,
}

/// The receive state of a link, held by its one receiver.
pub(crate) struct Journal {
    lock: Lock,
    file: Appender,
    /// Length in bytes of the snapshot that the file begins with.
    snapshot_len: u64,
    state: ReceiveState,
    known: HashMap<SessionId, Known>,
    /// Counted, and to be written with the next entry: a message that changes nothing must not cause a write.
    rejected: [u64; Rejected::ALL.len()],
    duplicates: BTreeMap<SessionId, u64>,
    /// The peers in whose session files there may be keys of what is over.
    unerased: BTreeSet<Digest>,
    /// The sessions with a first entry, whose files are to say so.
    unmarked: BTreeSet<SessionId>,
}

impl Journal {
    /// Takes the lock of the link's receiver and reads what was received; the journal keeps what belongs to `sessions`.
    ///
    /// Also returns the sessions that cannot be used: something was received under them, and what is not known.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where another sts-recv runs on this link, or where the state is lost of every session that
    /// is not retired; otherwise as [`files::replace`].
    pub(crate) fn open(cache: &Cache, sessions: &[ListedSession]) -> Result<(Self, Vec<SessionId>)> {
        let lock = cache.lock_receiving()?;
        let (mut state, lost) = ReceiveState::look(cache, sessions)?;
        state.keep_only(&sessions.iter().map(|listed| (listed.id, listed.peer)).collect());
        let snapshot = receive_file::encode(&state, cache.link().as_str());
        files::replace(cache.dir(), &lock, &name(cache), snapshot.as_bytes())?;
        let file = files::open_to_append(cache.dir(), &lock, &name(cache))?;
        let snapshot_len = file.size();
        let mut journal = Self {
            lock,
            file,
            snapshot_len,
            state,
            known: HashMap::new(),
            rejected: Default::default(),
            duplicates: BTreeMap::new(),
            unerased: BTreeSet::new(),
            unmarked: BTreeSet::new(),
        };
        journal.adopt(sessions);
        Ok((journal, lost))
    }

    /// Takes note of sessions that are there now, or of another standing; returns those that cannot be used, as
    /// [`Journal::open`] does.
    pub(crate) fn adopt(&mut self, sessions: &[ListedSession]) -> Vec<SessionId> {
        for &ListedSession { id, peer, received, .. } in sessions {
            self.known.insert(id, Known { peer, received });
        }
        lost(&self.state, sessions)
    }

    /// Takes note of sessions that are not there any more.
    pub(crate) fn forget(&mut self, sessions: &[SessionId]) {
        for id in sessions {
            self.known.remove(id);
        }
    }

    /// Takes note of the keys of a session as its file has them: a run that was killed may have left keys of what it had
    /// received.
    pub(crate) fn look_at_keys(&mut self, Session { id, peer, receive, .. }: &Session) {
        if self.state.session(*id).is_some_and(|(streams, _)| receive.clone().reduce(streams)) {
            self.unerased.insert(*peer);
        }
    }

    /// Whether there may be keys on disk of what is over.
    #[must_use]
    pub(crate) fn has_unerased_keys(&self) -> bool {
        !self.unerased.is_empty()
    }

    /// Erases the keys of what is written down as over.
    ///
    /// # Errors
    /// As [`Cache::erase_keys`].
    pub(crate) fn erase_keys(&mut self, cache: &Cache) -> Result<()> {
        if self.unerased.is_empty() {
            return Ok(());
        }
        // After a power cut, a stream must not be without its keys that is not known to be over.
        self.file.sync()?;
        while let Some(peer) = self.unerased.first().copied() {
            cache.erase_keys(&peer, &self.state)?;
            self.unerased.remove(&peer);
        }
        Ok(())
    }

    /// What was written down.
    #[must_use]
    pub(crate) fn state(&self) -> &ReceiveState {
        &self.state
    }

    /// Counts a message that was dropped; it is written with the next entry.
    pub(crate) fn count_rejected(&mut self, reason: Rejected) {
        self.rejected[index(reason)] += 1;
    }

    /// Counts a message that was received before; it is written with the next entry.
    pub(crate) fn count_duplicate(&mut self, session: SessionId) {
        *self.duplicates.entry(session).or_default() += 1;
    }

    /// Writes entries down: after stdout took the bytes, which was `at` this time in seconds since 1970, and before PUBACK.
    ///
    /// The first time that something is received under a session, [`Journal::mark_received`] has to follow, before PUBACK.
    ///
    /// # Errors
    /// [`Exit::Failed`] where they cannot be written. With [`Lack::Disk`], what was there before is as it was, and the
    /// same may be written again.
    pub(crate) fn record(&mut self, cache: &Cache, entries: &[JournalEntry], at: u64) -> Result<()> {
        let entries = &*self.of_known(entries);
        let mut text = String::new();
        put_line(&mut text, &self.line_of(entries, at));
        self.file.append(text.as_bytes())?;
        for (total, count) in self.state.rejected.iter_mut().zip(std::mem::take(&mut self.rejected)) {
            *total = total.saturating_add(count);
        }
        for (id, count) in std::mem::take(&mut self.duplicates) {
            let total = &mut self.state.sessions.entry(id).or_default().1.duplicates;
            *total = total.saturating_add(count);
        }
        for entry in entries {
            self.note_erasable(entry);
            self.state.apply(entry, Some(at));
            // What is told of a session does not show that it was in use.
            let is_unmarked = self.known.get(&entry.session()).is_some_and(|known| !known.received);
            if is_unmarked && !is_told(entry) {
                self.unmarked.insert(entry.session());
            }
        }
        // From here on, the entries are written: who writes them again counts them twice.
        let is_written = |error: Error| error.for_lack_of(None);
        let is_long = self.file.size() > MIN_COMPACT_LEN.max(2 * self.snapshot_len);
        if is_long { self.compact(cache).map_err(is_written) } else { Ok(()) }
    }

    /// These entries without what is told of sessions that are gone, or that have lost what was received under them: an entry
    /// would hide that.
    fn of_known<'e>(&self, entries: &'e [JournalEntry]) -> Cow<'e, [JournalEntry]> {
        // Most often: nothing is copied for each message then.
        if !entries.iter().any(is_told) {
            return entries.into();
        }
        let is_known = |id| {
            let is_unused = self.known.get(&id).is_some_and(|known| !known.received);
            is_unused || self.state.sessions.contains_key(&id)
        };
        entries.iter().filter(|entry| !is_told(entry) || is_known(entry.session())).copied().collect()
    }

    /// Sets `received` in the files of the sessions that have their first entry. Not before that is written: a session that has
    /// the mark and no entry counts as lost.
    ///
    /// # Errors
    /// As [`Cache::set_received`]; the same may be tried again.
    pub(crate) fn mark_received(&mut self, cache: &Cache) -> Result<()> {
        while let Some(id) = self.unmarked.first().copied() {
            if let Some(known) = self.known.get_mut(&id) {
                cache.set_received(&known.peer, &[id])?;
                known.received = true;
                if let Some((_, counters)) = self.state.sessions.get_mut(&id) {
                    counters.peer = Some(known.peer);
                }
            }
            self.unmarked.remove(&id);
        }
        Ok(())
    }

    /// What is written down with these entries: what was counted since the last ones, too.
    fn line_of(&self, entries: &[JournalEntry], at: u64) -> String {
        let mut line = String::new();
        put_time(&mut line, at);
        for (reason, count) in self.rejected.iter().enumerate().filter(|(_, count)| **count > 0) {
            let _ = write!(line, "x {reason} {count} ");
        }
        for (id, count) in &self.duplicates {
            let _ = write!(line, "n {} d {count} ", hex(id));
        }
        let mut session = None;
        for entry in entries {
            if session != Some(entry.session()) {
                session = Some(entry.session());
                let _ = write!(line, "n {} ", hex(&entry.session()));
                if let Some(known) = self.known.get(&entry.session()).filter(|known| !known.received) {
                    put_peer(&mut line, &known.peer);
                }
            }
            put_entry(&mut line, entry);
        }
        line
    }

    /// Remembers that an entry makes keys superfluous.
    fn note_erasable(&mut self, entry: &JournalEntry) {
        let JournalEntry::Progress(Progress { stream, next, state, .. }) = entry else { return };
        let before = self.state.session(stream.session).and_then(|(streams, _)| streams.next_seq(stream.number));
        let erases = *state != StreamState::Open || erases_part(before.unwrap_or(0), *next);
        if erases && let Some(known) = self.known.get(&stream.session) {
            self.unerased.insert(known.peer);
        }
    }

    /// Whose each session is.
    fn peers(&self) -> HashMap<SessionId, Digest> {
        self.known.iter().map(|(id, known)| (*id, known.peer)).collect()
    }

    fn compact(&mut self, cache: &Cache) -> Result<()> {
        self.state.keep_only(&self.peers());
        let snapshot = receive_file::encode(&self.state, cache.link().as_str());
        let replaced = files::replace(cache.dir(), &self.lock, &name(cache), snapshot.as_bytes());
        // Also where that failed: it may be the new file that has the name.
        self.file = files::open_to_append(cache.dir(), &self.lock, &name(cache))?;
        self.snapshot_len = self.file.size();
        match replaced {
            // All is written, if not in few bytes; there may be space when the file is twice as long.
            Err(error) if error.lack() == Some(Lack::Disk) => Ok(()),
            replaced => replaced,
        }
    }
}

/// Whether an entry only says what the sender told of another stream, and what became of that.
fn is_told(entry: &JournalEntry) -> bool {
    matches!(entry, JournalEntry::Told(_) | JournalEntry::Waited { .. })
}

/// The sessions under which something was received, without anything being known of it.
fn lost(state: &ReceiveState, sessions: &[ListedSession]) -> Vec<SessionId> {
    let lost = |listed: &&ListedSession| listed.received && !state.sessions.contains_key(&listed.id);
    sessions.iter().filter(lost).map(|listed| listed.id).collect()
}

impl Cache {
    /// As the second part of what [`Journal::open`] returns, for a tool that receives nothing itself.
    pub(crate) fn lost_sessions(&self, sessions: impl Iterator<Item = ListedSession>) -> Vec<SessionId> {
        let received: Vec<_> = sessions.filter(|listed| listed.received).map(|listed| listed.id).collect();
        if received.is_empty() {
            return received;
        }
        match ReceiveState::read(self) {
            Ok(state) => {
                let state = state.unwrap_or_default();
                received.into_iter().filter(|id| !state.sessions.contains_key(id)).collect()
            }
            Err(damaged) if damaged.exit() == Exit::Failed => received,
            // Of a later version, or not to be read by this user: sts-recv says so, and nothing is lost.
            Err(_) => Vec::new(),
        }
    }
}

fn name(cache: &Cache) -> String {
    format!("{}@recv", cache.link())
}

impl ReceiveState {
    /// The state of a link, which another process may write meanwhile, and the sessions that cannot be used, as
    /// [`Journal::open`] returns them. The `sessions` must have been read before: what they say was received is in the state.
    ///
    /// # Errors
    /// As [`Journal::open`], but for the lock.
    pub(crate) fn look(cache: &Cache, sessions: &[ListedSession]) -> Result<(Self, Vec<SessionId>)> {
        let (state, malformed) = match Self::read(cache) {
            Ok(state) => (state.unwrap_or_default(), None),
            Err(err) if err.exit() == Exit::Failed => (Self::default(), Some(err)),
            Err(err) => return Err(err),
        };
        let lost = lost(&state, sessions);
        let is_lost: HashSet<_> = lost.iter().collect();
        let is_usable = |listed: &ListedSession| listed.standing != Standing::Retired && !is_lost.contains(&listed.id);
        if !lost.is_empty() && !sessions.iter().any(is_usable) {
            return Err(malformed.unwrap_or_else(|| {
                Error::new(Exit::TryAgain, text::show(&cache.dir().join(&name(cache))))
                    .because("the record of what was received is lost, so old messages could be accepted as new")
                    .hint(format!("agree on new keys: {}", cache.pairing_command()))
            }));
        }
        Ok((state, lost))
    }

    /// Reads the state of a link without changing it; `None` where there is none.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it is malformed; otherwise as [`files::read_private`].
    pub(crate) fn read(cache: &Cache) -> Result<Option<Self>> {
        let file = name(cache);
        let Some(bytes) = files::read_up_to(cache.dir(), &file, Guard::Private, MAX_JOURNAL_LEN)? else {
            return Ok(None);
        };
        receive_file::parse(cache.link().as_str(), &bytes).map(Some).map_err(|unusable| match unusable {
            UnusableState::Malformed(line) => {
                Error::new(Exit::Failed, format!("{}, line {line}", text::show(&cache.dir().join(&file))))
                    .because("the receive state is damaged")
                    .hint(format!("agree on new keys: {}", cache.pairing_command()))
            }
            UnusableState::Later => cache.of_later_version(&file),
        })
    }
}
