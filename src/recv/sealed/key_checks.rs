//! Sessions of which an earlier run may have left keys that it was to delete: of peers that send nothing now, too.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use crate::cache::{ListedSession, PeerKey, ReceiveState, peer_key};

/// How many peers are checked at once, and how often: each takes some 20 µs, in which no message is received.
const MAX_CHECKED: usize = 1000;
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The peers whose sessions are still to be checked.
#[derive(Debug)]
pub(super) struct KeyChecks {
    waiting: VecDeque<PeerKey>,
    due: Option<Instant>,
}

impl KeyChecks {
    /// All peers under whose sessions something was received.
    pub(super) fn of(sessions: &[ListedSession], received: &ReceiveState) -> Self {
        let used = sessions.iter().filter(|listed| received.session(listed.id).is_some());
        let peers: BTreeSet<_> = used.map(|listed| peer_key(&listed.peer)).collect();
        Self { waiting: peers.into_iter().collect(), due: None }
    }

    /// The next ones, if it is time.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PeerKey> {
        if self.due.is_some_and(|due| now < due) {
            return Vec::new();
        }
        let taken = self.waiting.drain(..self.waiting.len().min(MAX_CHECKED)).collect();
        self.due = Some(now + CHECK_INTERVAL);
        taken
    }

    /// When [`KeyChecks::take_due`] has something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.filter(|_| !self.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Standing;

    #[test]
    fn all_that_were_used_are_checked_some_at_a_time() {
        let count = 2 * MAX_CHECKED + 1;
        let listed = |number: usize| {
            let mut peer = [0; 32];
            peer[..8].copy_from_slice(&number.to_be_bytes());
            ListedSession { id: number.to_be_bytes(), peer, standing: Standing::Current, received: true }
        };
        let sessions: Vec<_> = (0..count + 5).map(listed).collect();
        let received = ReceiveState::of_sessions(sessions[5..].iter().map(|listed| listed.id));
        let mut checks = KeyChecks::of(&sessions, &received);
        let start = Instant::now();
        let mut lens = Vec::new();
        for second in 0..4 {
            let now = start + CHECK_INTERVAL * second;
            lens.push(checks.take_due(now).len());
            assert!(checks.take_due(now).is_empty());
        }
        assert_eq!(lens, [MAX_CHECKED, MAX_CHECKED, 1, 0]);
        assert_eq!(checks.deadline(), None);
    }
}
