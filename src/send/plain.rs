//! Messages on a link without encryption (`sts_mode = nosec`): the payload is what was read.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::outgoing::{ConfirmedStream, OutgoingStream, SpoolStream};
use crate::Result;
use crate::config::Config;

/// Payloads without sessions, numbers or an end.
pub(super) struct PlainStream {
    topic: String,
    max_message: usize,
}

impl PlainStream {
    pub(super) fn new(config: &Config) -> Self {
        Self { topic: config.publish.as_str().to_owned(), max_message: config.mqtt.max_message }
    }
}

impl OutgoingStream for PlainStream {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn begin(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<usize> {
        Ok(self.max_message)
    }

    fn buffer(&self) -> BytesMut {
        BytesMut::new()
    }

    fn seal(&mut self, message: BytesMut, _ends: bool, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        // No receiver looks for an end here, and an empty payload would delete what the broker retains.
        Ok((!message.is_empty()).then(|| message.freeze()))
    }
}

impl ConfirmedStream for PlainStream {}

impl SpoolStream for PlainStream {}
