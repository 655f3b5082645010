//! Sockets that connect without blocking.

#![expect(clippy::disallowed_types, reason = "it opens the socket")]

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use super::transport::Transport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// Starts to connect, from this local address if there is one; the socket becomes writable when that is decided, at once or
/// later.
pub(super) fn begin_tcp(address: SocketAddr, from: Option<IpAddr>) -> Result<OwnedFd, ConnectionLost> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None).map_err(io::Error::from)?;
    if let Some(from) = from {
        if from.is_ipv4() != address.is_ipv4() {
            let why = format!("`bind_address` ({from}) is of another family than the broker's address");
            return Err(ConnectionLost::at(Obstacle::LocalAddress, why));
        }
        bind(&socket, &SocketAddr::new(from, 0)).map_err(|error| {
            let why = format!("cannot use {from} as local address: {}", io::Error::from(error));
            ConnectionLost::at(Obstacle::LocalAddress, why)
        })?;
    }
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// The first of these sockets on which it is decided whether it is connected.
pub(super) fn first_decided<'a>(sockets: impl Iterator<Item = &'a OwnedFd>) -> Option<usize> {
    let mut fds: Vec<_> = sockets.map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
    // Nothing is known of them if the system lacks memory; then the next turn sees it.
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).ok()?;
    fds.iter().position(|fd| !fd.revents().is_empty())
}

/// Whether the socket is connected, once that is decided.
pub(super) fn outcome(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::socket_error(socket)??)
}

/// Makes a transport of a connected socket.
pub(super) fn tcp(socket: OwnedFd) -> io::Result<Box<dyn Transport>> {
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Connects to a Unix socket, which is decided at once.
pub(super) fn unix(path: &Path) -> Result<Box<dyn Transport>, ConnectionLost> {
    let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None).map_err(io::Error::from)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Box::new(UnixStream::from(socket))),
        Err(Errno::AGAIN) => Err(ConnectionLost::new("too many connections wait for the broker to accept them")),
        Err(error) => Err(io::Error::from(error).into()),
    }
}
