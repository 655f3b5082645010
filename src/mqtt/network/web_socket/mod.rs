//! WebSocket (RFC 6455) as a layer: MQTT as the payload of binary frames (MQTT 3.1.1, 6).
//!
//! Memory is bounded whatever the server sends and however slow the socket is: one frame on its way out, of at most
//! [`MAX_FRAME_LEN`] bytes, and the answer to the last ping. What comes in goes straight to the reader.

#![expect(clippy::disallowed_methods, reason = "masks are drawn here")]

mod frame_decoder;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod upgrade;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;

use rustix::event::PollFlags;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use zeroize::Zeroizing;

use self::frame_decoder::{FrameDecoder, NORMAL_CLOSURE};
use self::upgrade::Upgrade;
use super::transport::Transport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle, is_closed};

/// Most bytes of payload that go into one frame.
const MAX_FRAME_LEN: usize = 64 << 10;

/// Reads in a row that bring no payload: after that the loop has its turn, whatever floods us.
const MAX_EMPTY_READS: usize = 16;

const NO_ANSWER: &str = "the broker closed the connection, without an answer to the request for WebSocket";

/// How much of the server's answer is read at once, bytes.
const ANSWER_CHUNK_LEN: usize = 4096;

/// WebSocket on a transport.
pub(super) struct WebSocket {
    lower: Box<dyn Transport>,
    stage: Stage,
    decoder: FrameDecoder,
    /// What came with the answer to the request.
    early: Vec<u8>,
    /// Bytes for the transport below, of which it has taken so many. They may hold a password, and beside it the mask that hides
    /// it from nobody.
    out: Zeroizing<Vec<u8>>,
    taken: usize,
}

/// How far the opening has come.
enum Stage {
    /// The transport below is in its own handshake.
    Lower(Upgrade),
    /// The request is on its way, or answered in part.
    Asking(Upgrade),
    Open,
}

impl WebSocket {
    /// Asks `authority`, a host with its port, for `path`.
    pub(super) fn new(lower: Box<dyn Transport>, authority: &str, path: &str) -> Self {
        let upgrade = Upgrade::new(authority, path);
        let out = upgrade.request().to_vec().into();
        let decoder = FrameDecoder::default();
        Self { lower, stage: Stage::Lower(upgrade), decoder, early: Vec::new(), out, taken: 0 }
    }

    /// Has the transport below take what is on its way out.
    fn write_out(&mut self) -> io::Result<()> {
        while self.taken < self.out.len() {
            match self.lower.write(&self.out[self.taken..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.taken += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.fill(0);
        self.out.clear();
        self.taken = 0;
        Ok(())
    }

    /// Appends a frame, masked as a client's must be.
    fn push_frame(&mut self, opcode: OpCode, payload: &[u8]) {
        let mask: [u8; 4] = rand::random();
        let header = FrameHeader { is_final: true, opcode, mask: Some(mask), ..FrameHeader::default() };
        header.format(payload.len() as u64, &mut *self.out).expect("a Vec takes all");
        let begin = self.out.len();
        self.out.extend_from_slice(payload);
        for chunk in self.out[begin..].chunks_mut(mask.len()) {
            for (byte, key) in chunk.iter_mut().zip(mask) {
                *byte ^= key;
            }
        }
    }

    /// Answers the last ping, once what was begun is out: it waits so that no flood of pings fills the memory.
    fn answer_ping(&mut self) {
        if self.out.is_empty()
            && let Some(payload) = self.decoder.take_ping()
        {
            self.push_frame(OpCode::Control(Control::Pong), &payload);
        }
    }

    /// Takes the payload out of what was read; 0 where there is none in it.
    fn decode(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.decoder.decode(bytes).map_err(|lost| io::Error::new(ErrorKind::InvalidData, lost))
    }

    /// Goes on with the opening, as far as that goes without waiting.
    fn open(&mut self) -> Result<Poll<()>, ConnectionLost> {
        if matches!(self.stage, Stage::Lower(_)) {
            let Poll::Ready(done) = self.lower.handshake() else { return Ok(Poll::Pending) };
            done?;
            if let Stage::Lower(upgrade) = std::mem::replace(&mut self.stage, Stage::Open) {
                self.stage = Stage::Asking(upgrade);
            }
        }
        let mut chunk = [0; ANSWER_CHUNK_LEN];
        while let Stage::Asking(_) = &self.stage {
            match self.flush().and_then(|()| self.lower.read(&mut chunk)) {
                Ok(0) => return Err(ConnectionLost::at(Obstacle::Upgrade(None), NO_ANSWER)),
                Err(error) if is_closed(error.kind()) => {
                    return Err(ConnectionLost::at(Obstacle::Upgrade(None), NO_ANSWER));
                }
                Ok(count) => self.answered(&chunk[..count])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Poll::Pending),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// A part of the answer to the request came.
    fn answered(&mut self, bytes: &[u8]) -> Result<(), ConnectionLost> {
        if let Stage::Asking(upgrade) = &mut self.stage
            && let Some(early) = upgrade.received(bytes)?
        {
            (self.early, self.stage) = (early, Stage::Open);
        }
        Ok(())
    }
}

impl Transport for WebSocket {
    fn handshake(&mut self) -> Poll<Result<(), ConnectionLost>> {
        match self.open() {
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Ok(Poll::Pending) => Poll::Pending,
            Err(lost) => Poll::Ready(Err(lost)),
        }
    }

    fn needs(&self) -> PollFlags {
        let mut flags = self.lower.needs();
        let has_output = !self.out.is_empty() || self.decoder.has_ping();
        match self.stage {
            Stage::Lower(_) => {}
            Stage::Asking(_) if has_output => flags |= PollFlags::OUT,
            Stage::Asking(_) => flags |= PollFlags::IN,
            Stage::Open => flags.set(PollFlags::OUT, has_output || flags.contains(PollFlags::OUT)),
        }
        flags
    }

    fn has_unread(&self) -> bool {
        !self.early.is_empty() || self.decoder.closed().is_some() || self.lower.has_unread()
    }

    /// Sends a close frame; the server then closes the connection (RFC 6455, 7.1.1).
    fn shutdown_write(&mut self) -> io::Result<()> {
        if matches!(self.stage, Stage::Open) {
            self.push_frame(OpCode::Control(Control::Close), &NORMAL_CLOSURE.to_be_bytes());
        }
        match self.flush() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    fn quick_ack(&self) {
        self.lower.quick_ack();
    }
}

impl Read for WebSocket {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        for _ in 0..MAX_EMPTY_READS {
            if let Some(lost) = self.decoder.closed().cloned() {
                // Nothing depends on this answer (RFC 6455, 5.5.1).
                let _ = self.shutdown_write();
                return Err(io::Error::new(ErrorKind::ConnectionAborted, lost));
            }
            let count = if self.early.is_empty() {
                self.lower.read(space)?
            } else {
                let count = self.early.len().min(space.len());
                space[..count].copy_from_slice(&self.early[..count]);
                self.early.drain(..count);
                count
            };
            if count == 0 {
                return Ok(0);
            }
            // Frames may hold no payload, such as a ping; 0 would mean the end.
            let kept = self.decode(&mut space[..count])?;
            if kept > 0 {
                return Ok(kept);
            }
        }
        // Whatever is left is seen by poll(2), or by `has_unread`.
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_out()?;
        self.answer_ping();
        let count = bytes.len().min(MAX_FRAME_LEN);
        self.push_frame(OpCode::Data(Data::Binary), &bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.answer_ping();
        self.write_out()?;
        self.lower.flush()
    }
}

impl AsFd for WebSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lower.as_fd()
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("lower", &self.lower).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
