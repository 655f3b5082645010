//! Host names to addresses, on a thread of its own because getaddrinfo(3) blocks.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;

use rustix::pipe::{PipeFlags, pipe_with};

/// What looks a host name up, for a port.
pub(super) type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// The system's resolver.
pub(super) fn system_lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

/// One lookup; its descriptor becomes readable when the answer is there.
#[derive(Debug)]
pub(super) struct Resolver {
    ready: OwnedFd,
    answer: Receiver<io::Result<Vec<SocketAddr>>>,
}

impl Resolver {
    /// Starts to look up `host`.
    pub(super) fn start(lookup: Lookup, host: &str, port: u16) -> io::Result<Self> {
        let (ready, done) = pipe_with(PipeFlags::CLOEXEC)?;
        let (sender, answer) = mpsc::channel();
        let host = host.to_owned();
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            let found = lookup(&host, port);
            // The client may be gone by now. If it still waits, closing the pipe wakes it.
            drop((sender.send(found), done));
        })?;
        Ok(Self { ready, answer })
    }

    /// The addresses, once they are known.
    pub(super) fn answer(&self) -> Option<io::Result<Vec<SocketAddr>>> {
        match self.answer.try_recv() {
            Ok(found) => Some(found),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(io::Error::other("the lookup ended without a result"))),
        }
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }
}
