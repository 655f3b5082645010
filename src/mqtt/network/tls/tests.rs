//! A connection over a socket that takes little at a time, to a stand-in for a broker that returns what it receives.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::thread;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustls::{ServerConfig, ServerConnection};

use super::tickets::broker_for_tests;
use super::*;
use crate::mqtt::connection_lost::Finality;
use crate::mqtt::tls_options::TicketPlace;

/// Bytes that cross in each direction.
const LEN: usize = 3_000_000;

/// Most bytes that the client may hold back: what was written and not taken is not taken twice.
const MAX_HELD: usize = 200_000;

const TOKEN: [u8; 32] = [7; 32];

fn layer() -> TlsLayer {
    TlsLayer::new(TlsOptions { pin: Some(crate::mqtt::KeyPin::of(b"none has it")), ..TlsOptions::default() }).unwrap()
}

/// A connection that has not begun, and the other end of its socket.
fn connect(layer: &TlsLayer) -> (Box<dyn Transport>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    // The kernel makes the least of it.
    for socket in [&ours, &theirs] {
        set_socket_send_buffer_size(socket, 1).unwrap();
    }
    (layer.open(Box::new(ours), &Node { host: "localhost".to_owned(), port: 1 }).unwrap(), theirs)
}

/// Accepts, returns all that comes, and says how the connection ended.
fn echo(suite: u16, mut socket: UnixStream) -> thread::JoinHandle<std::io::Result<usize>> {
    let config = Arc::new(broker_for_tests(suite, &tap::provider(), TOKEN));
    thread::spawn(move || {
        let mut tls = ServerConnection::new(config).unwrap();
        tls.complete_io(&mut socket)?;
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        let (mut buffer, mut total) = (vec![0; 50_000], 0);
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(total),
                count => {
                    stream.write_all(&buffer[..count])?;
                    total += count;
                }
            }
        }
    })
}

fn wait(transport: &dyn Transport, flags: PollFlags) {
    if !transport.has_unread() {
        let socket = transport.as_fd();
        let mut fds = [PollFd::new(&socket, flags | transport.needs())];
        rustix::event::poll(&mut fds, None).unwrap();
    }
}

fn pattern(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

/// The client's part: sends and receives as sockets allow, with reads of `room` bytes.
fn exchange(transport: &mut dyn Transport, room: usize) {
    while transport.handshake().is_pending() {
        wait(transport, PollFlags::empty());
    }
    let input: Vec<u8> = (0..LEN).map(pattern).collect();
    let (mut accepted, mut received, mut buffer) = (0, 0, vec![0; room]);
    while received < LEN {
        let mut flags = PollFlags::IN;
        if accepted < LEN {
            match transport
                .write(&input[accepted..])
                .and_then(|count| transport.flush().map_or(Ok(count), |()| Ok(count)))
            {
                Ok(count) => accepted += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            flags |= PollFlags::OUT;
        } else {
            let _ = transport.flush();
        }
        match transport.read(&mut buffer) {
            Ok(count) => {
                assert!(
                    count > 0 && buffer[..count].iter().enumerate().all(|(at, byte)| *byte == pattern(received + at))
                );
                received += count;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                wait(transport, flags);
            }
        }
    }
    assert_eq!(accepted, LEN);
}

#[test]
fn bytes_cross_in_both_directions_however_little_the_socket_takes() {
    for (suite, room) in [(0x1301, 64 << 10), (0x1302, 1000), (0x1303, 300_000)] {
        let layer = layer();
        let (mut transport, socket) = connect(&layer);
        let verifier = Arc::clone(&layer.setup.lock().unwrap().verifier);
        let broker = echo(suite, socket);
        verifier.with_stand_in(TOKEN, || exchange(&mut *transport, room));
        transport.shutdown_write().unwrap();
        assert_eq!(broker.join().unwrap().unwrap(), LEN, "an end without close_notify would be an error");
    }
}

#[test]
fn what_the_socket_does_not_take_is_bounded_and_not_flushed() {
    let layer = layer();
    let (mut transport, socket) = connect(&layer);
    let verifier = Arc::clone(&layer.setup.lock().unwrap().verifier);
    let config = Arc::new(broker_for_tests(0x1301, &tap::provider(), TOKEN));
    let broker = thread::spawn(move || {
        let (mut tls, mut socket) = (ServerConnection::new(config).unwrap(), socket);
        tls.complete_io(&mut socket).unwrap();
        socket
    });
    verifier.with_stand_in(TOKEN, || {
        while transport.handshake().is_pending() {
            wait(&*transport, PollFlags::empty());
        }
    });
    // What the handshake ends with leaves now, and the broker reads no more.
    let _ = transport.flush();
    let (zeros, mut accepted) = (vec![0; 1 << 20], 0);
    let begin = Instant::now();
    while begin.elapsed().as_secs() < 60 {
        match transport.write(&zeros) {
            Ok(count) => accepted += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    assert!(accepted < MAX_HELD, "{accepted}");
    assert_eq!(transport.flush().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(transport.needs().contains(PollFlags::OUT));
    drop(broker.join().unwrap());
}

#[test]
fn nobody_is_accepted_for_a_token_that_is_not_asked_for() {
    let layer = layer();
    let (mut transport, socket) = connect(&layer);
    let broker = echo(0x1301, socket);
    let lost = loop {
        match transport.handshake() {
            Poll::Ready(result) => break result.unwrap_err(),
            Poll::Pending => wait(&*transport, PollFlags::empty()),
        }
    };
    assert!(lost.finality() == Finality::Final && lost.to_string().contains("certificate is not acceptable"), "{lost}");
    assert!(broker.join().unwrap().is_err());
}

/// A broker in memory, of whose bytes a read gets few.
struct InMemory {
    tls: ServerConnection,
    socket: UnixStream,
    on_its_way: std::collections::VecDeque<u8>,
    /// Most bytes that one read gets.
    room: usize,
    reads: Arc<AtomicUsize>,
}

impl Read for InMemory {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        self.reads.fetch_add(1, Relaxed);
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.on_its_way)?;
        }
        let len = out.len().min(self.room);
        match self.on_its_way.read(&mut out[..len])? {
            0 => Err(ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for InMemory {
    fn write(&mut self, mut bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.tls.read_tls(&mut bytes)?;
        self.tls.process_new_packets().map_err(std::io::Error::other)?;
        if !self.tls.is_handshaking() && self.on_its_way.is_empty() {
            self.tls.writer().write_all(b"payload")?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl AsFd for InMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Transport for InMemory {
    fn shutdown_write(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn quick_ack(&self) {}
}

/// It, and how often it was read.
fn in_memory(config: &Arc<ServerConfig>, room: usize) -> (InMemory, Arc<AtomicUsize>) {
    let reads = Arc::new(AtomicUsize::new(0));
    let lower = InMemory {
        tls: ServerConnection::new(Arc::clone(config)).unwrap(),
        socket: UnixStream::pair().unwrap().0,
        on_its_way: std::collections::VecDeque::new(),
        room,
        reads: Arc::clone(&reads),
    };
    (lower, reads)
}

/// Of one call, whatever comes.
const MAX_READS: usize = 20;

#[test]
fn a_flood_without_payload_leaves_the_loop_its_turn_and_writes_few_tickets() {
    let dir = tempfile::tempdir().unwrap();
    let place = TicketPlace { dir: dir.path().join("run"), name: "tickets".to_owned() };
    let mut layer = layer();
    layer.options.tickets = Some(place.clone());
    let verifier = Arc::clone(&layer.setup.lock().unwrap().verifier);
    let mut config = broker_for_tests(0x1301, &tap::provider(), TOKEN);
    config.send_tls13_tickets = 1000;
    let (lower, reads) = in_memory(&Arc::new(config), 20);
    let node = Node { host: "localhost".to_owned(), port: 1 };
    let mut transport = layer.open(Box::new(lower), &node).unwrap();
    verifier.with_stand_in(TOKEN, || {
        while transport.handshake().is_pending() {
            assert!(reads.swap(0, Relaxed) <= MAX_READS && !transport.has_unread());
        }
    });
    transport.flush().unwrap();
    let (mut buffer, mut saved) = ([0; 100], std::collections::HashSet::new());
    reads.store(0, Relaxed);
    loop {
        match transport.read(&mut buffer) {
            Ok(count) => {
                assert_eq!(&buffer[..count], b"payload");
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(reads.swap(0, Relaxed) <= MAX_READS && !transport.has_unread(), "poll(2) sees the rest");
        saved.extend(std::fs::read(place.dir.join(&place.name)));
    }
    assert!((1..=4).contains(&saved.len()), "{}", saved.len());
}

/// One connection, and what it has written down: when the certificate was checked, in a word of its file.
fn connect_once(place: &TicketPlace, config: &Arc<ServerConfig>) -> (rustls::HandshakeKind, String) {
    let mut layer = layer();
    layer.options.tickets = Some(place.clone());
    let kind = connect_again(&layer, config);
    (kind, std::fs::read_to_string(place.dir.join(&place.name)).unwrap())
}

fn connect_again(layer: &TlsLayer, config: &Arc<ServerConfig>) -> rustls::HandshakeKind {
    connect_to("localhost", layer, config)
}

fn connect_to(host: &str, layer: &TlsLayer, config: &Arc<ServerConfig>) -> rustls::HandshakeKind {
    let verifier = Arc::clone(&layer.setup.lock().unwrap().verifier);
    let node = Node { host: host.to_owned(), port: 1 };
    let lower = in_memory(config, usize::MAX).0;
    let mut transport = layer.connect(Box::new(lower), &node).unwrap();
    verifier.with_stand_in(TOKEN, || while transport.handshake().is_pending() {});
    transport.flush().unwrap();
    let _ = transport.read(&mut [0; 100]).unwrap();
    transport.handshake_kind().unwrap()
}

fn with_checked(text: &str, change: impl FnOnce(u64) -> u64) -> (String, u64) {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    let checked = change(words[4].parse().unwrap());
    words[4] = checked.to_string();
    (words.join(" "), checked)
}

#[test]
fn the_check_of_a_certificate_counts_for_a_day_however_many_tickets_follow_one_another() {
    use rustls::HandshakeKind::{Full, Resumed};

    let dir = tempfile::tempdir().unwrap();
    let place = TicketPlace { dir: dir.path().join("run"), name: "tickets".to_owned() };
    let mut config = broker_for_tests(0x1301, &tap::provider(), TOKEN);
    config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
    let config = Arc::new(config);
    let file = place.dir.join(&place.name);

    let (kind, text) = connect_once(&place, &config);
    assert_eq!(kind, Full);
    let (text, earlier) = with_checked(&text, |checked| checked - 1000);
    std::fs::write(&file, text).unwrap();
    let (kind, text) = connect_once(&place, &config);
    assert_eq!((kind, with_checked(&text, |checked| checked).1), (Resumed, earlier), "the same check");
    // In one run as well.
    let mut one_run = layer();
    one_run.options.tickets = Some(place.clone());
    assert_eq!([(); 2].map(|()| connect_again(&one_run, &config)), [Resumed, Resumed]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(with_checked(&text, |checked| checked).1, earlier);

    for change in [|checked: u64| checked - 86_400, |checked: u64| checked + 86_400] {
        let (text, _) = with_checked(&std::fs::read_to_string(&file).unwrap(), change);
        std::fs::write(&file, text).unwrap();
        let (kind, text) = connect_once(&place, &config);
        assert_eq!(kind, Full);
        assert!(with_checked(&text, |checked| checked).1 > earlier, "checked anew");
    }
}

#[test]
fn the_next_run_resumes_at_each_node_of_a_cluster() {
    use rustls::HandshakeKind::{Full, Resumed};

    let dir = tempfile::tempdir().unwrap();
    let place = TicketPlace { dir: dir.path().join("run"), name: "tickets".to_owned() };
    let nodes = ["a.example", "b.example"].map(|host| {
        let mut config = broker_for_tests(0x1301, &tap::provider(), TOKEN);
        config.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        (host, Arc::new(config))
    });
    for expected in [[Full, Full], [Resumed, Resumed], [Resumed, Resumed]] {
        let mut run = layer();
        run.options.tickets = Some(place.clone());
        assert_eq!(nodes.each_ref().map(|(host, config)| connect_to(host, &run, config)), expected);
    }
}

/// Notes the tickets that clients offer.
#[derive(Debug)]
struct NotingTicketer {
    inner: Arc<dyn rustls::server::ProducesTickets>,
    offered: Mutex<Vec<Vec<u8>>>,
}

impl rustls::server::ProducesTickets for NotingTicketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.offered.lock().unwrap().push(ticket.to_vec());
        self.inner.decrypt(ticket)
    }
}

/// A broker that sends so many tickets at a time, and those that clients offer.
fn noting(tickets: usize) -> (Arc<ServerConfig>, Arc<NotingTicketer>) {
    let inner = rustls::crypto::ring::Ticketer::new().unwrap();
    let noted = Arc::new(NotingTicketer { inner, offered: Mutex::default() });
    let mut config = broker_for_tests(0x1301, &tap::provider(), TOKEN);
    config.ticketer = Arc::clone(&noted) as _;
    config.send_tls13_tickets = tickets;
    (Arc::new(config), noted)
}

/// The tickets that were offered, none of them twice.
fn offered_once(noted: &NotingTicketer) -> usize {
    let offered = noted.offered.lock().unwrap();
    let different: std::collections::HashSet<_> = offered.iter().collect();
    assert_eq!(different.len(), offered.len(), "a ticket is offered twice");
    offered.len()
}

#[test]
fn no_ticket_is_used_twice_by_two_runs_of_a_link() {
    for tickets in [1, 2, 3] {
        let dir = tempfile::tempdir().unwrap();
        let place = TicketPlace { dir: dir.path().join("run"), name: "tickets".to_owned() };
        let (config, noted) = noting(tickets);
        let runs = [(); 2].map(|()| {
            let mut run = layer();
            run.options.tickets = Some(place.clone());
            run
        });
        for run in [0, 1, 0, 0, 1, 1, 0, 1] {
            connect_again(&runs[run], &config);
        }
        assert_eq!(offered_once(&noted), 7, "each connection but the first continues from an earlier one");
    }
}

#[test]
fn the_run_after_a_power_cut_uses_no_ticket_that_the_run_before_used() {
    for tickets in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let place = TicketPlace { dir: dir.path().join("run"), name: "tickets".to_owned() };
        let (config, noted) = noting(tickets);
        let mut run = layer();
        run.options.tickets = Some(place.clone());
        connect_again(&run, &config);
        // The power fails before the tickets of the next connection are read.
        let node = Node { host: "localhost".to_owned(), port: 1 };
        let mut transport = run.connect(Box::new(in_memory(&config, usize::MAX).0), &node).unwrap();
        while transport.handshake().is_pending() {}
        transport.flush().unwrap();
        connect_once(&place, &config);
        assert_eq!(offered_once(&noted), tickets);
    }
}
