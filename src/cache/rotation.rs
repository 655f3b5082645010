//! Whose session it is now: how sessions with one peer take each other's place (`sts-protocol(7)`, "Sessions").

use crate::session::{Session, Standing};

/// A session goes when so many newer ones exist.
pub const MAX_NEWER: usize = 16;
/// A session goes so many seconds after it was retired: 7 days.
pub const MAX_RETIRED: u64 = 7 * 24 * 3600;
/// A retired session stays so many seconds at least, although all its known streams ended: a process that took a number
/// under it may not have sent anything yet.
pub const MIN_RETIRED: u64 = 3600;
/// A session as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The session.
    pub session: Session,
    /// What it may be used for.
    pub standing: Standing,
    /// When it was retired, in seconds since 1970; 0 where it was not.
    pub retired: u64,
    /// How many stream numbers were taken: the next one.
    pub streams: u64,
    /// How many blocks were reserved for sealing.
    pub blocks: u64,
    /// Something was received under it, so there must be receive state.
    pub received: bool,
}

impl Stored {
    pub(super) fn new(session: &Session, standing: Standing) -> Self {
        Self { session: session.clone(), standing, retired: 0, streams: 0, blocks: 0, received: false }
    }

    fn retire(&mut self, now: u64) {
        self.standing = Standing::Retired;
        self.retired = now;
    }
}

/// The current session retires.
pub(super) fn retire_current(sessions: &mut [Stored], now: u64) {
    for stored in sessions.iter_mut().filter(|stored| stored.standing == Standing::Current) {
        stored.retire(now);
    }
}

/// Deletes retired sessions that are too old or too many; a pending one may yet be replaced and does not count.
pub(super) fn limit(sessions: &mut Vec<Stored>, now: u64) {
    let mut newer = 0;
    sessions.retain_mut(|stored| {
        if stored.standing == Standing::Pending {
            return true;
        }
        // A clock that was set back must neither delete what has just retired nor keep it for ever.
        stored.retired = stored.retired.min(now);
        let keep = stored.standing == Standing::Current || (newer < MAX_NEWER && now - stored.retired < MAX_RETIRED);
        newer += 1;
        keep
    });
}
