//! What standard output took, and what is owed for it: the journal, and the confirms that follow from it.

use std::time::Instant;

use rand::CryptoRng;

use super::confirm_queue::ConfirmQueue;
use super::sessions::UsableSessions;
use crate::Result;
use crate::cache::{Cache, Journal, JournalEntry, ReceiveState, StoredSession};
use crate::link::unix_time;
use crate::mqtt::Qos;
use crate::recv::delivery::Completion;
use crate::recv::incoming::ConfirmMessage;
use crate::session::SessionId;
use crate::stream::{StreamId, StreamState};

/// The link's receive state, which one sts-recv holds at a time, and what its senders are still to be told of it.
pub(super) struct ReceiveLog {
    pub(super) journal: Journal,
    pub(super) confirms: ConfirmQueue,
    max_message: usize,
}

impl ReceiveLog {
    /// Takes the link's receive state. Also returns the sessions that cannot be used without what was lost of it.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub(super) fn open(
        cache: &Cache,
        sessions: &[StoredSession],
        max_message: usize,
    ) -> Result<(Self, Vec<SessionId>)> {
        let (journal, unusable) = Journal::open(cache, sessions)?;
        Ok((Self { journal, confirms: ConfirmQueue::default(), max_message }, unusable))
    }

    /// What was written down.
    pub(super) fn state(&self) -> &ReceiveState {
        self.journal.state()
    }

    /// Whether a stream is written down as over: then nothing of it is on its way to standard output either.
    pub(super) fn is_over(&self, StreamId { session, number }: StreamId) -> bool {
        self.state().session(session).is_some_and(|(streams, _)| streams.is_over(number))
    }

    /// Whether a stream is written down as written up to a message, which is the next one.
    pub(super) fn is_written_before(&self, StreamId { session, number }: StreamId, seq: u32) -> bool {
        self.state().session(session).is_some_and(|(streams, _)| streams.next_seq(number) == Some(seq))
    }

    /// Writes down what standard output took. Only then are confirms due: what is confirmed, the sender forgets.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub(super) fn record(&mut self, written: &[Completion], cache: &Cache, now: Instant) -> Result<()> {
        let entries: Vec<JournalEntry> = written.iter().flat_map(Completion::entries).collect();
        if !entries.is_empty() {
            self.journal.record(cache, &entries, unix_time())?;
        }
        for completion in written {
            if let Some(progress) = completion.confirmable() {
                let ends = progress.state == StreamState::Ended;
                self.confirms.written(progress.stream, completion.bytes, ends, now);
            }
        }
        Ok(())
    }

    /// The confirms that are due, `all` of them at the end of a run.
    ///
    /// # Errors
    /// As [`ConfirmQueue::seal`].
    pub(super) fn due_confirms(
        &mut self,
        all: bool,
        sessions: &UsableSessions,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<ConfirmMessage>> {
        let Some((streams, must_arrive)) = self.confirms.take_due(all, now) else { return Ok(Vec::new()) };
        let qos = if must_arrive { Qos::AtLeastOnce } else { Qos::AtMostOnce };
        let mut messages = Vec::new();
        for of_session in streams.chunk_by(|(one, _), (other, _)| one.session == other.session) {
            let id = of_session[0].0.session;
            let Some(session) = sessions.receiver.session(id) else { continue };
            let Some((written, _)) = self.journal.state().session(id) else { continue };
            let wanted: Vec<_> = of_session
                .iter()
                .map(|&(StreamId { number, .. }, next)| {
                    // All that comes again of a stream that ended long ago was written. Of any other stream that is not
                    // known, nothing was.
                    let forgotten = if written.ended().contains(number) { next } else { 0 };
                    (number, written.next_seq(number).unwrap_or(forgotten))
                })
                .collect();
            let topic = sessions.link.publish_topic(session);
            let frames = self.confirms.seal(session, &wanted, self.max_message, &sessions.link, rng)?;
            messages.extend(frames.into_iter().map(|frame| ConfirmMessage { topic: topic.to_owned(), frame, qos }));
        }
        Ok(messages)
    }
}
