//! Messages on a link without encryption (`sts_mode = nosec`): the payload is what was read, and with `--each` a line
//! without its newline, as other MQTT clients expect it.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::outgoing::{
    ConfirmedStream, Cut, OutgoingMessage, OutgoingStream, SpoolStream, WillMessage, WillOf, WillStream,
};
use super::unpublished::Unpublished;
use crate::Result;
use crate::config::{Config, Mqtt};
use crate::sessions::SessionChanges;
use crate::spool::Pending;
use crate::stdio::Split;
use crate::stream::{Content, SentTime};

/// Payloads without sessions, numbers or an end.
pub(super) struct PlainStream {
    topic: String,
    will_topic: String,
    max_message: usize,
    retain: bool,
    split: Split,
    /// What is to be published in shorter messages than before.
    unpublished: Unpublished,
}

impl PlainStream {
    /// Messages of what is split in this way.
    pub(super) fn new(config: &Config, split: Split) -> Self {
        let (topic, will_topic) = (&config.publish, config.will_topic.as_ref().unwrap_or(&config.publish));
        let Mqtt { max_message, retain, .. } = config.mqtt;
        let (topic, will_topic) = (topic.as_str().to_owned(), will_topic.as_str().to_owned());
        Self { topic, will_topic, max_message, retain, split, unpublished: Unpublished::default() }
    }
}

impl SessionChanges for PlainStream {}

impl OutgoingStream for PlainStream {
    fn topic(&self) -> &str {
        &self.topic
    }

    fn begin(&mut self, _now: Instant) -> Result<Option<usize>> {
        Ok(Some(self.max_message))
    }

    fn limit_messages(&mut self, max_message: usize) -> usize {
        self.max_message = self.max_message.min(max_message);
        self.max_message
    }

    fn max_message(&self) -> usize {
        self.max_message
    }

    fn cut_again(&mut self, waiting: Vec<Bytes>, _now: Instant, _rng: &mut ThreadRng) -> Result<Cut> {
        let count = waiting.len() as u64;
        let newer = std::mem::take(&mut self.unpublished);
        for mut message in waiting.into_iter().chain(newer.payloads()) {
            // An empty line is a message, too, whose data is its newline, and one that the broker is to keep.
            loop {
                let payload = message.split_to(message.len().min(self.max_message));
                let data_len = payload.len().max(1);
                self.unpublished.push(OutgoingMessage::Message { payload, data_len });
                if message.is_empty() {
                    break;
                }
            }
        }
        Ok(Cut::Done(count))
    }

    fn next_due(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        Ok(self.unpublished.pop())
    }

    fn unpublished(&self) -> Pending {
        self.unpublished.pending()
    }

    fn buffer(&self) -> BytesMut {
        BytesMut::new()
    }

    fn seal(
        &mut self,
        _content: &Content,
        _sent: Option<SentTime>,
        mut message: BytesMut,
        _now: Instant,
        _rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>> {
        // The end of the input is no message here: no receiver looks for one, and its empty payload would delete what
        // the broker retains. An empty line is a message, and deletes that: `sts.conf(5)` says so, at `retain`.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(max_message: usize) -> PlainStream {
        let topic = String::from("topic");
        let (will_topic, unpublished) = (topic.clone(), Unpublished::default());
        PlainStream { topic, will_topic, max_message, retain: false, split: Split::Each, unpublished }
    }

    fn payloads(texts: &[&'static str]) -> Vec<Bytes> {
        texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
    }

    fn publish(stream: &mut PlainStream, count: usize) -> Vec<Bytes> {
        let (now, rng) = (Instant::now(), &mut rand::rng());
        let due = std::iter::from_fn(|| stream.next_due(now, rng).unwrap());
        due.take(count).map(|message| message.payload()).collect()
    }

    #[test]
    fn what_is_cut_again_is_counted_and_empty_lines_stay() {
        let mut stream = stream(3);
        let withdrawn = payloads(&["abcdefg", "", "h"]);
        assert_eq!(stream.cut_again(withdrawn, Instant::now(), &mut rand::rng()).unwrap(), Cut::Done(3));
        assert_eq!(stream.unpublished(), Pending { messages: 5, bytes: 9 }, "an empty line has its newline");
        assert_eq!(publish(&mut stream, 9), payloads(&["abc", "def", "g", "", "h"]));
        assert_eq!(stream.unpublished(), Pending::default());
    }

    #[test]
    fn what_was_not_published_comes_after_what_is_withdrawn_later() {
        let (mut stream, now, mut rng) = (stream(4), Instant::now(), rand::rng());
        stream.cut_again(payloads(&["abcdefghijkl", "m"]), now, &mut rng).unwrap();
        let published = publish(&mut stream, 2);
        stream.limit_messages(3);
        assert_eq!(stream.cut_again(published, now, &mut rng).unwrap(), Cut::Done(2), "the others cannot arrive twice");
        assert_eq!(publish(&mut stream, 9), payloads(&["abc", "d", "efg", "h", "ijk", "l", "m"]));
    }
}
