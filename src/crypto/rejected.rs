//! Why one message from the network is dropped.

use std::fmt;

/// Why one message from the network was dropped (`sts-protocol(7)`, "Sealed messages").
///
/// Deliberately coarse: the sender learns nothing from it, and every cryptographic failure is the same
/// [`Rejected::NotAuthentic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rejected {
    /// Not an STS/2 message: empty, or a first byte of no known type.
    Foreign,
    /// Of a known type, but of a length that type cannot have.
    Length,
    /// Its session tag belongs to no session of this link.
    UnknownSession,
    /// It did not open: altered, forged, reflected, or sealed under a key that was deleted.
    NotAuthentic,
    /// It opened, but its number was received before.
    Duplicate,
    /// It opened, but its stream number was used before with another salt.
    StreamReused,
    /// It opened, but its stream was closed before its end to make room for others.
    StreamClosed,
    /// A handshake message that nothing here waits for.
    Unexpected,
}

impl Rejected {
    /// All reasons.
    pub const ALL: [Self; 8] = [
        Self::Foreign,
        Self::Length,
        Self::UnknownSession,
        Self::NotAuthentic,
        Self::Duplicate,
        Self::StreamReused,
        Self::StreamClosed,
        Self::Unexpected,
    ];

    /// One short phrase for a report and for `sts-pair --status`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Foreign => "not an STS/2 message",
            Self::Length => "wrong length",
            Self::UnknownSession => "unknown session",
            Self::NotAuthentic => "not authentic",
            Self::Duplicate => "received before",
            Self::StreamReused => "stream number used twice",
            Self::StreamClosed => "stream closed before its end",
            Self::Unexpected => "not expected now",
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_told_from_the_others() {
        let mut reasons = Rejected::ALL.map(|rejected| rejected.to_string()).to_vec();
        assert_eq!(reasons[0], "not an STS/2 message");
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), Rejected::ALL.len());
    }
}
