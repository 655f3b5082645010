//! What standard output took, and what is owed for it: the journal, and the confirms that follow from it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::CryptoRng;

use super::admissions::Admissions;
use super::confirm_queue::ConfirmQueue;
use super::sessions::UsableSessions;
use crate::Result;
use crate::cache::{Cache, Journal, JournalEntry, ListedSession, ReceiveState};
use crate::error::Lack;
use crate::link::unix_time;
use crate::mqtt::Qos;
use crate::recv::delivery::Completion;
use crate::recv::incoming::ConfirmMessage;
use crate::session::{Session, SessionId};
use crate::sessions::LinkSessions;
use crate::stream::{Confirmed, EndedStream, Progress, SideContent, StreamId, StreamState, max_record_len};

/// How long keys of what is over may stay on disk.
const ERASURE_INTERVAL: Duration = Duration::from_secs(1);

/// The link's receive state, which one sts-recv holds at a time, and what its senders are still to be told of it.
pub(super) struct ReceiveLog {
    pub(super) journal: Journal,
    pub(super) confirms: ConfirmQueue,
    /// Where streams begin of which nothing is written: a newer stream may be written before them.
    pub(super) beginnings: Vec<Progress>,
    /// Wills that are accepted and not written down, each with its stream and the number of the next one.
    pub(super) wills: BTreeSet<(StreamId, u32)>,
    max_message: usize,
    /// When the keys of what is over are to be erased, if there are any.
    erasure_due: Option<Instant>,
}

impl ReceiveLog {
    /// Takes the link's receive state. Also returns the sessions that cannot be used without what was lost of it.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub(super) fn open(
        cache: &Cache,
        sessions: &[ListedSession],
        max_message: usize,
    ) -> Result<(Self, Vec<SessionId>)> {
        let (journal, unusable) = Journal::open(cache, sessions)?;
        let (confirms, beginnings, wills) = (ConfirmQueue::default(), Vec::new(), BTreeSet::new());
        Ok((Self { journal, confirms, beginnings, wills, max_message, erasure_due: None }, unusable))
    }

    /// Keeps confirms to this many bytes, if they may be longer; false where padding leaves no room in these.
    pub(super) fn limit_messages(&mut self, max_message: usize, pad: Option<usize>) -> bool {
        let lower = self.max_message.min(max_message);
        if max_record_len(lower, pad) == 0 {
            return false;
        }
        if lower < self.max_message {
            self.max_message = lower;
            self.confirms.begin_side_streams();
        }
        true
    }

    /// What was written down.
    pub(super) fn state(&self) -> &ReceiveState {
        self.journal.state()
    }

    /// Whether a stream is written down as over: then nothing of it is on its way to standard output either.
    pub(super) fn is_over(&self, StreamId { session, number }: StreamId) -> bool {
        self.state().session(session).is_some_and(|(streams, _)| streams.is_over(number))
    }

    /// Whether a stream is written down as over, or as written beyond where it is said to have ended.
    pub(super) fn has_end(&self, EndedStream { stream, count, .. }: &EndedStream) -> bool {
        let next = self.state().session(stream.session).and_then(|(streams, _)| streams.next_seq(stream.number));
        self.is_over(*stream) || next > *count
    }

    /// Whether a stream is written down as written up to a message, which is the next one.
    pub(super) fn is_written_before(&self, StreamId { session, number }: StreamId, seq: u32) -> bool {
        self.state().session(session).is_some_and(|(streams, _)| streams.next_seq(number) == Some(seq))
    }

    /// Whether all that was accepted of a stream until then is written down, and its wills.
    pub(super) fn has_written(&self, &Progress { stream, next, .. }: &Progress) -> bool {
        let streams = self.state().session(stream.session).map(|(streams, _)| streams);
        let written = streams.and_then(|streams| streams.next_seq(stream.number)).unwrap_or(0);
        let has_wills = self.wills.range((stream, 0)..=(stream, u32::MAX)).next().is_some();
        (written >= next && !has_wills) || self.is_over(stream)
    }

    /// Writes down what standard output took. Only then are confirms due: what is confirmed, the sender forgets.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub(super) fn record(&mut self, written: &[Completion], cache: &Cache, now: Instant) -> Result<()> {
        let mut entries: Vec<JournalEntry> = written.iter().flat_map(Completion::entries).collect();
        if !entries.is_empty() {
            let is_written = |stream| {
                let of = |entry: &JournalEntry| matches!(entry, JournalEntry::Progress(of) if of.stream == stream);
                entries.iter().any(of)
            };
            self.beginnings.retain(|begun| !is_written(begun.stream));
            entries.splice(..0, self.beginnings.iter().copied().map(JournalEntry::Progress));
            self.journal.record(cache, &entries, unix_time())?;
            self.beginnings.clear();
            for entry in entries {
                if let JournalEntry::Will { stream, next } = entry {
                    self.wills.remove(&(stream, next));
                }
            }
        }
        for completion in written {
            if let Some(progress) = completion.confirmable() {
                let ends = progress.state == StreamState::Ended;
                self.confirms.written(progress.stream, progress.salt, completion.bytes, ends, now);
            }
        }
        Ok(())
    }

    /// When [`ReceiveLog::erase_keys_if_due`] has something to do.
    pub(super) fn erasure_due(&self) -> Option<Instant> {
        self.erasure_due
    }

    /// Erases the keys of what is over, which is written down, once a second.
    ///
    /// # Errors
    /// As [`Journal::erase_keys`].
    pub(super) fn erase_keys_if_due(&mut self, cache: &Cache, now: Instant) -> Result<()> {
        if !self.journal.has_unerased_keys() {
            return Ok(());
        }
        if now < *self.erasure_due.get_or_insert(now + ERASURE_INTERVAL) {
            return Ok(());
        }
        match self.erase_keys(cache) {
            // What was received is written down: this is done when there is space again.
            Err(error) if error.lack() == Some(Lack::Disk) => {
                self.erasure_due = Some(now + ERASURE_INTERVAL);
                Ok(())
            }
            erased => erased,
        }
    }

    /// Erases the keys of what is over.
    ///
    /// # Errors
    /// As [`Journal::erase_keys`].
    pub(super) fn erase_keys(&mut self, cache: &Cache) -> Result<()> {
        self.erasure_due = None;
        self.journal.erase_keys(cache)
    }

    /// The confirms that are due, `all` of them at the end of a run; and whether the session of one was deleted since
    /// the last look at the sessions.
    ///
    /// # Errors
    /// As [`ConfirmQueue::seal`].
    pub(super) fn due_confirms(
        &mut self,
        all: bool,
        sessions: &UsableSessions,
        admissions: &Admissions,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<ConfirmMessage>, bool)> {
        let (mut messages, mut is_outdated) = self.due_refusals(sessions, rng)?;
        let Some((streams, must_arrive)) = self.confirms.take_due(all, now) else { return Ok((messages, is_outdated)) };
        let qos = if must_arrive { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        for of_session in streams.chunk_by(|(one, ..), (other, ..)| one.session == other.session) {
            let id = of_session[0].0.session;
            let Some(session) = sessions.receiver.session(id) else { continue };
            let Some((written, _)) = self.journal.state().session(id) else { continue };
            let wanted: Vec<_> = of_session
                .iter()
                .map(|&(StreamId { number, .. }, salt, next)| {
                    // All that comes again of a stream that ended long ago was written. Of any other stream that is not
                    // known, nothing was.
                    let forgotten = if written.ended().contains(number) { next } else { 0 };
                    Confirmed { stream: number, salt, next: written.next_seq(number).unwrap_or(forgotten) }
                })
                .collect();
            let topic = sessions.link.publish_topic(session);
            let sacks = wanted.iter().filter_map(|confirmed| sack(confirmed, session, sessions, admissions)).collect();
            let frames = self.confirms.seal(session, (&wanted, sacks), self.max_message, &sessions.link, rng);
            let frames = unless_deleted(frames, session, &sessions.link)?;
            is_outdated |= frames.is_none();
            let frames = frames.into_iter().flatten();
            messages.extend(frames.map(|frame| ConfirmMessage { topic: topic.to_owned(), frame, qos }));
        }
        Ok((messages, is_outdated))
    }

    /// What is to be said of messages that are not understood.
    fn due_refusals(
        &mut self,
        sessions: &UsableSessions,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<ConfirmMessage>, bool)> {
        let (mut messages, mut is_outdated) = (Vec::new(), false);
        for (stream, (salt, seq)) in self.confirms.take_refused() {
            let Some(session) = sessions.receiver.session(stream.session) else { continue };
            let topic = sessions.link.publish_topic(session).to_owned();
            let refused = SideContent::Refused { stream: stream.number, salt, seq };
            let frame = self.confirms.seal_one(session, refused, self.max_message, &sessions.link, rng);
            match unless_deleted(frame, session, &sessions.link)? {
                Some(frame) => messages.push(ConfirmMessage { topic, frame, qos: Qos::AtLeastOnce }),
                None => is_outdated = true,
            }
        }
        Ok((messages, is_outdated))
    }
}

/// What is here of a stream that lacks messages, and is not confirmed: what is on its way to standard output, and what
/// came too early.
fn sack(
    confirmed: &Confirmed,
    session: &Session,
    sessions: &UsableSessions,
    admissions: &Admissions,
) -> Option<SideContent> {
    let &Confirmed { stream: number, salt, next } = confirmed;
    let mut ranges = admissions.early_ranges(StreamId { session: session.id, number });
    if ranges.is_empty() {
        return None;
    }
    let accepted = sessions.receiver.streams(session.id).and_then(|streams| streams.next_seq(number)).unwrap_or(0);
    if accepted > next {
        ranges.insert(0, (next, accepted));
    }
    Some(SideContent::Sack { stream: number, salt, ranges })
}

/// What was sealed under a session; `None` if that failed because the session was deleted since the last look at it.
/// Then nothing under it can be opened. Its peer can bring that about, so it is no error.
fn unless_deleted<T>(sealed: Result<T>, session: &Session, sessions: &LinkSessions) -> Result<Option<T>> {
    match sealed {
        Err(_) if !sessions.cache().has(session)? => Ok(None),
        sealed => sealed.map(Some),
    }
}
