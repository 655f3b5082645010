//! Confirms: telling a sender that asks how far standard output took its stream (`sts-protocol(7)`, "Confirms").

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::{CryptoRng, RngExt};

use crate::Result;
use crate::cache::Cache;
use crate::session::{Session, SessionId};
use crate::stream::{Sender, StreamId};

/// A confirm waits so long for others to go with it.
const DELAY: Duration = Duration::from_millis(50);
/// Messages after which it does not wait.
const MESSAGES: u32 = 64;
/// How long a run that would end waits for a sender to say that it has heard of the end of its stream.
const LINGER: Duration = Duration::from_secs(30);
/// Bytes after which it does not wait: a fraction of what a sender may have unconfirmed.
const BYTES: usize = 256 << 10;

/// What is to be confirmed, and the streams in which that is said: one a session, as confirms are sealed under the session
/// whose streams they name.
#[derive(Default)]
pub(super) struct Confirming {
    senders: BTreeMap<SessionId, Sender>,
    /// The streams, with what is known to be wanted of each where nothing of it is remembered any more.
    due: BTreeMap<StreamId, u32>,
    since: Option<Instant>,
    messages: u32,
    bytes: usize,
    /// A stream ended: its sender waits for nothing else.
    urgent: bool,
    /// Streams that are written to their end, until when we wait for their senders to say that they have heard of it.
    unsettled: BTreeMap<StreamId, Instant>,
}

impl Confirming {
    /// Standard output took `bytes` bytes of a stream whose sender asks, its last ones if it `ends`.
    pub(super) fn written(&mut self, stream: StreamId, bytes: usize, ends: bool, now: Instant) {
        self.messages += 1;
        self.bytes += bytes;
        if ends {
            self.urgent = true;
            self.unsettled.retain(|_, until| *until > now);
            self.unsettled.insert(stream, now + LINGER);
        }
        self.again(stream, 0, now);
    }

    /// A message of a stream came that was too early, or came before: its sender lacks our last confirm, of `next`.
    pub(super) fn again(&mut self, stream: StreamId, next: u32, now: Instant) {
        let known = self.due.entry(stream).or_default();
        *known = next.max(*known);
        self.since.get_or_insert(now);
    }

    /// The sender of a stream has heard that all of it is written.
    pub(super) fn settled(&mut self, stream: StreamId) {
        self.unsettled.remove(&stream);
    }

    /// Until when to stay and confirm again what is written to its end; `None` where all of that is settled.
    pub(super) fn lingers(&self) -> Option<Instant> {
        self.unsettled.values().max().copied()
    }

    /// When [`Confirming::take`] has something, if nothing more happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + DELAY)
    }

    /// The streams to confirm at `now`, and whether the confirm must arrive: it is a stream's last one.
    pub(super) fn take(&mut self, all: bool, now: Instant) -> Option<(Vec<(StreamId, u32)>, bool)> {
        let enough = self.urgent || self.messages >= MESSAGES || self.bytes >= BYTES;
        if self.due.is_empty() || !(all || enough || self.deadline().is_some_and(|deadline| now >= deadline)) {
            return None;
        }
        let last = all || self.urgent;
        (self.since, self.messages, self.bytes, self.urgent) = (None, 0, 0, false);
        Some((std::mem::take(&mut self.due).into_iter().collect(), last))
    }

    /// Seals what was written of streams of one session.
    ///
    /// # Errors
    /// As [`Cache::reserve_stream`], the first time for a session; as [`Sender::confirm`].
    pub(super) fn seal(
        &mut self,
        session: &Session,
        wanted: &[(u32, u32)],
        max_message: usize,
        cache: &Cache,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Bytes>> {
        let sender = match self.senders.entry(session.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let taken = cache.reserve_confirm_stream(&session.peer, &session.id)?;
                entry.insert(Sender::new(session, taken, rng.random(), max_message)?)
            }
        };
        let mut sealed = Vec::new();
        for part in wanted.chunks(sender.max_confirmed_streams()) {
            let blocks = sender.blocks_to_reserve(part.len() * 8);
            if blocks > 0 {
                cache.reserve_blocks(&session.peer, &session.id, blocks)?;
                sender.grant(blocks);
            }
            sealed.push(sender.confirm(part, rng)?);
        }
        Ok(sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId { session: [7; 8], number: 3 };

    #[test]
    fn confirms_go_together_but_never_wait_long() {
        let now = Instant::now();
        let mut confirming = Confirming::default();
        assert_eq!(confirming.take(true, now), None);
        for _ in 1..MESSAGES {
            confirming.written(STREAM, 10, false, now);
            assert_eq!(confirming.take(false, now), None);
        }
        confirming.written(STREAM, 10, false, now);
        assert_eq!(confirming.take(false, now), Some((vec![(STREAM, 0)], false)));
        assert_eq!(confirming.deadline(), None);

        confirming.written(STREAM, BYTES, false, now);
        assert_eq!(confirming.take(false, now), Some((vec![(STREAM, 0)], false)));

        confirming.again(STREAM, 0, now);
        assert_eq!(confirming.take(false, now + DELAY / 2), None);
        assert_eq!(confirming.take(false, now + DELAY), Some((vec![(STREAM, 0)], false)));
    }

    #[test]
    fn a_stream_that_ended_is_answered_for_until_its_sender_has_heard() {
        let now = Instant::now();
        let mut confirming = Confirming::default();
        confirming.written(STREAM, 10, false, now);
        assert_eq!(confirming.lingers(), None);
        confirming.written(STREAM, 10, true, now);
        confirming.again(STREAM, 0, now + LINGER / 2);
        assert_eq!(confirming.lingers(), Some(now + LINGER), "what is played again keeps nobody");
        confirming.settled(StreamId { number: 4, ..STREAM });
        assert_eq!(confirming.lingers(), Some(now + LINGER));
        confirming.settled(STREAM);
        assert_eq!(confirming.lingers(), None);
    }

    #[test]
    fn streams_that_nobody_settles_are_forgotten() {
        let start = Instant::now();
        let mut confirming = Confirming::default();
        for second in 0..1000_u32 {
            confirming.written(
                StreamId { number: second, ..STREAM },
                0,
                true,
                start + Duration::from_secs(second.into()),
            );
        }
        assert_eq!(confirming.unsettled.len(), usize::try_from(LINGER.as_secs()).unwrap());
    }

    #[test]
    fn the_end_of_a_stream_is_confirmed_at_once() {
        let now = Instant::now();
        let mut confirming = Confirming::default();
        confirming.written(STREAM, 0, true, now);
        assert_eq!(confirming.take(false, now), Some((vec![(STREAM, 0)], true)));
    }
}
