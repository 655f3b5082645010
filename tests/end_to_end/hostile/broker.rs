//! The sockets and threads of a broker inside the test, which may drop, repeat, reorder and delay messages, cut
//! connections, forget sessions and fall silent.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::hub::Hub;
use super::mischief::{Fate, Mischief};

/// Number of a connection, never used twice.
pub(super) type Connection = u64;

/// What the test decides about a payload on a topic, before chance decides.
pub(super) type Filter = Box<dyn FnMut(&str, &[u8]) -> Fate + Send>;

/// Input of the thread that owns the broker's state.
pub(super) enum Input {
    Accepted(Connection, Sender<Output>),
    Bytes(Connection, Vec<u8>),
    Gone(Connection),
    Mischief(Box<Mischief>),
    Filter(Filter),
    /// Forget every session, and every message in flight.
    Forget,
    Stop,
}

/// What a connection is told to do.
pub(super) enum Output {
    Bytes(Vec<u8>),
    Cut,
}

pub(crate) struct HostileBroker {
    port: u16,
    inputs: Sender<Input>,
    hub: Option<JoinHandle<()>>,
}

impl HostileBroker {
    /// Starts a broker that is benign until told otherwise.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (inputs, inbox) = mpsc::channel();
        let accepted = inputs.clone();
        thread::spawn(move || accept(&listener, &accepted));
        let hub = thread::spawn(move || Hub::new(inbox).run());
        Self { port, inputs, hub: Some(hub) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Forgets all sessions, and from now on is hostile, for `budget` acts.
    pub(crate) fn arm(&self, seed: u64, budget: u32) {
        self.tell(Input::Forget);
        self.turn(seed, budget);
    }

    /// From now on is hostile to the existing sessions, for `budget` acts.
    pub(crate) fn turn(&self, seed: u64, budget: u32) {
        self.tell(Input::Mischief(Mischief::new(seed, budget).into()));
    }

    /// From now on, `filter` decides about each message, from its topic and payload.
    pub(crate) fn filter(&self, filter: impl FnMut(&str, &[u8]) -> Fate + Send + 'static) {
        self.tell(Input::Filter(Box::new(filter)));
    }

    fn tell(&self, input: Input) {
        assert!(self.inputs.send(input).is_ok(), "the broker's thread has ended");
    }
}

impl Drop for HostileBroker {
    fn drop(&mut self) {
        self.inputs.send(Input::Stop).ok();
        // Wakes the thread that accepts connections, so that it ends.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
        let ended = self.hub.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking(), "the broker's thread panicked");
    }
}

fn accept(listener: &TcpListener, inputs: &Sender<Input>) {
    for (connection, stream) in (0..).zip(listener.incoming()) {
        let stream = stream.unwrap();
        let writer = stream.try_clone().unwrap();
        let (outputs, outbox) = mpsc::channel();
        if inputs.send(Input::Accepted(connection, outputs)).is_err() {
            return;
        }
        let inputs = inputs.clone();
        thread::spawn(move || read(stream, connection, &inputs));
        thread::spawn(move || write(writer, &outbox));
    }
}

fn read(mut stream: TcpStream, connection: Connection, inputs: &Sender<Input>) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        if inputs.send(Input::Bytes(connection, buffer[..length].to_vec())).is_err() {
            return;
        }
    }
    inputs.send(Input::Gone(connection)).ok();
}

fn write(mut stream: TcpStream, outbox: &Receiver<Output>) {
    while let Ok(Output::Bytes(bytes)) = outbox.recv() {
        if stream.write_all(&bytes).is_err() {
            break;
        }
    }
    stream.shutdown(Shutdown::Both).ok();
}
