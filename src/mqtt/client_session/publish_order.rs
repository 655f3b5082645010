//! Whether the broker has messages in the order in which they were published: if it refuses one, a newer one may overtake
//! that.

use std::collections::BTreeSet;

/// How many messages are sent one at a time, once the order was lost: if the broker accepts as many in a row, it has
/// recovered.
pub(super) const MAX_SINGLE: u32 = 16;

/// Serial numbers of what was refused, accepted and overtaken.
#[derive(Debug, Default)]
pub(super) struct PublishOrder {
    /// Those that the broker refused and has not accepted since, on this connection or an earlier one.
    unaccepted: BTreeSet<u64>,
    /// Those that newer ones may overtake.
    unordered: BTreeSet<u64>,
    /// The newest one that the broker has accepted, or may have.
    newest_accepted: Option<u64>,
    /// The oldest one that a newer one has overtaken.
    overtaken: Option<u64>,
    /// How many more are to be accepted before several are sent at a time again: the order was lost on this connection.
    single: u32,
}

impl PublishOrder {
    /// Newer messages may overtake this one.
    pub(super) fn exempt(&mut self, serial: u64) {
        self.unordered.insert(serial);
    }

    /// The broker refused this message.
    pub(super) fn refused(&mut self, serial: u64) {
        if self.single > 0 {
            self.single = MAX_SINGLE;
        }
        if !self.unordered.contains(&serial) {
            self.unaccepted.insert(serial);
            self.note_order();
        }
    }

    /// The broker has this message, or may have it: whatever it refused before is overtaken.
    pub(super) fn taken(&mut self, serial: u64) {
        self.newest_accepted = self.newest_accepted.max(Some(serial));
        self.note_order();
        self.unaccepted.remove(&serial);
    }

    fn note_order(&mut self) {
        let oldest = self.unaccepted.first().copied().filter(|oldest| self.newest_accepted > Some(*oldest));
        self.overtaken = self.overtaken.or(oldest);
    }

    /// The broker accepted a message to the end.
    pub(super) fn accepted(&mut self) {
        self.single = self.single.saturating_sub(1);
    }

    /// This message is acknowledged or taken back.
    pub(super) fn forget(&mut self, serial: u64) {
        self.unaccepted.remove(&serial);
        self.unordered.remove(&serial);
    }

    /// The oldest message that the broker refused and has not accepted since.
    pub(super) fn oldest_unaccepted(&self) -> Option<u64> {
        self.unaccepted.first().copied()
    }

    /// The oldest message that the broker refused while it accepted a newer one.
    pub(super) fn overtaken(&self) -> Option<u64> {
        self.overtaken
    }

    /// Whether each message waits for the answer to the one before it.
    pub(super) fn is_single(&self) -> bool {
        self.single > 0 || (self.overtaken.is_some() && !self.unaccepted.is_empty())
    }

    /// Nothing is under way, and what was refused is taken back: what comes next has an order of its own.
    pub(super) fn begin(&mut self) {
        self.unaccepted.clear();
        (self.overtaken, self.single) = (None, MAX_SINGLE);
    }

    /// The connection is gone: another one may be to another broker.
    pub(super) fn connection_ended(&mut self) {
        self.single = 0;
    }
}
