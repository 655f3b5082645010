//! `nosec`: each message is all there is, and its payload is the data.

use std::time::{Instant, SystemTime};

use super::delivery::{Completion, Delivery, Metadata};
use super::incoming::{Disposition, IncomingStreams, oversize};
use crate::Result;
use crate::mqtt::Message;
use crate::report::Reporter;
use crate::stream::StreamId;

/// Nothing says which messages belong together, so all are of one stream; each ends it, so that no line waits for another
/// message.
const STREAM: StreamId = StreamId { session: [0; 8], number: 0 };

/// The messages of a link without encryption.
pub(super) struct PlainStreams<'a> {
    report: &'a Reporter,
    /// The first message is the only one that this run receives.
    once: bool,
    with_metadata: bool,
    has_received: bool,
}

impl<'a> PlainStreams<'a> {
    pub(super) fn new(once: bool, with_metadata: bool, report: &'a Reporter) -> Self {
        Self { report, once, with_metadata, has_received: false }
    }
}

impl IncomingStreams for PlainStreams<'_> {
    fn receive(&mut self, message: Message, _now: Instant) -> Result<Disposition> {
        if self.is_complete() {
            return Ok(Disposition::Leave);
        }
        self.has_received = true;
        let Message { topic, payload, receipt, .. } = message;
        let metadata = self.with_metadata.then(|| Metadata::Plain { topic, received: SystemTime::now() });
        Ok(Disposition::Deliver(Delivery::new(STREAM, payload, true, metadata, Completion::from(receipt))))
    }

    fn reject_oversize(&mut self, len: usize, _now: Instant) {
        self.report.warn(&oversize(len));
    }

    fn is_complete(&self) -> bool {
        self.once && self.has_received
    }
}
