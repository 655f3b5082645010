//! `--if-older AGE`: how old a session may be, and whether the one that is there will do.

use std::fmt;
use std::str::FromStr;

use crate::cache::{Cache, PeerSessions, ReceiveState, StoredSession};
use crate::crypto::schedule::Digest;
use crate::peers::LinkPeers;
use crate::session::{Session, SessionId, Standing};
use crate::{Error, Exit, Result};

/// The units of an age, largest first, with their seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// How old a session may be before a new one is wanted: a number and its unit, as in `24h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(u64);

impl Age {
    /// The age in seconds, at least 1.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0
    }

    /// Whether a session is so young that it stays if the peer still has it. One that is stamped in the future is old.
    #[must_use]
    pub fn keeps(self, session: &Session, now: u64) -> bool {
        session.age(now).is_some_and(|age| age < self.0)
    }

    /// Whether a session will do where nobody is there to agree a new one: until it is twice as old, later runs try again.
    #[must_use]
    pub fn tolerates(self, session: &Session, now: u64) -> bool {
        session.age(now).is_some_and(|age| age < self.0.saturating_mul(2))
    }
}

/// A text that is no age; displays the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAge;

impl fmt::Display for BadAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an age is a number above 0 and its unit, `s`, `m`, `h` or `d`: 90s, 30m, 24h, 7d")
    }
}

impl std::error::Error for BadAge {}

impl FromStr for Age {
    type Err = BadAge;

    fn from_str(text: &str) -> std::result::Result<Self, BadAge> {
        let (number, unit) =
            UNITS.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, seconds))).ok_or(BadAge)?;
        let digits = number.bytes().all(|digit| digit.is_ascii_digit());
        let seconds = number.parse::<u64>().ok().filter(|_| digits).and_then(|number| number.checked_mul(*unit));
        seconds.filter(|seconds| *seconds > 0).map(Self).ok_or(BadAge)
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) =
            UNITS.iter().find(|(_, seconds)| self.0.is_multiple_of(*seconds)).expect("1 divides any number");
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

/// The sessions with the one peer that `--if-older` is about.
#[derive(Default)]
pub(super) struct Sessions {
    /// The current one, if it may be used.
    pub(super) current: Option<Session>,
    pub(super) others: Vec<Session>,
    /// Those that were deleted.
    pub(super) past: Vec<SessionId>,
}

/// Finds these sessions.
///
/// # Errors
/// [`Exit::Usage`] on a link with several peers; [`Exit::NotTrusted`] as in [`Cache::load_peer`]. What cannot be read is no
/// session: a pairing replaces it.
pub(super) fn sessions(ends: &LinkPeers, cache: &Cache) -> Result<Sessions> {
    let peers = ends.accepted()?;
    let [peer] = &peers[..] else {
        let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        return Err(Error::new(Exit::Usage, "--if-older")
            .because(format!("this link has several peers: {}", names.join(", ")))
            .hint("run it on the other devices, each of which has one"));
    };
    let peer: Digest = *peer.key.fingerprint().as_bytes();
    let PeerSessions { sessions, past } = readable(cache.load_peer(&peer))?.unwrap_or_default();
    let received = readable(ReceiveState::read(cache))?.flatten().unwrap_or_default();
    // As sts-recv sees it: what was received under a session must be known, or it could be played again.
    let usable = |stored: &&StoredSession| {
        let whole = !stored.received || received.session(&stored.session.id).is_some();
        whole && ends.peer_of(&stored.session, &peers).is_some()
    };
    let (current, others): (Vec<_>, Vec<_>) =
        sessions.iter().filter(usable).partition(|stored| stored.standing == Standing::Current);
    let others = others.into_iter().map(|stored| stored.session.clone()).collect();
    Ok(Sessions { current: current.first().map(|stored| stored.session.clone()), others, past })
}

fn readable<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error) if error.exit() != Exit::Failed => Err(error),
        outcome => Ok(outcome.ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::pair;
    use crate::suite::Suite;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for (text, seconds) in
            [("90s", 90), ("1s", 1), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("007d", 604_800)]
        {
            let age: Age = text.parse().unwrap();
            assert_eq!(age.seconds(), seconds);
            assert_eq!(age.to_string().parse(), Ok(age));
        }
        assert_eq!(Age(90).to_string(), "90s");
        assert_eq!(Age(86_400).to_string(), "1d");
        let large = format!("{}d", u64::MAX / 86_400 + 1);
        for bad in ["", "24", "h", "0h", "-1h", "+1h", "1.5h", "1 h", "1h30m", "24H", "1w", "٣h", "1é", &large] {
            assert_eq!(bad.parse::<Age>(), Err(BadAge), "{bad}");
        }
    }

    #[test]
    fn a_session_is_young_then_old_then_too_old() {
        // Agreed at 1,000 s.
        let session = pair(1, Suite::Gcm).0;
        let age = Age(100);
        for (now, keeps, tolerates) in
            [(999, false, false), (1_000, true, true), (1_099, true, true), (1_100, false, true), (1_200, false, false)]
        {
            assert_eq!((age.keeps(&session, now), age.tolerates(&session, now)), (keeps, tolerates), "{now}");
        }
        assert!(Age(u64::MAX).tolerates(&session, 5_000));
    }
}
