//! The bytes of one connection: packets on their way to the socket, and how the bytes that come in are read.

use std::ops::Range;

use bytes::{Buf, BytesMut};
use zeroize::Zeroize;

use crate::mqtt::codec::{Codec, Connect, Packet, Request};
use crate::mqtt::{ClientOptions, ConnectionLost};

/// Room for all of a CONNECT but its texts, and for the short packets that may follow it before it is sent.
const MIN_CONNECT_ROOM: usize = 1024;

/// What goes out on a connection, counted from its first byte, and the codec for both directions.
#[derive(Debug)]
pub(super) struct Wire {
    codec: Codec,
    /// Encoded packets that the socket has not taken.
    unsent: BytesMut,
    /// Bytes that the socket took.
    sent: u64,
    /// Length of the packet that the connection begins with, which may hold a password.
    login_len: u64,
}

impl Wire {
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self { codec: Codec::new(options), unsent: BytesMut::new(), sent: 0, login_len: 0 }
    }

    /// A connection begins.
    pub(super) fn connection_began(&mut self) {
        self.connection_ended();
        self.codec.reset();
        (self.sent, self.login_len) = (0, 0);
    }

    /// The connection is gone, and nothing more can leave; what was sent on it is still known.
    pub(super) fn connection_ended(&mut self) {
        self.erase_login(self.unsent.len());
        self.unsent.clear();
    }

    /// Begins the connection with a CONNECT.
    pub(super) fn connect(&mut self, connect: Connect<'_>) {
        // All of it at once: a buffer that grew later would leave a copy of the password behind.
        self.unsent.reserve(MIN_CONNECT_ROOM + connect.texts_len());
        self.login_len = self.send(Request::Connect(connect)).end;
    }

    /// Erases what of the CONNECT is among the first `count` unsent bytes.
    fn erase_login(&mut self, count: usize) {
        let left = usize::try_from(self.login_len.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        self.unsent[..count.min(left)].zeroize();
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
        self.erase_login(count);
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
