//! A broker inside the test that may drop, repeat, reorder and delay messages, cut connections, forget sessions and
//! fall silent: its sockets and threads.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::hub::Hub;
use super::mischief::{Fate, Mischief};

/// Number of a connection, never given twice.
pub(super) type Connection = u64;

/// What a test says of a payload on a topic, before chance does.
pub(super) type Filter = Box<dyn FnMut(&str, &[u8]) -> Fate + Send>;

/// What the broker's one thread of state hears of.
pub(super) enum Input {
    Accepted(Connection, Sender<Output>),
    Bytes(Connection, Vec<u8>),
    Gone(Connection),
    Mischief(Box<Mischief>),
    Filter(Filter),
    /// Forget every session, and what was on its way.
    Forget,
    Stop,
}

/// What a connection is to do.
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
    /// A broker that is benign until it is told otherwise.
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

    /// Forgets all sessions, and is hostile from now on, for so many acts.
    pub(crate) fn arm(&self, seed: u64, budget: u32) {
        self.tell(Input::Forget);
        self.turn(seed, budget);
    }

    /// Is hostile from now on, for so many acts, to the sessions that there are.
    pub(crate) fn turn(&self, seed: u64, budget: u32) {
        self.tell(Input::Mischief(Mischief::new(seed, budget).into()));
    }

    /// Does with each message from now on what `filter` says of its topic and payload.
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
        // Wakes the thread that accepts, which then finds nobody to tell.
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
