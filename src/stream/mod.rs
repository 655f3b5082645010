//! Streams: what one process sends under a session, sealed, numbered and opened (`sts-protocol(7)`, "Sealed messages").
//!
//! No I/O and no clock. What a message can say is in `kind`, `content`, `side_content` and `preamble`; sealing is in
//! `sender` and `reserved`, when what a message carries was read in `sent_time`, opening and ordering in `receiver`,
//! `opened`, `accept` and `sequence`, what becomes of other streams then in `others`, looking at a message without
//! accepting it in `look`. What a receiver is told of earlier streams is in `lost_ends`, what it remembers of a
//! session's streams in `streams`, and their keys in `keys`. What a sender keeps until it is confirmed is in
//! `retransmit`, where each of it is in `scoreboard`, and how much of it may be on its way in `congestion`.
//!
//! A plaintext with a kind of a later version is [`Content::Skipped`]. One with a kind, flag, preamble or length that
//! this version does not know otherwise is [`Content::Unreadable`]: authentic, reported as a gap or refused, and never
//! an error.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod accept;
mod congestion;
mod content;
mod ended_stream;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod id;
mod keys;
mod kind;
mod look;
mod lost_ends;
mod message_len;
mod opened;
mod others;
mod preamble;
mod progress;
mod ranges;
mod receiver;
mod reserved;
mod retransmit;
mod scoreboard;
mod sender;
mod sent_time;
mod sequence;
mod side_content;
mod streams;

#[cfg(test)]
mod tests;

/// Most bytes that a sender has unconfirmed, and so the most that its receiver keeps of what came too early.
pub(crate) const MAX_UNCONFIRMED: usize = 2 << 20;
/// Most ranges of messages that a receiver reports: the lowest ones. Its sender hears of higher ones once some of these
/// have merged.
pub(crate) const MAX_SACK_RANGES: usize = 256;

pub(crate) use self::accept::{Accepted, AcceptedWill};
pub(crate) use self::congestion::MAX_CONFIRM_DELAY;
pub(crate) use self::content::Content;
pub(crate) use self::ended_stream::{EndedStream, can_tell};
pub(crate) use self::id::{FIRST_SIDE_STREAM, Origin, StreamId};
pub(crate) use self::keys::erases_part;
pub use self::kind::Kind;
pub(crate) use self::message_len::max_record_len;
pub(crate) use self::opened::Opened;
pub(crate) use self::others::{Closing, OtherStreams, ToldStream};
pub(crate) use self::preamble::{Continues, Preamble};
pub(crate) use self::progress::{Gap, Progress, Sequence, StreamState};
pub(crate) use self::ranges::Ranges;
pub(crate) use self::receiver::Receiver;
pub use self::reserved::ReservedStream;
pub(crate) use self::retransmit::RetransmitQueue;
pub use self::sender::Sender;
pub(crate) use self::sent_time::SentTime;

pub(crate) use self::sequence::Awaited;
pub(crate) use self::side_content::{Confirmed, SideContent};
pub(crate) use self::streams::{AcceptError, HeaderClaim, KeptStream, LeftStream, RecentStream, Streams, ToldEnd};
