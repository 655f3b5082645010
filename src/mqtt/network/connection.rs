//! An open transport, and the bytes on their way between it and the client session.

use std::io;
use std::io::ErrorKind::{Interrupted, WouldBlock, WriteZero};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};

use super::read_buffer::ReadBuffer;
use super::remote::Remote;
use super::transport::Transport;
use crate::mqtt::ClientSession;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};

/// A read of at least this many bytes needs no quick acknowledgement: the system sends enough of them during bulk data.
const MIN_BULK_READ: usize = 16 << 10;

/// Reads in a row after the connection broke, or is to end: acknowledgements that the broker sent before that count.
const MAX_FINAL_READS: usize = 64;

/// The broker hung up, or the socket failed.
const BROKEN: PollFlags = PollFlags::HUP.union(PollFlags::ERR);

/// A transport and its buffers, which end together.
#[derive(Debug)]
pub(in crate::mqtt) struct Connection {
    transport: Box<dyn Transport>,
    read_buffer: ReadBuffer,
    /// How many of the session's bytes the transport accepted, while the socket has not taken all of them.
    accepted: usize,
    /// The socket takes nothing until poll reports it writable.
    blocked: bool,
    /// The broker hung up while reading was paused: poll would report that for ever.
    hung_up: bool,
    /// The system is to acknowledge at once what was read last.
    owes_quick_ack: bool,
    remote: Remote,
}

impl Connection {
    pub(in crate::mqtt) fn new(transport: Box<dyn Transport>, remote: Remote) -> Self {
        Self {
            transport,
            read_buffer: ReadBuffer::default(),
            accepted: 0,
            blocked: false,
            hung_up: false,
            owes_quick_ack: false,
            remote,
        }
    }

    /// What it is with.
    pub(in crate::mqtt) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Adds what to poll for.
    pub(in crate::mqtt) fn interest<'a>(&'a self, session: &ClientSession, fds: &mut Vec<PollFd<'a>>) {
        let mut flags = if session.is_paused() { PollFlags::empty() } else { PollFlags::IN };
        flags.set(PollFlags::OUT, self.blocked || session.bytes_to_send().len() > self.accepted);
        if !self.hung_up {
            fds.push(PollFd::from_borrowed_fd(self.transport.as_fd(), flags | self.transport.needs()));
        }
    }

    /// Whether [`Connection::drive`] would read something that poll(2) does not see.
    pub(in crate::mqtt) fn has_unread(&self, session: &ClientSession) -> bool {
        !session.is_paused() && self.transport.has_unread()
    }

    /// Adds what to poll for after [`Connection::shutdown_write`].
    pub(in crate::mqtt) fn closing_interest<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        fds.push(PollFd::from_borrowed_fd(self.transport.as_fd(), PollFlags::IN | self.transport.needs()));
    }

    /// Reading resumes after a pause; the next read notices a hang-up by itself.
    pub(in crate::mqtt) fn resume_reading(&mut self) {
        self.hung_up = false;
    }

    /// One turn of the loop: writes, reads where `ready` says so, and does what is due.
    pub(in crate::mqtt) fn drive(
        &mut self,
        session: &mut ClientSession,
        ready: PollFlags,
        now: Instant,
    ) -> Result<(), ConnectionLost> {
        if let Err(lost) = self.write(session, now) {
            self.read_rest(session, now)?;
            return Err(lost);
        }
        // Not when it was read: what was read goes on its way first. A turn drives once more before it waits.
        if std::mem::take(&mut self.owes_quick_ack) {
            self.transport.quick_ack();
        }
        if (ready.intersects(PollFlags::IN | BROKEN) && !session.is_paused()) || self.has_unread(session) {
            self.read(session, now)?;
        }
        session.tick(now)?;
        self.write(session, now)
    }

    /// Notes what poll found. Returns whether the broker hung up while reading is paused: then there is nothing to drive,
    /// because what it sent before is read after the pause.
    pub(in crate::mqtt) fn polled(&mut self, ready: PollFlags, paused: bool) -> bool {
        if ready.intersects(PollFlags::OUT | BROKEN) {
            self.blocked = false;
        }
        let hung_up = paused && ready.intersects(BROKEN);
        self.hung_up |= hung_up;
        hung_up
    }

    /// Writes until session and transport have nothing more, or the socket takes no more.
    fn write(&mut self, session: &mut ClientSession, now: Instant) -> Result<(), ConnectionLost> {
        while !self.blocked && !session.bytes_to_send().is_empty() {
            match self.write_once(session.bytes_to_send()) {
                Ok(()) => {
                    session.bytes_sent(self.accepted, now);
                    self.accepted = 0;
                }
                Err(error) if error.kind() == WouldBlock => self.blocked = true,
                Err(error) if error.kind() == Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if !self.blocked && self.transport.needs().contains(PollFlags::OUT) {
            return match self.transport.flush() {
                Err(error) if !matches!(error.kind(), WouldBlock | Interrupted) => Err(error.into()),
                _ => Ok(()),
            };
        }
        Ok(())
    }

    /// Has the transport accept what it has not accepted of `bytes`, and the socket take it.
    fn write_once(&mut self, bytes: &[u8]) -> io::Result<()> {
        let rest = &bytes[self.accepted..];
        if !rest.is_empty() {
            match self.transport.write(rest)? {
                0 => return Err(WriteZero.into()),
                count => self.accepted += count,
            }
        }
        self.transport.flush()
    }

    /// Reads once; whether there was something.
    fn read(&mut self, session: &mut ClientSession, now: Instant) -> Result<bool, ConnectionLost> {
        match self.transport.read(self.read_buffer.space()) {
            Ok(0) => Err(ConnectionLost::at(Obstacle::Closed, "the broker closed the connection")),
            Ok(count) => {
                self.owes_quick_ack = count < MIN_BULK_READ;
                self.read_buffer.filled(count);
                session.bytes_received(self.read_buffer.data(), now)?;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => {
                // It may have been the transport's own, as TLS's tickets are; the broker's next packet waits behind that, too.
                self.owes_quick_ack = true;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what the broker sent before the connection broke.
    fn read_rest(&mut self, session: &mut ClientSession, now: Instant) -> Result<(), ConnectionLost> {
        for _ in 0..MAX_FINAL_READS {
            if session.is_paused() || !self.read(session, now)? {
                break;
            }
        }
        Ok(())
    }

    /// Tells the broker that nothing more will be written.
    pub(in crate::mqtt) fn shutdown_write(&mut self) -> io::Result<()> {
        self.transport.shutdown_write()
    }

    /// Whether [`Connection::is_at_end`] would read something that poll(2) does not see.
    pub(in crate::mqtt) fn has_rest(&self) -> bool {
        self.transport.has_unread()
    }

    /// Discards what the broker still sends, but not for ever; whether it closed its side.
    pub(in crate::mqtt) fn is_at_end(&mut self) -> bool {
        for _ in 0..MAX_FINAL_READS {
            match self.transport.read(self.read_buffer.space()) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == Interrupted => {}
                Err(error) => return error.kind() != WouldBlock,
            }
        }
        // Whatever is left is seen by poll(2), or by `has_rest`.
        false
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::io::{Read, Write};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::os::unix::net::UnixStream;
    use std::rc::Rc;

    use super::*;
    use crate::mqtt::{ClientOptions, Qos};

    /// Sends many times more before it closes, of which poll(2) sees nothing.
    struct Talker(UnixStream, usize);

    impl Read for Talker {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1.saturating_sub(1);
            Ok(if self.1 > 0 { out.len().min(1) } else { 0 })
        }
    }

    impl Write for Talker {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Talker {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Transport for Talker {
        fn has_unread(&self) -> bool {
            self.1 > 0
        }

        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn quick_ack(&self) {}
    }

    #[test]
    fn who_talks_on_at_the_end_is_heard_in_turns() {
        let talker = Talker(UnixStream::pair().unwrap().0, 10 * MAX_FINAL_READS);
        let mut connection = Connection::new(Box::new(talker), Remote::default());
        let mut turns = 0;
        while !connection.is_at_end() {
            assert!(connection.has_rest());
            turns += 1;
        }
        assert_eq!(turns, 9);
    }

    /// Notes each call; gives CONNACK, then nothing.
    struct Noted(UnixStream, Rc<RefCell<Vec<&'static str>>>, &'static [u8]);

    impl Read for Noted {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1.borrow_mut().push("read");
            if self.2.is_empty() { Err(WouldBlock.into()) } else { self.2.read(out) }
        }
    }

    impl Write for Noted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.borrow_mut().push("write");
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl AsFd for Noted {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    impl Transport for Noted {
        fn shutdown_write(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn quick_ack(&self) {
            self.1.borrow_mut().push("acknowledge");
        }
    }

    #[test]
    fn what_was_read_is_acknowledged_after_what_it_causes_is_written() {
        let (calls, now) = (Rc::default(), Instant::now());
        let broker = Noted(UnixStream::pair().unwrap().0, Rc::clone(&calls), &[0x20, 2, 0, 0]);
        let mut session = ClientSession::new(ClientOptions::new("noted")).unwrap();
        let mut connection = Connection::new(Box::new(broker), Remote::default());
        session.transport_opened(now);
        let mut drive = |session: &mut ClientSession, ready| {
            connection.drive(session, ready, now).unwrap();
            calls.take()
        };
        assert_eq!(drive(&mut session, PollFlags::IN), ["write", "read"]);
        session.publish("t", "caused".into(), Qos::AtMostOnce, false).unwrap();
        assert_eq!(drive(&mut session, PollFlags::empty()), ["write", "acknowledge"]);
        assert_eq!(drive(&mut session, PollFlags::empty()), Vec::<&str>::new(), "nothing was read");
        assert_eq!(drive(&mut session, PollFlags::IN), ["read"], "a record of TLS, without a packet");
        assert_eq!(drive(&mut session, PollFlags::empty()), ["acknowledge"]);
    }
}
