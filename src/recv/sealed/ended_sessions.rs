//! Sessions that their peer ended with a KILL, until their last streams have come and their keys are deleted.

use std::time::{Duration, Instant};

use super::chains::Chains;
use super::reports::Reports;
use super::sessions::UsableSessions;
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::mqtt::Receipt;
use crate::session::SessionId;

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

/// The sessions whose end was received, and whose keys are still here.
#[derive(Default)]
pub(super) struct EndedSessions(Vec<EndedSession>);

impl EndedSessions {
    /// A KILL came.
    pub(super) fn push(&mut self, peer: Digest, session: SessionId, next_stream: u32, receipt: Receipt, now: Instant) {
        self.0.push(EndedSession { peer, session, next_stream, receipt, until: now + LATE_STREAM_TIMEOUT });
    }

    /// The KILL of a session came again: the broker keeps one of them until the keys are deleted. Returns the receipt of the
    /// other.
    pub(super) fn repeat(&mut self, session: SessionId, receipt: Receipt) -> Receipt {
        match self.0.iter_mut().find(|ended| ended.session == session) {
            Some(ended) => std::mem::replace(&mut ended.receipt, receipt),
            None => receipt,
        }
    }

    /// The sessions of which the time for the last streams has passed.
    pub(super) fn late(&self, sessions: &UsableSessions, now: Instant) -> Vec<SessionId> {
        let late = self.0.iter().filter(|ended| now >= ended.until);
        late.flat_map(|ended| sessions.receiver.ended_by(ended.session)).copied().collect()
    }

    /// When the time of each session passes.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.0.iter().map(|ended| ended.until)
    }

    /// Deletes the sessions of which all streams are complete, or the time for that has passed, and no line `is_held` back;
    /// returns what acknowledges their KILLs.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::delete`].
    pub(super) fn delete(
        &mut self,
        sessions: &mut UsableSessions,
        chains: &mut Chains,
        reports: &mut Reports<'_>,
        is_held: &dyn Fn(SessionId) -> bool,
        now: Instant,
    ) -> Result<Vec<Receipt>> {
        let mut waiting = Vec::new();
        let mut receipts = Vec::new();
        for ended in std::mem::take(&mut self.0) {
            let ids = sessions.receiver.ended_by(ended.session).to_vec();
            let end = |id: &SessionId| (*id == ended.session).then_some(ended.next_stream);
            let incomplete: Vec<(u32, u32)> = ids
                .iter()
                .flat_map(|id| sessions.receiver.outstanding(*id, end(id)).iter().collect::<Vec<_>>())
                .collect();
            // A message that is held was not accepted, so that the receiver does not know its stream.
            let is_complete = incomplete.is_empty() && !ids.iter().any(|id| chains.involves(*id));
            if (!is_complete && now < ended.until) || ids.iter().any(|id| is_held(*id)) {
                waiting.push(ended);
                continue;
            }
            let name = sessions.peer_name(&ended.peer);
            if incomplete.is_empty() {
                reports.sessions_ended(&name);
            } else {
                reports.sessions_ended_early(&name, &incomplete);
            }
            sessions.link.cache().delete(&ended.peer, &ids)?;
            receipts.push(ended.receipt);
            for id in &ids {
                sessions.receiver.remove(*id);
                chains.forget_session(*id);
            }
        }
        self.0 = waiting;
        Ok(receipts)
    }
}
