//! Messages on a link without encryption (`sts_mode = nosec`): the payload is what was read, and with `--each` a line
//! without its newline, as other MQTT clients expect it.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::outgoing::{ConfirmedStream, OutgoingMessage, OutgoingStream, SpoolStream, WillMessage, WillOf, WillStream};
use crate::Result;
use crate::config::{Config, Mqtt};
use crate::stdio::Split;

/// Payloads without sessions, numbers or an end.
pub(super) struct PlainStream {
    topic: String,
    will_topic: String,
    max_message: usize,
    retain: bool,
    split: Split,
    /// What is to be published in shorter messages than before.
    shortened: VecDeque<Bytes>,
}

impl PlainStream {
    /// Messages of what is split in this way.
    pub(super) fn new(config: &Config, split: Split) -> Self {
        let (topic, will_topic) = (&config.publish, config.will_topic.as_ref().unwrap_or(&config.publish));
        let Mqtt { max_message, retain, .. } = config.mqtt;
        let (topic, will_topic) = (topic.as_str().to_owned(), will_topic.as_str().to_owned());
        Self { topic, will_topic, max_message, retain, split, shortened: VecDeque::new() }
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

    fn max_message(&self) -> usize {
        self.max_message
    }

    fn cut_again(&mut self, withdrawn: Vec<Bytes>, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<u64>> {
        let count = withdrawn.len() as u64;
        for mut message in withdrawn {
            while !message.is_empty() {
                self.shortened.push_back(message.split_to(message.len().min(self.max_message)));
            }
        }
        Ok(Some(count))
    }

    fn next_control(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        let shortened = self.shortened.pop_front();
        Ok(shortened.map(|payload| OutgoingMessage::Message { data_len: payload.len(), payload }))
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

impl WillStream for PlainStream {
    fn will_of(&mut self, _now: Instant) -> Result<Option<WillOf>> {
        Ok(Some(WillOf::Link))
    }

    fn will(&mut self, text: &str, _number: u32, _rng: &mut ThreadRng) -> Result<WillMessage> {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        Ok(WillMessage { topic: self.will_topic.clone(), payload, retain: self.retain })
    }
}
