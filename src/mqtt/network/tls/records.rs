//! The buffers below TLS: records that came in and are not decrypted yet, and records that the socket has not taken.

use std::io::{self, Read, Write};

/// Room for what comes in, bytes: the longest message of a handshake that rustls accepts (64 KiB), in its records, and for
/// bulk data as much as a socket usually has.
const INCOMING_LEN: usize = 128 << 10;

/// Records from the socket, in a buffer of fixed length.
pub(super) struct Incoming {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// It may hold a whole record.
    pub(super) has_records: bool,
}

impl Incoming {
    pub(super) fn new() -> Self {
        Self { buffer: vec![0; INCOMING_LEN].into(), start: 0, end: 0, has_records: false }
    }

    /// Reads once; how many bytes came, 0 at the end.
    pub(super) fn read_from(&mut self, lower: &mut dyn Read) -> io::Result<usize> {
        if self.start > 0 {
            // At most a part of one record, or of one message of the handshake.
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let space = &mut self.buffer[self.end..];
        if space.is_empty() {
            return Err(io::Error::other("a message of the TLS handshake is too long"));
        }
        let count = lower.read(space)?;
        self.end += count;
        self.has_records |= count > 0;
        Ok(count)
    }

    /// What came in and was not discarded.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    /// The first `count` bytes were used.
    pub(super) fn discard(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }
}

/// Records for the socket.
#[derive(Default)]
pub(super) struct Outgoing {
    /// Its length is the most that was ever needed.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Has `write` put records after those that wait: it is given a buffer of at least `len` bytes, and says how many it
    /// used, or how many it needs.
    pub(super) fn put<E>(
        &mut self,
        len: usize,
        mut write: impl FnMut(&mut [u8]) -> Result<usize, Result<usize, E>>,
    ) -> Result<(), E> {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        let mut len = len;
        loop {
            if self.buffer.len() < self.end + len {
                self.buffer.resize(self.end + len, 0);
            }
            match write(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(());
                }
                Err(needed) => len = needed?,
            }
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// That of the layer below; what it did not take is written by the next call.
    pub(super) fn write_to(&mut self, lower: &mut dyn Write) -> io::Result<()> {
        while !self.is_empty() {
            match lower.write(&self.buffer[self.start..self.end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.start += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Decrypted bytes that their reader had no room for.
#[derive(Default)]
pub(super) struct Unread {
    bytes: Vec<u8>,
    start: usize,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves as many bytes as fit to `out`; how many.
    pub(super) fn take(&mut self, out: &mut [u8]) -> usize {
        let rest = &self.bytes[self.start..];
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        self.start += count;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
        count
    }
}
