//! How long the messages of a stream are, and how much they carry.

use super::preamble::preamble_room;
use crate::suite::Suite;

/// What a message of any stream must be able to carry, in bytes: a preamble that says what is continued. Otherwise a
/// limit that is too short would show only when such a preamble is due.
pub(super) const MIN_CARRIED_LEN: usize = 25;

/// Most bytes that follow the kind in a plaintext of at most this length, if it is padded to a multiple of `pad`.
pub(super) fn carried_len(plaintext: usize, pad: Option<usize>) -> usize {
    match pad {
        None => plaintext.saturating_sub(1),
        // At least one byte of padding.
        Some(pad) => (plaintext / pad * pad).saturating_sub(2),
    }
}

/// Most bytes of data in a message that is no longer than `max_message`, whatever the suite and the preamble.
#[must_use]
pub(crate) fn max_record_len(max_message: usize, pad: Option<usize>) -> usize {
    // The overhead includes the kind.
    carried_len(max_message.saturating_sub(Suite::MAX_OVERHEAD_LEN) + 1, pad).saturating_sub(preamble_room(max_message))
}

/// How long messages are.
#[derive(Clone, Copy)]
pub(super) struct Lengths {
    pub(super) max_message: usize,
    /// Each plaintext is padded to a multiple of this.
    pub(super) pad: Option<usize>,
}
