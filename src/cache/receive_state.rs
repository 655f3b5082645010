//! What was received on a link, and what changes it. As text it is in [`super::receive_file`].
//!
//! What `--status` is to show of it goes this way:
//!
//! 1. A [`JournalEntry`], which the run puts into `Completion::prior` (`recv/delivery.rs`), or which follows from its
//!    progress. [`ReceiveState::apply`] adds it to [`Counters`], and [`Counters::totals`] to [`Totals`] once its session is gone.
//! 2. `receive_file.rs` has two words for it: one of the entry (`put_entry`, read by `note` or `entry`), and one of the snapshot
//!    (`encode`). A word that begins with `+` is optional: an older version ignores it; with any other word the file is of a
//!    later version. `t` has a fixed number of values, so a new counter is a word of its own. In `+past=` (`totals.rs`) it is one
//!    more value at the end, which may be absent when it is read. Tested: `tests/entries.rs`, an example of each entry.
//! 3. `cache/status.rs` reads it, and `pair/status/` prints it as table (80 columns), JSON and metrics.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use super::totals::Totals;
use crate::Rejected;
use crate::crypto::schedule::Digest;
use crate::session::SessionId;
use crate::stream::{EndedStream, Gap, KeptStream, Progress, StreamId, StreamState, Streams, ToldEnd};
use crate::text;
use crate::units::approximate;

/// Most gaps of a session that are kept one by one.
const MAX_LATEST_GAPS: usize = 16;

/// What was received under one session, for `sts-pair --status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Messages accepted.
    pub(crate) messages: u64,
    /// Payload bytes written.
    pub(crate) bytes: u64,
    /// Messages that were received before.
    pub(crate) duplicates: u64,
    /// Gaps.
    pub(crate) gaps: u64,
    /// Messages lost in them.
    pub(crate) lost: u64,
    /// The latest gaps, at most [`MAX_LATEST_GAPS`].
    pub(crate) latest: VecDeque<Gap>,
    /// Of each open stream, when something of it was last written, in seconds since 1970.
    pub(crate) last_written: BTreeMap<u32, u64>,
    /// When the last message was received, in seconds since 1970: with bytes or without.
    pub(crate) last_message: Option<u64>,
    /// Whose session it is, as far as that is written down.
    pub(crate) peer: Option<Digest>,
}

impl Counters {
    /// What it adds to a total.
    pub(crate) fn totals(&self) -> Totals {
        let Self { messages, bytes, duplicates, gaps, lost, last_message, .. } = *self;
        Totals { messages, bytes, duplicates, gaps, lost, last_message }
    }
}

/// A stream of which more is to come, or the end was lost.
///
/// Displayed as `stream 3: 17 messages so far, the last 3h12m ago`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenStream {
    pub(crate) stream: StreamId,
    /// How many messages there are up to the last one that was written, lost ones included.
    pub(crate) messages: u32,
    /// Seconds since then; `None` where that is in the future, or not known.
    pub(crate) age: Option<u64>,
}

impl fmt::Display for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = text::count(self.messages.into(), "message");
        write!(f, "stream {}: {messages} so far", self.stream.number)?;
        self.age.map_or(Ok(()), |age| write!(f, ", the last {} ago", approximate(age)))
    }
}

/// What was received on a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceiveState {
    pub(super) sessions: BTreeMap<SessionId, (Streams, Counters)>,
    pub(super) rejected: [u64; Rejected::ALL.len()],
    /// What was received under sessions that are gone, per peer.
    pub(super) past: BTreeMap<Digest, Totals>,
}

/// One thing to write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JournalEntry {
    /// A stream was written so far.
    Progress(Progress),
    /// Messages were lost.
    Lost(Gap),
    /// The broker keeps messages of this stream, and of no newer one.
    Kept {
        /// Under which session.
        session: SessionId,
        /// Which stream.
        stream: KeptStream,
    },
    /// A will of an open stream was written.
    Will {
        /// Of which stream.
        stream: StreamId,
        /// The lowest number of a will of it that is accepted from now on.
        next: u32,
    },
    /// A sender told how a stream ended, of which something is missing that may still come.
    Told(EndedStream),
    /// So long was waited for what is missing of a stream of which that was told.
    Waited {
        /// Which stream.
        stream: StreamId,
        /// How long, by all runs.
        time: Duration,
    },
    /// Two devices of a peer use a session.
    Copied {
        /// Which session.
        session: SessionId,
    },
    /// Nothing was received of streams of a session, and nothing is accepted any more.
    GivenUp {
        /// Which session.
        session: SessionId,
        /// The first number.
        first: u32,
        /// The last number.
        last: u32,
    },
    /// Messages were accepted, and payload bytes written.
    Written {
        /// Under which session.
        session: SessionId,
        /// How many messages.
        messages: u64,
        /// How many bytes.
        bytes: u64,
    },
}

impl JournalEntry {
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Progress(progress) => progress.stream.session,
            Self::Lost(gap) => gap.stream.session,
            Self::Told(ended) => ended.stream.session,
            Self::Waited { stream, .. } | Self::Will { stream, .. } => stream.session,
            Self::Kept { session, .. }
            | Self::Copied { session }
            | Self::GivenUp { session, .. }
            | Self::Written { session, .. } => *session,
        }
    }
}

impl ReceiveState {
    /// The streams and counters of a session.
    #[must_use]
    pub(crate) fn session(&self, id: SessionId) -> Option<(&Streams, &Counters)> {
        self.sessions.get(&id).map(|(streams, counters)| (streams, counters))
    }

    /// The sessions under which something was received.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    /// The streams of each session.
    pub(crate) fn into_streams(self) -> impl Iterator<Item = (SessionId, Streams)> {
        self.sessions.into_iter().map(|(id, (streams, _))| (id, streams))
    }

    /// Of these sessions, with nothing received.
    #[cfg(test)]
    pub(crate) fn of_sessions(ids: impl IntoIterator<Item = SessionId>) -> Self {
        Self { sessions: ids.into_iter().map(|id| (id, Default::default())).collect(), ..Self::default() }
    }

    /// How streams ended, as their senders told it, if something of them may be missing that was not reported.
    pub(crate) fn told(&self) -> impl Iterator<Item = &ToldEnd> {
        self.sessions.values().flat_map(|(streams, _)| streams.unreported())
    }

    /// How many messages were dropped, per reason.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = (Rejected, u64)> {
        Rejected::ALL.into_iter().zip(self.rejected)
    }

    /// What was received from each peer under sessions that are gone.
    pub(crate) fn past(&self) -> &BTreeMap<Digest, Totals> {
        &self.past
    }

    /// The open streams of a session at `now`, in seconds since 1970; the longest idle first.
    #[must_use]
    pub(crate) fn open_streams(&self, id: SessionId, now: u64) -> Vec<OpenStream> {
        let Some((streams, counters)) = self.session(id) else { return Vec::new() };
        let open = |Progress { stream, next, .. }| {
            let age = counters.last_written.get(&stream.number).and_then(|at| now.checked_sub(*at));
            OpenStream { stream, messages: next, age }
        };
        streams.open(id).into_iter().map(open).collect()
    }

    /// Applies what was written `at` this time, in seconds since 1970; `None` where that is not known. A file may hold any
    /// numbers: counters stay at the highest.
    pub(super) fn apply(&mut self, entry: &JournalEntry, at: Option<u64>) {
        match *entry {
            JournalEntry::Progress(progress) => {
                let (streams, counters) = self.sessions.entry(progress.stream.session).or_default();
                streams.apply(&progress);
                let number = progress.stream.number;
                if progress.state != StreamState::Open {
                    counters.last_written.remove(&number);
                } else if let Some(at) = at {
                    counters.last_written.insert(number, at);
                }
            }
            JournalEntry::Lost(gap) => {
                let counters = &mut self.sessions.entry(gap.stream.session).or_default().1;
                counters.gaps = counters.gaps.saturating_add(1);
                counters.lost = counters.lost.saturating_add(gap.messages());
                counters.latest.push_back(gap);
                if counters.latest.len() > MAX_LATEST_GAPS {
                    counters.latest.pop_front();
                }
            }
            JournalEntry::Kept { session, stream } => self.sessions.entry(session).or_default().0.keep(stream),
            JournalEntry::Will { stream, next } => {
                self.sessions.entry(stream.session).or_default().0.set_next_will(stream.number, next);
            }
            JournalEntry::Told(ended) => self.sessions.entry(ended.stream.session).or_default().0.tell(ended),
            JournalEntry::Waited { stream, time } => {
                self.sessions.entry(stream.session).or_default().0.set_waited(stream.number, time);
            }
            JournalEntry::Copied { session } => self.sessions.entry(session).or_default().0.mark_copied(),
            JournalEntry::GivenUp { session, first, last } => {
                self.sessions.entry(session).or_default().0.insert_closed(first, last);
            }
            JournalEntry::Written { session, messages, bytes } => {
                let counters = &mut self.sessions.entry(session).or_default().1;
                counters.messages = counters.messages.saturating_add(messages);
                counters.bytes = counters.bytes.saturating_add(bytes);
                if messages > 0 {
                    counters.last_message = at.or(counters.last_message);
                }
            }
        }
    }
}

pub(super) fn index(reason: Rejected) -> usize {
    Rejected::ALL.iter().position(|other| *other == reason).expect("every reason is in the list")
}

impl ReceiveState {
    /// Drops every session that is not among these, which come with their peers. The messages received under a dropped
    /// session stay in the totals of its peer, and those that it still lacks are counted there as lost.
    pub(super) fn keep_only(&mut self, peers: &HashMap<SessionId, Digest>) {
        self.note_peers(peers);
        let past = &mut self.past;
        self.sessions.retain(|id, (streams, counters)| {
            let is_kept = peers.contains_key(id);
            if let (false, Some(peer)) = (is_kept, counters.peer) {
                let totals = past.entry(peer).or_default();
                *totals = streams.unreported_losses().fold(*totals + counters.totals(), |totals, lost| {
                    totals + Totals { gaps: 1, lost, ..Totals::default() }
                });
            }
            is_kept
        });
    }

    /// Records the peers of these sessions, for the time when the sessions are gone.
    fn note_peers(&mut self, peers: &HashMap<SessionId, Digest>) {
        for (id, (_, counters)) in &mut self.sessions {
            counters.peer = peers.get(id).copied().or(counters.peer);
        }
    }
}
