//! The types of frames: the numbers of the protocol.

use crate::Rejected;

/// The protocol version: the high nibble of every frame's first byte.
const VERSION: u8 = 2;

/// The type of a frame: the low nibble of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameType {
    /// Step 1, master to slave: initialization request.
    InitReq = 1,
    /// Step 2, slave to master: initialization acknowledgement.
    InitAck = 2,
    /// Step 3, master to slave: authentication request.
    AuthReq = 3,
    /// Step 4, slave to master: authentication acknowledgement.
    AuthAck = 4,
    /// Step 5, master to slave: is the peer ready for encrypted communication?
    RdyReq = 5,
    /// Steps 6 to 8, both ways: ready.
    RdyAck = 6,
    /// Encrypted message.
    Enc = 7,
    /// Ends the session.
    Kill = 8,
    /// Encrypted message that the broker publishes for its sender.
    Will = 9,
}

impl FrameType {
    /// All types, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::InitReq,
        Self::InitAck,
        Self::AuthReq,
        Self::AuthAck,
        Self::RdyReq,
        Self::RdyAck,
        Self::Enc,
        Self::Kill,
        Self::Will,
    ];

    /// The type of a payload, by its first byte.
    ///
    /// # Errors
    /// [`Rejected::Foreign`] if it is empty, or begins with no known type of this version.
    pub(crate) fn of(payload: &[u8]) -> Result<Self, Rejected> {
        let first = *payload.first().ok_or(Rejected::Foreign)?;
        Self::ALL.into_iter().find(|frame_type| frame_type.byte() == first).ok_or(Rejected::Foreign)
    }

    /// Whether a payload looks like a frame of a later version of this protocol. Text never does: its letters and digits are
    /// such first bytes, too.
    pub(crate) fn is_of_later_version(payload: &[u8]) -> bool {
        let Some(first) = payload.first() else { return false };
        let (version, number) = (first >> 4, first & 0x0f);
        let is_known = Self::ALL.into_iter().any(|frame_type| frame_type as u8 == number);
        version > VERSION && is_known && !payload.is_ascii()
    }

    /// Whether it is a message of a stream, sealed under a session.
    #[must_use]
    pub(crate) fn is_sealed(self) -> bool {
        match self {
            Self::Enc | Self::Kill | Self::Will => true,
            Self::InitReq | Self::InitAck | Self::AuthReq | Self::AuthAck | Self::RdyReq | Self::RdyAck => false,
        }
    }

    /// The first byte of a frame of this type.
    #[must_use]
    pub fn byte(self) -> u8 {
        // The discriminants are the numbers; the version sits above them.
        VERSION << 4 | self as u8
    }

    /// The name in `sts-protocol(7)`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InitReq => "INITREQ",
            Self::InitAck => "INITACK",
            Self::AuthReq => "AUTHREQ",
            Self::AuthAck => "AUTHACK",
            Self::RdyReq => "RDYREQ",
            Self::RdyAck => "RDYACK",
            Self::Enc => "ENC",
            Self::Kill => "KILL",
            Self::Will => "WILL",
        }
    }
}
