//! The bytes of one connection: packets on their way to the socket, and how the bytes that come in are read.

use std::ops::Range;

use bytes::{Buf, BytesMut};

use crate::mqtt::codec::{Codec, Packet, Request};
use crate::mqtt::{ClientOptions, ConnectionLost};

/// What goes out on a connection, counted from its first byte, and the codec for both directions.
#[derive(Debug)]
pub(super) struct Wire {
    codec: Codec,
    /// Encoded packets that the socket has not taken.
    unsent: BytesMut,
    /// Bytes that the socket took.
    sent: u64,
}

impl Wire {
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self { codec: Codec::new(options), unsent: BytesMut::new(), sent: 0 }
    }

    /// A connection begins.
    pub(super) fn connection_began(&mut self) {
        self.codec.reset();
        self.unsent.clear();
        self.sent = 0;
    }

    /// The connection is gone, and nothing more can leave; what was sent on it is still known.
    pub(super) fn connection_ended(&mut self) {
        self.unsent.clear();
    }

    /// Encodes a packet; returns where it lies among the bytes of the connection.
    pub(super) fn send(&mut self, request: Request<'_>) -> Range<u64> {
        let start = self.end();
        self.codec.encode(request, &mut self.unsent);
        start..self.end()
    }

    /// Takes the next packet off the front of `bytes`; `None` when more bytes must come first.
    pub(super) fn receive(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, ConnectionLost> {
        self.codec.decode(bytes)
    }

    /// The bytes that the socket is to take.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// The socket took the first `count` of them.
    pub(super) fn taken(&mut self, count: usize) {
        let count = count.min(self.unsent.len());
        self.unsent.advance(count);
        self.sent += count as u64;
    }

    /// How many bytes the socket took.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Where the next packet will begin.
    fn end(&self) -> u64 {
        self.sent + self.unsent.len() as u64
    }
}
