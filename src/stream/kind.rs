//! The kinds of sealed messages: each is spelled out here once (`sts-protocol(7)`, "Kinds").
//!
//! A plaintext is `kind 1 | what the kind carries | padding`:
//!
//! | kind | carries |
//! |---|---|
//! | 1 data | bytes |
//! | 2 end | the last bytes, or none |
//! | 3 continued | session id 8, stream 4: where the sender continues |
//! | 4 confirm | any number of (stream 4, next seq 4), of the session that it is sealed under |
//! | 5 kill | the sender's next stream number, 4 |
//! | 6 settled | nothing: after the end of a stream, its sender has heard that all of it is written |
//! | 7 continues | session id 8, stream 4, seq 4: the stream that this one continues, and the seq after its last |
//!
//! Above the low nibble, 0x40 asks for confirms and 0x80 says that padding follows: a byte 0x80, then zeros to the end
//! (ISO/IEC 9797-1, method 2). This version never pads; it accepts padding, so that an option for it needs no new version
//! of the protocol at the other end.
//!
//! # How to add a kind
//!
//! 1. Here: a variant with its number, its place in [`Kind::ALL`], and its answer in each predicate.
//! 2. In `content.rs`: a variant of `Content` with what it carries, encoded and parsed.
//! 3. In `sender.rs`: a method that seals one.
//! 4. What sts-recv and sts-send do with it: no `match` on `Content` has a `_` arm, so the compiler lists the places.
//! 5. The table of kinds in `sts-protocol(7)`, which `tests/manual.rs` compares with [`Kind::ALL`], and an example in
//!    `every_kind_crosses`.
//!
//! An older receiver reports a kind that it does not know as a gap: one that must not be is sent only to a peer that is
//! known to understand it.

use crate::message::FrameType;

/// What a sealed message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes to write.
    Data = 1,
    /// The last bytes to write, or none.
    End = 2,
    /// The sender continues in another stream.
    Continued = 3,
    /// How far streams of the other direction were written.
    Confirm = 4,
    /// The peer ends the session and every older one.
    Kill = 5,
    /// The sender has heard that its stream is confirmed to the end.
    Settled = 6,
    /// This stream continues another one.
    Continues = 7,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 7] =
        [Self::Data, Self::End, Self::Continued, Self::Confirm, Self::Kill, Self::Settled, Self::Continues];

    /// The kind of this number on the wire, 4 bits.
    #[must_use]
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The number on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        // The discriminants are the numbers.
        self as u8
    }

    /// The name in `sts-protocol(7)`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::End => "end",
            Self::Continued => "continued",
            Self::Confirm => "confirm",
            Self::Kill => "kill",
            Self::Settled => "settled",
            Self::Continues => "continues",
        }
    }

    /// Whether it carries bytes of the user's, which go to standard output.
    #[must_use]
    pub(crate) fn carries_data(self) -> bool {
        match self {
            Self::Data | Self::End => true,
            Self::Continued | Self::Confirm | Self::Kill | Self::Settled | Self::Continues => false,
        }
    }

    /// Whether it is the last message in the sequence of its stream.
    #[must_use]
    pub(crate) fn closes_stream(self) -> bool {
        match self {
            Self::End | Self::Continued | Self::Kill => true,
            Self::Data | Self::Confirm | Self::Settled | Self::Continues => false,
        }
    }

    /// Whether it may only be the first message of its stream.
    #[must_use]
    pub(crate) fn begins_stream(self) -> bool {
        match self {
            Self::Continues => true,
            Self::Data | Self::End | Self::Continued | Self::Confirm | Self::Kill | Self::Settled => false,
        }
    }

    /// Whether it belongs to a stream of confirms; every other kind belongs to a stream of data.
    #[must_use]
    pub(crate) fn is_of_confirms(self) -> bool {
        match self {
            Self::Confirm => true,
            Self::Data | Self::End | Self::Continued | Self::Kill | Self::Settled | Self::Continues => false,
        }
    }

    /// Whether it is part of the sender's input, or says how the streams of the input follow each other; otherwise it is
    /// between the two tools only.
    #[must_use]
    pub(crate) fn is_input(self) -> bool {
        match self {
            Self::Data | Self::End | Self::Continued | Self::Continues => true,
            Self::Confirm | Self::Kill | Self::Settled => false,
        }
    }

    /// Whether it counts in its stream's sequence, so that it is missed where it is lost; otherwise it comes after the
    /// message that closed the stream, and changes nothing that is stored.
    #[must_use]
    pub(crate) fn is_in_sequence(self) -> bool {
        match self {
            Self::Settled => false,
            Self::Data | Self::End | Self::Continued | Self::Confirm | Self::Kill | Self::Continues => true,
        }
    }

    /// Whether it ends the session that it is sealed under; such kinds travel in KILL and nowhere else.
    #[must_use]
    pub(crate) fn ends_session(self) -> bool {
        match self {
            Self::Kill => true,
            Self::Data | Self::End | Self::Continued | Self::Confirm | Self::Settled | Self::Continues => false,
        }
    }

    /// The type of the frame that it travels in.
    pub(crate) fn frame_type(self) -> FrameType {
        if self.ends_session() { FrameType::Kill } else { FrameType::Enc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert!((8..=u8::MAX).chain([0]).all(|code| Kind::from_code(code).is_none()));
    }
}
