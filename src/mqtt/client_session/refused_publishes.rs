//! Messages that the broker refused, and when each is sent again. Only MQTT 5 can refuse one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::publish_order::PublishOrder;
use crate::backoff::Backoff;

/// The pause after a refusal, at first and at most.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Messages that are to be sent again on this connection. While a pause lasts nothing is published, so that a broker that is
/// over its quota gets no more than one refusal's worth of messages.
#[derive(Debug)]
pub(super) struct RefusedPublishes {
    /// Serial numbers, in ascending order.
    serials: VecDeque<u64>,
    /// The end of the pause.
    retry_at: Option<Instant>,
    delay: Backoff,
    /// Pauses since the broker accepted a message.
    pauses: u32,
    pub(super) order: PublishOrder,
}

impl Default for RefusedPublishes {
    fn default() -> Self {
        let delay = Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
        Self { serials: VecDeque::new(), retry_at: None, delay, pauses: 0, order: PublishOrder::default() }
    }
}

impl RefusedPublishes {
    /// The broker refused this message. Returns how many pauses there were in a row, if one begins with it.
    pub(super) fn push(&mut self, serial: u64, now: Instant) -> Option<u32> {
        let place = self.serials.partition_point(|earlier| *earlier < serial);
        self.serials.insert(place, serial);
        self.order.refused(serial);
        if self.retry_at.is_some() {
            return None;
        }
        self.retry_at = Some(now + self.delay.next());
        self.pauses += 1;
        Some(self.pauses)
    }

    /// This message is taken back.
    pub(super) fn withdrawn(&mut self, serial: u64) {
        self.order.forget(serial);
        if let Ok(place) = self.serials.binary_search(&serial) {
            self.serials.remove(place);
        }
    }

    /// The broker accepted a message.
    pub(super) fn accepted(&mut self) {
        (self.pauses, self.retry_at) = (0, None);
        self.delay.reset();
        self.order.accepted();
    }

    /// Whether the broker accepted no message since it refused one, or accepted a newer one. Then the oldest goes alone: if
    /// the broker accepted only a later one of several, that would overtake what was refused, and a receiver that expects an
    /// order would drop the rest.
    pub(super) fn is_probing(&self) -> bool {
        self.pauses > 0 || self.order.is_single()
    }

    /// The end of the pause, while there is one.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Ends the pause, if it is over.
    pub(super) fn resume(&mut self, now: Instant) {
        self.retry_at.take_if(|at| now >= *at);
    }

    /// The next message to send again.
    pub(super) fn next(&self) -> Option<u64> {
        self.serials.front().copied()
    }

    /// It was sent.
    pub(super) fn sent(&mut self) {
        self.serials.pop_front();
    }

    /// Whether none is to be sent again.
    pub(super) fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }

    /// The connection is gone: on the next one everything is sent again anyway.
    pub(super) fn connection_ended(&mut self) {
        self.serials.clear();
        self.retry_at = None;
        self.order.connection_ended();
    }
}
