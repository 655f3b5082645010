//! What the user is told of claims that nothing proves, each with a hint for the case that it is true.

use std::hash::Hash;
use std::time::Duration;

use crate::handshake::{AuthRefusal, Claim};
use crate::identity::Fingerprint;
use crate::report_throttle::KeyedReportThrottle;
use crate::{Error, Exit};

/// Time between two reports of the same thing, and the time in which [`MAX_REPORTS`] are made.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Reports in that time at most: strangers with many keys must fill neither memory nor a log.
const MAX_REPORTS: usize = 8;

/// What a run of sts-pair reports while it goes on, each once a minute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PairNotice {
    Claim(Claim),
    /// The broker splits levels at dots.
    DotsAreLevels,
}

/// A message came on what the broker made of one of the link's topics.
pub(super) fn dots_are_levels(topic: &str) -> Error {
    Error::new(Exit::Config, "this broker changes topics")
        .because(format!("it takes a dot for the end of a level, as RabbitMQ does: a message came on {topic:?}"))
        .hint("use topics without dots in `subtop` and `pubtop`, on all devices of the link")
}

/// Decides what is reported, and when again.
pub(super) fn throttle<K: Clone + Eq + Hash>() -> KeyedReportThrottle<K> {
    KeyedReportThrottle::every(REPORT_INTERVAL, MAX_REPORTS)
}

/// The report of a claim; `own` is this device's key.
pub(super) fn report(claim: &Claim, own: &Fingerprint) -> Error {
    let refused = |exit: Exit| Error::new(exit, "refused (unverified)");
    match claim {
        Claim::UnknownKey(fingerprint) => Error::new(Exit::NotTrusted, "unknown peer")
            .because(format!("a device with the key {fingerprint} wants to pair (unverified)"))
            .hint(
                "if it is yours, run sts-pair --code on both devices; or compare this key with what sts-pair --key prints there, and pipe its key line, on this device, into: sts-pair --trust NAME",
            ),
        Claim::Refused(AuthRefusal::UnknownKey) => refused(Exit::NotTrusted)
            .because("the other device does not know this device's key")
            .hint(format!(
                "the key is {own}: run sts-pair --code on both devices; or pipe the line that sts-pair --key prints here, on the other device, into: sts-pair --trust NAME"
            )),
        Claim::Refused(AuthRefusal::WrongCode | AuthRefusal::CodeErased) => refused(Exit::NotTrusted)
            .because("the other device expects a code, and this one was not given any"),
        Claim::Refused(AuthRefusal::Other(number)) => refused(Exit::Protocol)
            .because(format!("the other device gives reason {number}, which this version does not know")),
        Claim::PeerHasCode => Error::new(Exit::NotTrusted, "the other device enrols by code (unverified)")
            .because("this device was not given a code")
            .hint("run sts-pair --code here, too"),
        Claim::PeerHasNoCode => Error::new(Exit::NotTrusted, "the other device pairs without a code (unverified)")
            .because("this device expects a code")
            .hint("run sts-pair --code there, too"),
        Claim::LaterVersion => {
            Error::new(Exit::Protocol, "the other device speaks a later version of the protocol (unverified)")
                .because("it sends messages that only a newer sts-pair understands")
                .hint("install the same version of sts on both devices")
        }
        Claim::OtherMaster => Error::new(Exit::Config, "another master is on this link (unverified)")
            .because("it sends pairing requests, as this device does")
            .hint("set sts_mode to slave on one of the two devices"),
        Claim::OtherSlave => Error::new(Exit::Config, "another device answers on this link (unverified)")
            .because("a device that is pairing got two answers")
            .hint("if two gateways have this configuration, run sts-pair and sts-recv on only one of them"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn strangers_with_many_keys_are_told_of_a_few_times_a_minute() {
        let start = Instant::now();
        let mut claims = throttle();
        let mut told = 0;
        for i in 0..6000_u32 {
            let claim = Claim::UnknownKey(Fingerprint::of(&(i % 600).to_be_bytes()));
            told += usize::from(claims.is_due(&claim, start + Duration::from_millis(u64::from(i) * 20)));
        }
        assert_eq!(told, 2 * MAX_REPORTS, "in two minutes");
        assert!(claims.is_due(&Claim::OtherMaster, start + Duration::from_secs(180)));
        assert!(!claims.is_due(&Claim::OtherMaster, start + Duration::from_secs(239)));
        assert!(claims.is_due(&Claim::OtherMaster, start + Duration::from_secs(240)));
    }
}
