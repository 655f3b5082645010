//! TLS on the layer below: a [`Transport`] that encrypts and decrypts, without ever blocking.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::task::Poll;

use rustix::event::PollFlags;
use rustls::client::UnbufferedClientConnection;

use super::failure::{CONTENT_TYPES, Judge};
use super::records::{Incoming, Outgoing, Unread};
use super::step::{Task, TlsStep, handle};
use super::tickets::Tickets;
use crate::mqtt::connection_lost::{ConnectionLost, is_closed};
use crate::mqtt::network::transport::Transport;

/// Most bytes that one write takes: enough that a system call for each of them costs little.
const MAX_WRITE: usize = 64 << 10;

/// Bytes that are kept of an answer, to recognize one that is not TLS.
const MAX_FIRST_BYTES: usize = 64;

/// Reads in a row that bring no payload, of up to 128 KiB each: after that the loop has its turn, whatever floods us. The
/// tickets in that many bytes take some hundredths of a second.
const MAX_EMPTY_READS: usize = 4;

/// One TLS connection.
pub(super) struct TlsTransport {
    lower: Box<dyn Transport>,
    tls: UnbufferedClientConnection,
    incoming: Incoming,
    outgoing: Outgoing,
    unread: Unread,
    state: TlsState,
    /// The first bytes of the other end were a record.
    was_answered_in_tls: bool,
    judge: Judge,
    tickets: Arc<Tickets>,
}

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TlsState {
    /// In the handshake: the first bytes of the other end.
    Handshake(Vec<u8>),
    /// Data can be sent and received.
    Open,
    /// The other end says that nothing more will come.
    End,
}

impl TlsTransport {
    /// A connection on which nothing was said yet.
    pub(super) fn new(
        lower: Box<dyn Transport>,
        tls: UnbufferedClientConnection,
        judge: Judge,
        tickets: Arc<Tickets>,
    ) -> Self {
        Self {
            lower,
            tls,
            incoming: Incoming::new(),
            outgoing: Outgoing::default(),
            unread: Unread::default(),
            state: TlsState::Handshake(Vec::new()),
            was_answered_in_tls: false,
            judge,
            tickets,
        }
    }

    /// Whether the other end speaks TLS, whatever it said.
    pub(super) fn was_answered_in_tls(&self) -> bool {
        self.was_answered_in_tls
    }

    /// Whether this connection resumes an earlier session, once that is known.
    #[cfg(test)]
    pub(super) fn handshake_kind(&self) -> Option<rustls::HandshakeKind> {
        self.tls.handshake_kind()
    }

    /// One step of rustls with what came in.
    fn step(&mut self, task: &mut Task<'_>) -> Result<TlsStep, rustls::Error> {
        let known = self.tls.handshake_kind();
        let status = self.tls.process_tls_records(self.incoming.bytes());
        let discard = status.discard;
        let step = status.state.and_then(|state| handle(state, task, &mut self.outgoing, &mut self.unread));
        self.incoming.discard(discard);
        if let Some(kind) = self.tls.handshake_kind().filter(|kind| known != Some(*kind)) {
            self.tickets.handshake_is(kind);
        }
        self.incoming.has_records = matches!(step, Ok(TlsStep::Again));
        if matches!(step, Ok(TlsStep::End)) {
            self.state = TlsState::End;
        }
        step
    }

    /// Steps until rustls has done the task or waits for the other end.
    fn run(&mut self, task: &mut Task<'_>) -> Result<TlsStep, ConnectionLost> {
        loop {
            match self.step(task) {
                Ok(TlsStep::Again) if !task.is_full() => {}
                Ok(step) => return Ok(step),
                Err(error) => return Err(self.failed(&error)),
            }
        }
    }

    /// Tells the other end, if that is still possible, and says why in words.
    fn failed(&mut self, error: &rustls::Error) -> ConnectionLost {
        // An alert is all that rustls has left to send. It must not look at what came in a second time.
        while self.tls.wants_write() {
            let status = self.tls.process_tls_records(&mut []);
            let mut task = Task::Receive(&mut [], 0);
            if status.state.and_then(|state| handle(state, &mut task, &mut self.outgoing, &mut self.unread)).is_err() {
                break;
            }
        }
        let _ = self.flush();
        let state = std::mem::replace(&mut self.state, TlsState::End);
        let first = match &state {
            TlsState::Handshake(first) => Some(&first[..]),
            TlsState::Open | TlsState::End => None,
        };
        self.judge.failure(error, first)
    }

    /// Reads from the layer below into `incoming`; 0 at the end.
    fn fill(&mut self) -> io::Result<usize> {
        let count = self.incoming.read_from(&mut self.lower)?;
        if let TlsState::Handshake(first) = &mut self.state {
            let bytes = self.incoming.bytes();
            if first.is_empty() {
                self.was_answered_in_tls = bytes.first().is_some_and(|byte| CONTENT_TYPES.contains(byte));
                first.extend_from_slice(&bytes[..bytes.len().min(MAX_FIRST_BYTES)]);
            }
        }
        Ok(count)
    }

    /// Writes what waits for the socket, as far as that goes without waiting.
    fn write_out(&mut self) -> io::Result<()> {
        self.outgoing.write_to(&mut self.lower)
    }

    /// Goes on with the handshake; [`ErrorKind::WouldBlock`] if it must wait, or if others must have their turn.
    fn advance(&mut self) -> io::Result<()> {
        let mut reads = 0;
        loop {
            match self.run(&mut Task::Receive(&mut [], 0)).map_err(io::Error::other)? {
                // What the handshake ends with leaves together with the first bytes of MQTT.
                TlsStep::Idle => {
                    self.state = TlsState::Open;
                    return Ok(());
                }
                TlsStep::End => return Err(io::Error::other(self.closed())),
                TlsStep::Again | TlsStep::NeedsInput => {}
            }
            self.write_out()?;
            if reads == MAX_EMPTY_READS {
                // Nothing whole is left in `incoming`, so that poll(2) sees the rest.
                return Err(ErrorKind::WouldBlock.into());
            }
            reads += 1;
            match self.fill() {
                Ok(0) => return Err(io::Error::other(self.closed())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The other end closed the connection in the handshake.
    fn closed(&self) -> ConnectionLost {
        let answered = !matches!(&self.state, TlsState::Handshake(first) if first.is_empty());
        self.judge.closed(answered)
    }
}

impl Transport for TlsTransport {
    fn handshake(&mut self) -> Poll<Result<(), ConnectionLost>> {
        match self.lower.handshake() {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        if self.state == TlsState::Open {
            return Poll::Ready(Ok(()));
        }
        match self.advance() {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Err(error) if is_closed(error.kind()) => Poll::Ready(Err(self.closed())),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    fn needs(&self) -> PollFlags {
        let lower = self.lower.needs();
        if !self.outgoing.is_empty() {
            lower | PollFlags::OUT
        } else if lower.is_empty() && matches!(self.state, TlsState::Handshake(_)) {
            PollFlags::IN
        } else {
            lower
        }
    }

    fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.incoming.has_records || self.state == TlsState::End || self.lower.has_unread()
    }

    /// What is left of the encrypted bytes goes first, then the word that nothing follows. A socket that takes no more
    /// at the end of a run is not waited for: MQTT has its own last word, which was flushed.
    fn shutdown_write(&mut self) -> io::Result<()> {
        if self.state == TlsState::Open && self.run(&mut Task::CloseNotify).is_ok() {
            let _ = self.write_out();
        }
        self.lower.shutdown_write()
    }

    fn quick_ack(&self) {
        self.lower.quick_ack();
    }
}

impl Read for TlsTransport {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            return Ok(self.unread.take(out));
        }
        let mut task = Task::Receive(out, 0);
        let mut reads = 0;
        loop {
            if self.state != TlsState::End {
                self.run(&mut task).map_err(io::Error::other)?;
                self.tickets.save();
            }
            // An answer of TLS itself, if there is one; if the socket takes nothing now, `needs` says so.
            let answered = self.write_out();
            match (task.received(), &self.state) {
                (0, TlsState::End) => return Ok(0),
                (0, _) => {}
                (count, _) => return Ok(count),
            }
            answered.or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) })?;
            // Records may hold no payload, such as those that bring tickets.
            if reads == MAX_EMPTY_READS {
                // Nothing whole is left in `incoming`; whatever else there is is seen by poll(2), or by `has_unread`.
                return Err(ErrorKind::WouldBlock.into());
            }
            reads += 1;
            if self.fill()? == 0 {
                return Ok(0);
            }
        }
    }
}

impl Write for TlsTransport {
    /// Encrypts what fits; nothing while encrypted bytes wait for the socket, so that memory is bounded.
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        if self.state == TlsState::End {
            return Err(ErrorKind::BrokenPipe.into());
        }
        self.write_out()?;
        let plain = &plain[..plain.len().min(MAX_WRITE)];
        match self.run(&mut Task::Send(plain)).map_err(io::Error::other)? {
            TlsStep::Idle => Ok(plain.len()),
            TlsStep::End => Err(ErrorKind::BrokenPipe.into()),
            TlsStep::Again | TlsStep::NeedsInput => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.lower.flush()
    }
}

impl AsFd for TlsTransport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lower.as_fd()
    }
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").field("lower", &self.lower).field("state", &self.state).finish_non_exhaustive()
    }
}
