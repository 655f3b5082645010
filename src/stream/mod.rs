//! Streams: what one process sends under a session, sealed, numbered and opened (`sts-protocol(7)`, "Sealed messages").
//!
//! No I/O and no clock. Sending is in [`sender`], opening and ordering in [`receiver`], what a receiver remembers of a
//! session's streams in [`progress`], and what a sender keeps until it is confirmed in [`retransmit`]. The plaintext of a sealed
//! message is `kind 1 | payload | padding`:
//!
//! | kind | payload |
//! |---|---|
//! | 1 data | bytes |
//! | 2 end | the last bytes, or none |
//! | 3 continued | session id 8, stream 4: where the sender goes on |
//! | 4 confirm | any number of (stream 4, next seq 4), of the session that it is sealed under; in a stream of confirms |
//! | 5 kill | the sender's next stream number, 4; in KILL and nowhere else |
//! | 6 settled | none: behind the end of a stream, its sender has heard that all of it is written |
//! | 7 continues | session id 8, stream 4, seq 4: the stream that this one goes on from, and the seq behind its last |
//!
//! Above the low nibble, 0x40 asks for confirms and 0x80 says that padding follows: a byte 0x80, then zeros to the end
//! (ISO/IEC 9797-1, method 2).

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use crate::session::SessionId;

mod content;
pub mod progress;
pub mod receiver;
pub mod retransmit;
pub mod sender;

#[cfg(test)]
mod tests;

pub use content::Content;
pub use progress::{AcceptError, Gap, Progress, Ranges, StreamState, Streams};
pub use receiver::{Accepted, Opened, Receiver};
pub use retransmit::RetransmitQueue;
pub use sender::{ReservedStream, Sender};

/// The kinds, as numbers on the wire.
mod kind {
    pub(super) const DATA: u8 = 1;
    pub(super) const END: u8 = 2;
    pub(super) const CONTINUED: u8 = 3;
    pub(super) const CONFIRM: u8 = 4;
    pub(super) const KILL: u8 = 5;
    pub(super) const SETTLED: u8 = 6;
    pub(super) const CONTINUES: u8 = 7;
    /// The bits of the kind itself.
    pub(super) const MASK: u8 = 0x0f;
    pub(super) const ASKS: u8 = 0x40;
    pub(super) const PADDED: u8 = 0x80;
    pub(super) const FLAGS: u8 = ASKS | PADDED;
    /// Where padding begins.
    pub(super) const PADDING: u8 = 0x80;
}

/// Stream numbers from here on are those of confirms, counted apart: a confirm that is lost is no lost data, so a receiver
/// looks for no missing numbers among them, and keeps nothing of them.
pub const FIRST_CONFIRM_STREAM: u32 = 1 << 31;

/// Names a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The session that its messages are sealed under.
    pub session: SessionId,
    /// Its number there.
    pub number: u32,
}

/// The stream that another one continues, of the session before or of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Predecessor {
    /// Which one.
    pub stream: StreamId,
    /// The seq after its last message, the continued.
    pub end: u32,
}

/// The block that limits are counted in, bytes (FIPS 197).
const BLOCK: u64 = 16;

/// What the cipher spends on a message of this many bytes, in blocks: never less than what any suite does, as each
/// message also costs GCM a block for its tag and CBC one for its IV.
fn blocks(message: usize) -> u64 {
    message as u64 / BLOCK + 2
}
