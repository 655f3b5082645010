//! Messages on a link without encryption (`sts_mode = nosec`): the payload is what was read, and with `--each` a line without
//! its newline, as other MQTT clients expect it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::outgoing::{ConfirmedStream, OutgoingStream, SpoolStream};
use crate::Result;
use crate::config::Config;
use crate::stdio::Split;

/// Payloads without sessions, numbers or an end.
pub(super) struct PlainStream {
    topic: String,
    max_message: usize,
    split: Split,
}

impl PlainStream {
    /// Messages of what is split in this way.
    pub(super) fn new(config: &Config, split: Split) -> Self {
        Self { topic: config.publish.as_str().to_owned(), max_message: config.mqtt.max_message, split }
    }
}

impl OutgoingStream for PlainStream {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn begin(&mut self, _now: Instant) -> Result<usize> {
        Ok(self.max_message)
    }

    fn limit_messages(&mut self, max_message: usize) -> usize {
        self.max_message = self.max_message.min(max_message);
        self.max_message
    }

    fn buffer(&self) -> BytesMut {
        BytesMut::new()
    }

    fn seal(
        &mut self,
        mut message: BytesMut,
        _ends: bool,
        _now: Instant,
        _rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>> {
        // No receiver looks for an end here, and an empty payload would delete what the broker retains.
        if message.is_empty() {
            return Ok(None);
        }
        if self.split == Split::Each && message.ends_with(b"\n") {
            message.truncate(message.len() - 1);
        }
        Ok(Some(message.freeze()))
    }
}

impl ConfirmedStream for PlainStream {}

impl SpoolStream for PlainStream {}
