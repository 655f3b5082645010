//! Streams: what one process sends under a session, sealed, numbered and opened (`sts-protocol(7)`, "Sealed messages").
//!
//! No I/O and no clock. Sending is in [`send`], opening and ordering in [`receive`], what a receiver remembers of a
//! session's streams in [`state`], and what a sender keeps until it is confirmed in [`window`]. The plaintext of a sealed
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

mod plaintext;
pub mod receive;
pub mod send;
pub mod state;
pub mod window;

#[cfg(test)]
mod tests;

pub use plaintext::Payload;
pub use receive::{Accepted, Opened, Receiver, Refused};
pub use send::{Sender, Taken};
pub use state::{Gap, Mark, Place, Ranges, Streams};
pub use window::Window;

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
pub const CONFIRMS: u32 = 1 << 31;

/// Where a stream goes on from: the one before it, of the session before it or of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Before {
    /// Its session.
    pub session: SessionId,
    /// Its number.
    pub stream: u32,
    /// The seq behind its last message, the continued.
    pub end: u32,
}

/// The block that limits are counted in, bytes (FIPS 197).
const BLOCK: u64 = 16;

/// What the cipher spends on a message of this many bytes, in blocks: never less than what any suite does, as each
/// message also costs GCM a block for its tag and CBC one for its IV.
fn blocks(message: usize) -> u64 {
    message as u64 / BLOCK + 2
}
