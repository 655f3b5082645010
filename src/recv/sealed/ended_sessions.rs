//! Sessions that their peer ended with a KILL, until their last streams have come and their keys are deleted.

use std::time::{Duration, Instant};

use super::admissions::Admissions;
use super::reports::Reports;
use super::sessions::UsableSessions;
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::mqtt::Receipt;
use crate::session::SessionId;
use crate::space_wait::SpaceWait;
use crate::stream::{Ranges, Receiver};

/// How long after a KILL the streams before it may still arrive.
const LATE_STREAM_TIMEOUT: Duration = Duration::from_secs(60);

/// A session that its peer ended, with all older ones.
struct EndedSession {
    peer: Digest,
    session: SessionId,
    /// The first stream number that the peer did not use.
    next_stream: u32,
    /// Acknowledges the KILL, once the keys are deleted.
    receipt: Receipt,
    until: Instant,
}

impl EndedSession {
    /// The streams of a session that ends that are not complete.
    fn outstanding(&self, id: SessionId, receiver: &Receiver) -> Ranges {
        receiver.outstanding(id, (id == self.session).then_some(self.next_stream))
    }
}

/// The sessions whose end was received, and whose keys are still here; one KILL per peer. Of one that cannot be
/// executed for a while, a peer may send many, and the broker sends nothing more with many of them unacknowledged.
#[derive(Default)]
pub(super) struct EndedSessions {
    waiting: Vec<EndedSession>,
    /// Deleting them waits for space on the disk: what was deleted is remembered there.
    space: SpaceWait,
}

impl EndedSessions {
    /// A KILL came. Returns the receipt of the one that is not needed any more, as the other says all that it said: the
    /// one of an older session, or the older one of the same session.
    pub(super) fn push(
        &mut self,
        peer: Digest,
        session: SessionId,
        next_stream: u32,
        receipt: Receipt,
        receiver: &Receiver,
        now: Instant,
    ) -> Option<Receipt> {
        let mut ended = EndedSession { peer, session, next_stream, receipt, until: now + LATE_STREAM_TIMEOUT };
        let Some(known) = self.waiting.iter_mut().find(|known| known.peer == peer) else {
            self.waiting.push(ended);
            return None;
        };
        if known.session == session {
            ended.next_stream = next_stream.max(known.next_stream);
            ended.until = known.until;
        } else if receiver.ended_by(known.session).contains(&session) {
            return Some(ended.receipt);
        }
        Some(std::mem::replace(known, ended).receipt)
    }

    /// The KILL of a session came again: the broker keeps one of them until the keys are deleted. Returns the receipt
    /// of the other.
    pub(super) fn repeat(&mut self, session: SessionId, receipt: Receipt) -> Receipt {
        match self.waiting.iter_mut().find(|ended| ended.session == session) {
            Some(ended) => std::mem::replace(&mut ended.receipt, receipt),
            None => receipt,
        }
    }

    /// The sessions of which the time for the last streams has passed.
    pub(super) fn late(&self, sessions: &UsableSessions, now: Instant) -> Vec<SessionId> {
        let late = self.waiting.iter().filter(|ended| now >= ended.until);
        late.flat_map(|ended| sessions.receiver.ended_by(ended.session)).copied().collect()
    }

    /// Whether the end of a session waits.
    pub(super) fn involves(&self, session: SessionId) -> bool {
        self.waiting.iter().any(|ended| ended.session == session)
    }

    /// Whether no KILL waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the time of each session passes, and when to try again while the disk is full.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.waiting.iter().map(|ended| ended.until).chain(self.space.retry_at())
    }

    /// Deletes the sessions of which all streams are complete, or the time for that has passed, and no line `is_held`
    /// back; returns what acknowledges their KILLs. While the disk is full, they wait.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::delete`].
    pub(super) fn delete(
        &mut self,
        sessions: &mut UsableSessions,
        admissions: &mut Admissions,
        reports: &mut Reports<'_>,
        is_held: &dyn Fn(SessionId) -> bool,
        now: Instant,
    ) -> Result<Vec<Receipt>> {
        if !self.space.may_write(now) {
            return Ok(Vec::new());
        }
        let (mut waiting, mut receipts) = (Vec::new(), Vec::new());
        let mut all = std::mem::take(&mut self.waiting).into_iter();
        for ended in all.by_ref() {
            let ids = sessions.receiver.ended_by(ended.session).to_vec();
            // A message that is held was not accepted, so that the receiver does not know its stream.
            let is_complete = |id| ended.outstanding(id, &sessions.receiver).is_empty() && !admissions.involves(id);
            if (now < ended.until && !ids.iter().all(|id| is_complete(*id))) || ids.iter().any(|id| is_held(*id)) {
                waiting.push(ended);
                continue;
            }
            let incomplete: Vec<_> =
                ids.iter().flat_map(|id| ended.outstanding(*id, &sessions.receiver).into_vec()).collect();
            let deleted = sessions.link.cache().delete(&ended.peer, &ids);
            if self.space.unless_full(deleted, now)?.is_none() {
                waiting.push(ended);
                break;
            }
            let name = sessions.loaded_peer_name(&ended.peer);
            if incomplete.is_empty() {
                reports.sessions_ended(&name);
            } else {
                reports.sessions_ended_early(&name, &incomplete);
            }
            receipts.push(ended.receipt);
            for id in &ids {
                sessions.receiver.remove(*id);
                admissions.forget_session(*id);
            }
        }
        reports.wait_for_space("the end of a session", &self.space);
        waiting.extend(all);
        self.waiting = waiting;
        Ok(receipts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Standing, pair};
    use crate::suite::Suite;

    #[test]
    fn of_each_peer_one_kill_stays_unacknowledged() {
        let now = Instant::now();
        let mut receiver = Receiver::new();
        let [old, new] = [1, 2].map(|seed| pair(seed, Suite::Gcm).1);
        let mut other = pair(3, Suite::Gcm).1;
        other.peer = [7; 32];
        for session in [&old, &new, &other] {
            receiver.add(session.clone(), Standing::Current);
        }
        let mut ended = EndedSessions::default();
        let mut push = |session: &crate::session::Session, next_stream, now| {
            let receipt = Receipt::none();
            let spare = ended.push(session.peer, session.id, next_stream, receipt, &receiver, now).is_some();
            let kept =
                ended.waiting.iter().map(|ended| (ended.session, ended.next_stream, ended.until)).collect::<Vec<_>>();
            (spare, kept)
        };
        let until = now + LATE_STREAM_TIMEOUT;
        assert_eq!(push(&old, 5, now), (false, vec![(old.id, 5, until)]));
        let later = now + LATE_STREAM_TIMEOUT / 2;
        assert_eq!(push(&old, 4, later), (true, vec![(old.id, 5, until)]), "what is repeated gains no time");
        assert_eq!(push(&new, 1, later), (true, vec![(new.id, 1, later + LATE_STREAM_TIMEOUT)]));
        assert_eq!(push(&old, 9, later), (true, vec![(new.id, 1, later + LATE_STREAM_TIMEOUT)]));
        assert!(!push(&other, 1, now).0, "another peer has its own");
        assert_eq!(ended.waiting.len(), 2);
    }
}
