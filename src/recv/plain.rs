//! `nosec`: each message is all there is, and its payload is a line.

use std::time::{Instant, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};

use super::delivery::{Completion, Delivery, Joint, Metadata};
use super::incoming::{Disposition, IncomingStreams, none_retained, oversize};
use super::left_messages::LeftMessage;
use super::{RecvOptions, Scope};
use crate::config::TopicFilter;
use crate::mqtt::Message;
use crate::report::Reporter;
use crate::sessions::SessionChanges;
use crate::stream::StreamId;
use crate::{Error, Exit, Result};

/// Nothing says which messages belong together, so all are of one stream; each ends it, so that no line waits for another
/// message.
const STREAM: StreamId = StreamId { session: [0; 8], number: 0 };

/// The messages of a link without encryption.
pub(super) struct PlainStreams<'a> {
    report: &'a Reporter,
    /// The first stream is the first message.
    scope: Scope,
    with_metadata: bool,
    has_received: bool,
    topic: &'a TopicFilter,
    /// Payloads that get a newline; `None` where they are written as they are (`-b`). The delivery gets a view of it, and once
    /// that is printed the buffer is used again.
    lines: Option<BytesMut>,
}

impl<'a> PlainStreams<'a> {
    pub(super) fn new(options: &RecvOptions, topic: &'a TopicFilter, report: &'a Reporter) -> Self {
        Self {
            report,
            scope: options.scope,
            with_metadata: options.format.needs_metadata(),
            has_received: false,
            topic,
            lines: (!options.binary).then(BytesMut::new),
        }
    }

    /// The bytes to write of a payload: other MQTT clients publish a line without its newline.
    fn data(&mut self, payload: Bytes) -> Bytes {
        match &mut self.lines {
            Some(lines) if !payload.ends_with(b"\n") => {
                lines.reserve(payload.len() + 1);
                lines.put_slice(&payload);
                lines.put_u8(b'\n');
                lines.split().freeze()
            }
            _ => payload,
        }
    }
}

impl SessionChanges for PlainStreams<'_> {}

impl IncomingStreams for PlainStreams<'_> {
    fn receive(&mut self, message: Message, _now: Instant) -> Result<Disposition> {
        if self.is_complete() {
            return Ok(Disposition::Leave(LeftMessage::text(message)));
        }
        if self.scope == Scope::Retained && !message.retain {
            return Ok(Disposition::Drop(message.receipt));
        }
        self.has_received = true;
        let Message { topic, payload, receipt, .. } = message;
        let metadata = self.with_metadata.then(|| Metadata::Plain { topic, received: SystemTime::now() });
        let data = self.data(payload);
        Ok(Disposition::Deliver(Delivery::new(STREAM, data, Joint::Ends, metadata, Completion::from(receipt))))
    }

    fn reject_oversize(&mut self, len: usize, _now: Instant) {
        self.report.warn(&oversize(len));
    }

    fn is_complete(&self) -> bool {
        match self.scope {
            Scope::All => false,
            Scope::FirstStream => self.has_received,
            // There is one for each topic.
            Scope::Retained => self.has_received && !self.topic.has_wildcard(),
        }
    }

    fn verdict(&mut self, _timed_out: bool) -> Result<()> {
        match self.scope {
            Scope::All => Ok(()),
            Scope::FirstStream | Scope::Retained if self.has_received => Ok(()),
            Scope::FirstStream => Err(Error::new(Exit::TryAgain, "timed out").because("no message was received")),
            Scope::Retained => Err(none_retained(self.topic.plain())),
        }
    }
}
