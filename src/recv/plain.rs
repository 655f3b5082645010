//! `nosec`: each message is all there is, and its payload is a line.

use std::time::{Instant, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};

use super::RecvOptions;
use super::delivery::{Completion, Delivery, Metadata};
use super::incoming::{Disposition, IncomingStreams, oversize};
use crate::mqtt::Message;
use crate::report::Reporter;
use crate::stream::StreamId;
use crate::{Error, Exit, Result};

/// Nothing says which messages belong together, so all are of one stream; each ends it, so that no line waits for another
/// message.
const STREAM: StreamId = StreamId { session: [0; 8], number: 0 };

/// Which messages a run receives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    First,
}

/// The messages of a link without encryption.
pub(super) struct PlainStreams<'a> {
    report: &'a Reporter,
    wanted: Wanted,
    with_metadata: bool,
    /// Payloads are written as they are (`-b`).
    binary: bool,
    has_received: bool,
    /// Payloads that get a newline. The delivery gets a view of it, and once that is printed the buffer is used again.
    line: BytesMut,
}

impl<'a> PlainStreams<'a> {
    pub(super) fn new(options: &RecvOptions, report: &'a Reporter) -> Self {
        Self {
            report,
            wanted: if options.once { Wanted::First } else { Wanted::All },
            with_metadata: options.format.needs_metadata(),
            binary: options.binary,
            has_received: false,
            line: BytesMut::new(),
        }
    }

    /// The bytes to write of a payload: other MQTT clients publish a line without its newline.
    fn data(&mut self, payload: Bytes) -> Bytes {
        if self.binary || payload.ends_with(b"\n") {
            return payload;
        }
        self.line.reserve(payload.len() + 1);
        self.line.put_slice(&payload);
        self.line.put_u8(b'\n');
        self.line.split().freeze()
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
        let data = self.data(payload);
        Ok(Disposition::Deliver(Delivery::new(STREAM, data, true, metadata, Completion::from(receipt))))
    }

    fn reject_oversize(&mut self, len: usize, _now: Instant) {
        self.report.warn(&oversize(len));
    }

    fn is_complete(&self) -> bool {
        self.wanted == Wanted::First && self.has_received
    }

    fn verdict(&mut self, _timed_out: bool) -> Result<()> {
        if self.wanted == Wanted::First && !self.has_received {
            return Err(Error::new(Exit::TryAgain, "timed out").because("no message was received"));
        }
        Ok(())
    }
}
