//! How often the same news is told, and in which words: anybody on the topic can make up any number of it.

use std::hash::Hash;
use std::time::Duration;

use crate::handshake::{AuthRefusal, Claim};
use crate::identity::Fingerprint;
use crate::throttle::KeyedThrottle;
use crate::{Error, Exit};

/// How often the same news is told, and the time in which [`MAX_HINTS`] are.
const HINT_INTERVAL: Duration = Duration::from_secs(60);
/// Most news that is told in that time: strangers with many keys must fill neither memory nor a log.
const MAX_HINTS: usize = 8;

/// Decides what is told, and when again.
pub(super) fn throttle<K: Clone + Eq + Hash>() -> KeyedThrottle<K> {
    KeyedThrottle::every(HINT_INTERVAL, MAX_HINTS)
}

/// What is told; `own` is this device's key.
pub(super) fn words(hint: &Claim, own: &Fingerprint) -> Error {
    match hint {
        Claim::UnknownKey(fingerprint) => Error::new(Exit::NotTrusted, "unknown peer")
            .because(format!("a device with the key {fingerprint} wants to pair (unverified)"))
            .hint(
                "if it is yours, run sts-pair --code on both devices; or compare that with what sts-pair --key prints there, and pipe its key line here into: sts-pair --trust NAME",
            ),
        Claim::Refused(AuthRefusal::UnknownKey) => Error::new(Exit::NotTrusted, "refused (unverified)")
            .because("the other device does not know this device's key")
            .hint(format!(
                "it is {own}: run sts-pair --code on both devices; or pipe what sts-pair --key prints here into, on the other device: sts-pair --trust NAME"
            )),
        Claim::Refused(AuthRefusal::WrongCode | AuthRefusal::CodeErased) => {
            Error::new(Exit::NotTrusted, "refused (unverified)")
                .because("the other device speaks of a code, and this one was given none")
        }
        Claim::Refused(AuthRefusal::Other(number)) => Error::new(Exit::Protocol, "refused (unverified)")
            .because(format!("the other device gives reason {number}, which this version does not know")),
        Claim::PeerHasCode => Error::new(Exit::NotTrusted, "the other device enrols by code (unverified)")
            .because("this one was given none")
            .hint("run sts-pair --code here, too"),
        Claim::PeerHasNoCode => Error::new(Exit::NotTrusted, "the other device pairs without a code (unverified)")
            .because("this one waits for a code")
            .hint("run sts-pair --code there, too"),
        Claim::OtherMaster => Error::new(Exit::Config, "another master is on this link (unverified)")
            .because("it sends the request that this device sends too")
            .hint("set sts_mode to slave on one of the two devices"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn strangers_with_many_keys_are_told_of_a_few_times_a_minute() {
        let start = Instant::now();
        let mut hints = throttle();
        let mut told = 0;
        for i in 0..6000_u32 {
            let hint = Claim::UnknownKey(Fingerprint::of(&(i % 600).to_be_bytes()));
            told += usize::from(hints.is_due(&hint, start + Duration::from_millis(u64::from(i) * 20)));
        }
        assert_eq!(told, 2 * MAX_HINTS, "in two minutes");
        assert!(hints.is_due(&Claim::OtherMaster, start + Duration::from_secs(180)));
        assert!(!hints.is_due(&Claim::OtherMaster, start + Duration::from_secs(239)));
        assert!(hints.is_due(&Claim::OtherMaster, start + Duration::from_secs(240)));
    }
}
