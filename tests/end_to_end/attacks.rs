//! Claim: an attacker who controls the broker can withhold messages, and nothing else: every loss is reported, neither
//! end is deceived, and every run can end. What does arrive is answered, whatever else is wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode};
use rumqttc::mqttbytes::{Error, QoS};
use rustix::process::Signal;

use crate::device::{Device, Identity, LINK, M2S, S2M, settings};
use crate::process::{Process, wait_until};
use crate::server::Server;

const RDYREQ: u8 = 0x25;
const RDYACK: u8 = 0x26;
const ENC: u8 = 0x27;

/// Decides whether a message is passed on now; it may deliver others through the state that it gets.
type Rule = Box<dyn FnMut(&mut State, &str, &[u8]) -> bool + Send>;

/// A broker that acknowledges everything and passes on what the test chooses.
struct Hostile {
    port: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    clients: Vec<Client>,
    rule: Option<Rule>,
    /// The messages that were held back, in order.
    kept: Vec<Vec<u8>>,
}

struct Client {
    stream: TcpStream,
    filter: String,
    acked: usize,
    sent: u16,
}

impl Hostile {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), Arc::clone(&shared));
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { port, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn rule(&self, rule: impl FnMut(&mut State, &str, &[u8]) -> bool + Send + 'static) {
        self.state().rule = Some(Box::new(rule));
    }

    /// From now on, holds back what begins with this byte, and passes on nothing else.
    fn keep_only(&self, frame_type: u8) {
        self.rule(move |state, _, payload| {
            if payload[0] == frame_type {
                state.kept.push(payload.to_vec());
            }
            false
        });
    }

    /// From now on, holds back what is sealed.
    fn keep_sealed(&self) {
        self.rule(|state, _, payload| {
            if payload[0] == ENC {
                state.kept.push(payload.to_vec());
            }
            payload[0] != ENC
        });
    }

    /// Holds back and returns the first query of `asking`: whether its peer still has their session.
    fn record_session_check(&self, asking: &Device) -> Vec<u8> {
        self.keep_only(RDYREQ);
        let asking = Process::spawn(asking.pair(&["--if-older", "1h", LINK]));
        self.wait_for_kept(1);
        asking.signal(Signal::KILL);
        asking.wait();
        self.state().kept.drain(..).next().unwrap()
    }

    fn wait_for_kept(&self, count: usize) {
        wait_until("what is to be kept back", || self.state().kept.len() >= count);
    }

    fn devices(&self) -> (Device, Device) {
        let device = |identity, mode| Device::configured(identity, &settings(&self.port, mode, "gcm"));
        let (master, slave) = (device(Identity::Station, "master"), device(Identity::Gateway, "slave"));
        master.trust("gateway", &slave);
        slave.trust("station", &master);
        (master, slave)
    }
}

impl State {
    fn deliver(&mut self, topic: &str, payload: &[u8]) {
        for client in self.clients.iter_mut().filter(|client| client.filter == topic) {
            client.sent += 1;
            let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
            publish.pkid = client.sent;
            write(&client.stream, &Packet::Publish(publish));
        }
    }

    fn acked(&self) -> usize {
        self.clients.iter().map(|client| client.acked).sum()
    }
}

fn write(mut stream: &TcpStream, packet: &Packet) {
    let mut bytes = BytesMut::new();
    packet.write(&mut bytes, usize::MAX).unwrap();
    // The client may have disconnected.
    stream.write_all(&bytes).ok();
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let (mut input, mut chunk) = (BytesMut::new(), [0; 4096]);
    let is_ours = |client: &Client| client.stream.peer_addr().ok() == stream.peer_addr().ok();
    while let Ok(count @ 1..) = { stream }.read(&mut chunk) {
        input.extend_from_slice(&chunk[..count]);
        loop {
            let packet = match Packet::read(&mut input, usize::MAX) {
                Ok(packet) => packet,
                Err(Error::InsufficientBytes(_)) => break,
                Err(error) => panic!("not MQTT: {error}"),
            };
            match packet {
                Packet::Connect(_) => write(stream, &Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))),
                Packet::Subscribe(subscribe) => {
                    let filter = subscribe.filters[0].path.clone();
                    let granted = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
                    // The lock makes publishers wait: nothing is delivered before SUBACK.
                    let clients = &mut state.lock().unwrap().clients;
                    write(stream, &suback(subscribe.pkid, granted));
                    clients.push(Client { stream: stream.try_clone().unwrap(), filter, acked: 0, sent: 0 });
                }
                Packet::Publish(publish) => {
                    if publish.qos == QoS::AtLeastOnce {
                        write(stream, &Packet::PubAck(PubAck::new(publish.pkid)));
                    }
                    let mut state = state.lock().unwrap();
                    let mut rule = state.rule.take();
                    if rule.as_mut().is_none_or(|rule| rule(&mut state, &publish.topic, &publish.payload)) {
                        state.deliver(&publish.topic, &publish.payload);
                    }
                    state.rule = rule;
                }
                Packet::PubAck(_) => {
                    let mut state = state.lock().unwrap();
                    if let Some(client) = state.clients.iter_mut().find(|client| is_ours(client)) {
                        client.acked += 1;
                    }
                }
                Packet::Disconnect => drop(stream.shutdown(Shutdown::Both)),
                _ => {}
            }
        }
    }
    state.lock().unwrap().clients.retain(|client| !is_ours(client));
}

/// What a tool did with a replayed session check.
#[derive(Default)]
struct Replayed {
    /// The first byte of each message that the tool published.
    published: Vec<u8>,
    /// How often it acknowledged the check.
    acked: usize,
    is_over: bool,
}

/// Serves one connection of a tool: acknowledges none of its messages, and delivers `check` to it, even if it has not
/// subscribed, and again each time that it has acknowledged it.
fn replay(stream: &TcpStream, check: &[u8], replayed: &Mutex<Replayed>) {
    let (mut input, mut chunk) = (BytesMut::new(), [0; 4096]);
    let deliver = |pkid| {
        let mut publish = Publish::new(M2S, QoS::AtLeastOnce, check);
        publish.pkid = pkid;
        write(stream, &Packet::Publish(publish));
    };
    while let Ok(count @ 1..) = { stream }.read(&mut chunk) {
        input.extend_from_slice(&chunk[..count]);
        while let Ok(packet) = Packet::read(&mut input, usize::MAX) {
            let mut replayed = replayed.lock().unwrap();
            match packet {
                Packet::Connect(_) => write(stream, &Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))),
                Packet::Subscribe(subscribe) => {
                    write(stream, &suback(subscribe.pkid, vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)]));
                }
                Packet::Publish(publish) => {
                    if replayed.published.is_empty() {
                        deliver(1);
                    }
                    replayed.published.push(publish.payload[0]);
                }
                Packet::PubAck(ack) => {
                    replayed.acked += 1;
                    drop(replayed);
                    // Leave some processor time to the others.
                    thread::sleep(Duration::from_millis(10));
                    deliver(ack.pkid % 1000 + 1);
                }
                _ => {}
            }
        }
    }
    replayed.lock().unwrap().is_over = true;
}

fn suback(pkid: u16, granted: Vec<SubscribeReasonCode>) -> Packet {
    Packet::SubAck(SubAck::new(pkid, granted))
}

fn pair(master: &Device, slave: &Device, timeout: &str) -> [i32; 2] {
    let tools = [slave, master].map(|device| Process::spawn(device.pair(&["--timeout", timeout, LINK])));
    tools.map(|tool| tool.wait().status)
}

/// Step 5 of an attempt that the master has given up arrives after the slave has stored the next attempt.
#[test]
fn both_ends_never_end_with_sessions_that_differ() {
    let broker = Hostile::start();
    let (master, slave) = broker.devices();
    let mut first: Option<Vec<u8>> = None;
    broker.rule(move |state, topic, payload| match (payload[0], &first) {
        (RDYREQ, None) => {
            first = Some(payload.to_vec());
            false
        }
        (RDYREQ, Some(held)) if *held != payload => {
            state.deliver(topic, payload);
            state.deliver(topic, held);
            false
        }
        (RDYREQ, Some(_)) => false,
        (RDYACK, Some(held)) => topic == M2S || held[1..17] != payload[1..17],
        _ => true,
    });
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    let receiver = slave.listen(&["--once"]);
    master.send_all(&[], "a line\n").succeeded();
    receiver.wait().succeeded().wrote(b"a line\n");
}

/// The master uses a session from step 6 on. Even if step 7 is lost, what it sent under this session can be read.
#[test]
fn what_was_sent_before_the_next_pairing_opens_after_it() {
    let broker = Hostile::start();
    let (master, slave) = broker.devices();
    broker.rule(|_, topic, payload| topic == S2M || payload[0] != RDYACK);
    assert_eq!(pair(&master, &slave, "12"), [75, 0]);
    broker.keep_sealed();
    master.send_all(&[], "before\n").succeeded();
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    master.send_all(&[], "after\n").succeeded();

    let receiver = slave.listen(&[]);
    let kept = broker.state().kept.clone();
    for payload in &kept {
        broker.state().deliver(M2S, payload);
    }
    receiver.wait_for_stdout(b"before\nafter\n");
    assert!(!receiver.stop().succeeded().stderr.contains("dropped"));
}

/// The end of a stream arrives while its last lines wait for an unfinished line of another stream; then the receiver is
/// killed.
#[test]
fn nothing_is_acknowledged_while_earlier_bytes_of_its_stream_wait() {
    let broker = Hostile::start();
    let (master, slave) = broker.devices();
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    broker.keep_sealed();
    let mut sender = Process::spawn(master.send(&[LINK]));
    sender.write("held\n");
    broker.wait_for_kept(1);
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    let looked = Instant::now();
    wait_until("the next look for a session", || looked.elapsed() > Duration::from_millis(1100));
    sender.write("next\n");
    broker.wait_for_kept(3);
    let mut other = Process::spawn(master.send(&["-b", LINK]));
    other.write("unfinished");
    broker.wait_for_kept(4);
    let kept = broker.state().kept.clone();

    let receiver = slave.listen(&[]);
    for payload in [&kept[3], &kept[0], &kept[1], &kept[0]] {
        broker.state().deliver(M2S, payload);
    }
    receiver.wait_for_stdout(b"unfinished");
    wait_until("the first acknowledgement", || broker.state().acked() == 1);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(broker.state().acked(), 1, "the others wait");
    receiver.signal(Signal::KILL);
    drop(receiver);

    let receiver = slave.listen(&[]);
    for payload in &kept[..3] {
        broker.state().deliver(M2S, payload);
    }
    receiver.wait_for_stdout(b"held\nnext\n");
    receiver.stop().succeeded();
    sender.close_stdin();
    sender.wait().succeeded();
    other.stop().succeeded();
}

/// A new stream arrives before the end of the stream that it continues, and the receiver is killed while it waits.
#[test]
fn nothing_is_acknowledged_while_its_stream_waits_for_another() {
    let broker = Hostile::start();
    let (master, slave) = broker.devices();
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    broker.keep_sealed();
    let mut sender = Process::spawn(master.send(&[LINK]));
    sender.write("old\n");
    broker.wait_for_kept(1);
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    let looked = Instant::now();
    wait_until("the next look for a session", || looked.elapsed() > Duration::from_millis(1100));
    sender.write("new\n");
    sender.close_stdin();
    sender.wait().succeeded();
    let kept = broker.state().kept.clone();
    let (old, new) = kept.split_at(2);

    let receiver = slave.listen(&[]);
    for payload in new {
        broker.state().deliver(M2S, payload);
    }
    broker.state().deliver(M2S, &[ENC; 60]);
    receiver.wait_for("dropped a message");
    wait_until("the junk's acknowledgement", || broker.state().acked() == 1);
    thread::sleep(Duration::from_millis(100));
    assert_eq!((broker.state().acked(), receiver.stdout()), (1, Vec::new()), "the others wait");
    receiver.signal(Signal::KILL);
    drop(receiver);

    let receiver = slave.listen(&[]);
    for payload in new.iter().chain(old) {
        broker.state().deliver(M2S, payload);
    }
    receiver.wait_for_stdout(b"old\nnew\n");
    wait_until("all acknowledgements", || broker.state().acked() == kept.len());
    assert!(!receiver.stop().succeeded().stderr.contains("gap"));
}

/// Standard output is blocked, and junk adds nothing to it: the junk must not accumulate in memory either.
#[test]
fn a_blocked_receiver_reads_only_so_much_junk() {
    let broker = Hostile::start();
    let (master, slave) = broker.devices();
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = slave.recv(&[LINK]);
    command.stdout(writer).stderr(std::process::Stdio::piped());
    let receiver = Process::started(command);
    wait_until("sts-recv to subscribe", || broker.state().clients.len() == 1);
    master.send_all(&["-b"], vec![b'x'; 200_000]).succeeded();
    thread::sleep(Duration::from_millis(500));

    let mut stream = broker.state().clients[0].stream.try_clone().unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut junk = BytesMut::new();
    for _ in 0..10_000 {
        Packet::Publish(Publish::new("m2s", QoS::AtMostOnce, "j")).write(&mut junk, usize::MAX).unwrap();
    }
    let blocked = (0..1000).any(|_| stream.write_all(&junk).is_err());
    assert!(blocked, "80 MB of junk were read while nobody read stdout");
    assert!(receiver.memory() < 64 << 20, "{} bytes", receiver.memory());
    drop(reader);
}

/// Only a run with `--confirm` answers. The acknowledgement of an answer does not count as progress: otherwise a broker
/// could keep the run going for ever.
#[test]
fn a_session_check_that_is_played_again_and_again_keeps_no_sender() {
    let broker = Hostile::start();
    let (master, slave) = broker.devices();
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    let check = broker.record_session_check(&slave);
    for (args, status, why, answers) in [
        (&["--timeout", "1"][..], 75, "timed out", false),
        (&[], 65, "stopped by a signal", false),
        (&["--confirm"], 65, "stopped by a signal", true),
    ] {
        let (replayed, check) = (Arc::new(Mutex::new(Replayed::default())), check.clone());
        let shared = Arc::clone(&replayed);
        let server = Server::start(move |_, stream| replay(&stream, &check, &shared));
        let port = format!("port={}", server.port());
        let mut sender = Process::spawn(master.send(&[args, &["-v", "-o", &port, LINK]].concat()));
        sender.wait_for("connected to");
        sender.write("never acknowledged\n");
        if status == 65 {
            wait_until("the check to be taken", || replayed.lock().unwrap().acked > 0);
            sender.signal(Signal::TERM);
        }
        sender.wait().failed(&[status], &[why, "unacknowledged"]);
        wait_until("the connection to end", || replayed.lock().unwrap().is_over);
        let published = &replayed.lock().unwrap().published;
        assert_eq!(published[0], ENC);
        assert_eq!(published.iter().any(|&first| first != ENC), answers, "{published:x?}");
    }
}

#[test]
fn a_service_answers_session_checks_while_known_peers_cannot_be_read() {
    let broker = Hostile::start();
    let (master, slave) = broker.devices();
    assert_eq!(pair(&master, &slave, "30"), [0, 0]);
    let check = broker.record_session_check(&master);
    let serving = Process::spawn(slave.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    slave.write("known_peers", "neither a name nor a key\n", 0o600);
    broker.keep_only(RDYACK);
    broker.state().deliver(M2S, &check);
    broker.wait_for_kept(1);
    serving.stop().failed(&[0], &["known_peers"]);
}
