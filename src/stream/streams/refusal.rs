//! Why a message is not accepted, if it is authentic, and what one is that no key opens.

use crate::Rejected;
use crate::crypto::key_tree::Salt;

/// Why an authentic message is not written; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stream used twice must be reported, a duplicate may have to be confirmed"]
pub(crate) enum AcceptError {
    /// It was received before; what its stream wants next.
    Duplicate {
        /// The seq to confirm, if its sender wants confirms.
        next: u32,
    },
    /// Its stream has no gaps, and something before it has not come yet.
    Ahead {
        /// The seq to confirm.
        next: u32,
    },
    /// This version does not understand it, and it is not a gap: its stream has none, or loses nothing.
    Unreadable,
    /// It does not count in its stream, but says that its sender has heard the last confirm.
    Settled,
    /// Its stream number was used before with another salt: a copied or restored runtime directory.
    StreamReused,
    /// Another message was received with its number in its stream: two copies of one process send.
    SealedTwice,
    /// Its stream was closed before its end, to make room.
    Closed,
    /// Its session was removed after the message was opened.
    Gone,
}

impl AcceptError {
    /// What to count it as.
    #[must_use]
    pub(crate) fn rejected(self) -> Rejected {
        match self {
            Self::Duplicate { .. } => Rejected::Duplicate,
            Self::Ahead { .. } | Self::Unreadable | Self::Settled => Rejected::Unexpected,
            Self::StreamReused | Self::SealedTwice => Rejected::StreamReused,
            Self::Closed => Rejected::StreamClosed,
            Self::Gone => Rejected::UnknownSession,
        }
    }

    /// The seq to confirm to a sender that wants confirms.
    #[must_use]
    pub(crate) fn confirm(self) -> Option<u32> {
        match self {
            Self::Duplicate { next } | Self::Ahead { next } => Some(next),
            Self::Unreadable | Self::Settled | Self::StreamReused | Self::SealedTwice | Self::Closed | Self::Gone => {
                None
            }
        }
    }
}

/// What a message says it is that no key opens, by its clear header: nothing of it is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderClaim {
    /// Of a stream that has another salt: its number may have been taken twice.
    Copied,
    /// Of a stream that ended, whose keys are gone.
    Ended {
        /// Its salt and the seq to confirm, if the sender of the stream wanted that.
        confirm: Option<(Salt, u32)>,
    },
    /// The first message of a number that was over so long ago that nothing else is known of it: a repeated one, or one
    /// of another stream, which took the number again.
    EndedBefore,
    /// The word after the end of a stream that ended, or a will of a stream that is over.
    Settled,
    /// Of a stream that was closed before its end.
    Closed,
}
