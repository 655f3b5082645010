//! Claim: the client works with a real mosquitto: every quality of service, restarts, refusals, and limits.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sts::Exit;
use sts::mqtt::{Client, ClientOptions, Endpoint, Event, Login, Message, Qos};
use sts::secret::Password;
use tempfile::TempDir;

const EVENT_TIMEOUT: Duration = Duration::from_secs(60);

/// A mosquitto of its own, on a free port, gone with this value.
struct Broker {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Broker {
    fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// With files beside its configuration, which names their directory `DIR`.
    fn start_with(config: &str, files: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        // As root, mosquitto reads its files as a user of its own.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let config = config.replace("DIR", dir.path().to_str().unwrap());
        fs::write(dir.path().join("conf"), format!("listener {port} 127.0.0.1\n{config}")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut broker = Self { dir, port, child: None };
        broker.run();
        broker
    }

    fn run(&mut self) {
        let mosquitto = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"];
        let mosquitto = mosquitto.into_iter().find(|path| fs::exists(path).unwrap()).expect("mosquitto is installed");
        let mut command = Command::new(mosquitto);
        command.arg("-c").arg(self.dir.path().join("conf")).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < EVENT_TIMEOUT, "mosquitto does not answer");
            sleep(Duration::from_millis(5));
        }
    }

    /// kill -9.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn client(&self, change: impl FnOnce(&mut ClientOptions)) -> Client {
        let mut options = ClientOptions::new(format!("test-{:016x}", rand::random::<u64>()));
        change(&mut options);
        connecting(Endpoint::tcp("127.0.0.1", self.port), options)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client that begins to connect when it is first driven.
fn connecting(endpoint: Endpoint, options: ClientOptions) -> Client {
    let mut client = Client::new(endpoint, options).unwrap();
    client.connect(Instant::now());
    client
}

/// One turn of a tool's loop, for any number of clients.
fn turn(clients: &mut [&mut Client]) {
    let now = Instant::now();
    let longest = now + Duration::from_millis(50);
    let until = clients.iter().filter_map(|client| client.deadline()).min().unwrap_or(longest).min(longest);
    let wait = until.saturating_duration_since(now);
    let ready: Vec<_> = {
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        let mut counts = Vec::new();
        for client in clients.iter() {
            let before = fds.len();
            client.interest(&mut fds);
            counts.push(fds.len() - before);
        }
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: wait.as_nanos().try_into().unwrap() })).unwrap();
        let mut found = fds.iter().map(PollFd::revents);
        let ready = |count| found.by_ref().take(count).fold(PollFlags::empty(), PollFlags::union);
        counts.into_iter().map(ready).collect()
    };
    for (client, ready) in clients.iter_mut().zip(ready) {
        client.drive(Instant::now(), ready);
    }
}

/// Drives a client until `pick` makes something of an event; events before it are dropped.
fn wait<T>(client: &mut Client, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        while let Some(event) = client.next_event() {
            if let Some(found) = pick(event) {
                return found;
            }
        }
        assert!(start.elapsed() < EVENT_TIMEOUT, "nothing came");
        turn(&mut [&mut *client]);
    }
}

fn up(client: &mut Client) -> bool {
    wait(client, |event| if let Event::Up { session_present } = event { Some(session_present) } else { None })
}

fn down(client: &mut Client) -> String {
    wait(client, |event| if let Event::Down { outage, .. } = event { Some(outage.to_string()) } else { None })
}

fn subscribed(client: &mut Client) -> Qos {
    wait(client, |event| if let Event::Subscribed { granted, .. } = event { Some(granted) } else { None })
}

fn refused(client: &mut Client) -> sts::Error {
    wait(client, |event| if let Event::Refused(refusal) = event { Some(refusal.error) } else { None })
}

fn message(client: &mut Client) -> Message {
    wait(client, |event| if let Event::Message(message) = event { Some(message) } else { None })
}

fn acknowledged(client: &mut Client) {
    wait(client, |event| if let Event::Acknowledged(_) = event { Some(()) } else { None });
}

/// Sends what was acknowledged, waits for DISCONNECT and its echo.
fn disconnect(mut client: Client) {
    client.disconnect();
    wait(&mut client, |event| if let Event::Closed = event { Some(()) } else { None });
    let mut fds = Vec::new();
    client.interest(&mut fds);
    assert!(fds.is_empty() && client.deadline().is_none());
}

fn text(number: u32) -> Bytes {
    Bytes::from(format!("message {number}"))
}

#[test]
fn messages_cross_at_every_quality_of_service() {
    let broker = Broker::start("allow_anonymous true\n");
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut receiver = broker.client(|_| {});
        receiver.subscribe("to/#", qos, Instant::now()).unwrap();
        assert_eq!(subscribed(&mut receiver), qos);
        let mut sender = broker.client(|_| {});
        let token = sender.publish("to/you", Bytes::from_static(b"hello"), qos, false).unwrap();
        let found = wait(&mut sender, |event| if let Event::Acknowledged(token) = event { Some(token) } else { None });
        assert_eq!((found, sender.unacknowledged().messages), (token, 0));
        let got = message(&mut receiver);
        assert_eq!((got.topic.as_str(), &got.payload[..], got.qos, got.dup), ("to/you", &b"hello"[..], qos, false));
        receiver.ack(got.receipt);
        disconnect(receiver);
        disconnect(sender);
    }
}

#[test]
fn a_large_payload_and_an_empty_one_arrive_whole_and_one_over_the_limit_is_read_past() {
    let broker = Broker::start("allow_anonymous true\n");
    let mut client = broker.client(|options| {
        options.limits.max_send = 8 << 20;
        options.limits.max_receive = 2 << 20;
        options.limits.in_flight.bytes = 32 << 20;
    });
    client.subscribe("t", Qos::AtLeastOnce, Instant::now()).unwrap();
    subscribed(&mut client);
    let large: Bytes = (0..2_000_000_u32).map(|at| at.to_le_bytes()[1]).collect();
    for payload in [Bytes::from(vec![0; 4 << 20]), large.clone(), Bytes::new()] {
        client.publish("t", payload, Qos::AtLeastOnce, false).unwrap();
    }
    let receipt = wait(&mut client, |event| match event {
        Event::Oversize { len, receipt, .. } => Some((len, receipt)),
        _ => None,
    });
    assert_eq!(receipt.0, 4 << 20);
    client.ack(receipt.1);
    for expected in [large, Bytes::new()] {
        let got = message(&mut client);
        assert!(got.payload == expected);
        client.ack(got.receipt);
    }
    disconnect(client);
}

#[test]
fn everything_at_qos_0_is_with_the_broker_when_the_client_has_closed() {
    let broker = Broker::start("allow_anonymous true\nmax_queued_messages 0\n");
    let mut receiver = broker.client(|_| {});
    receiver.subscribe("t", Qos::AtMostOnce, Instant::now()).unwrap();
    subscribed(&mut receiver);
    let mut sender = broker.client(|options| options.limits.in_flight.bytes = 16 << 20);
    for number in 0..5000 {
        sender.publish("t", text(number), Qos::AtMostOnce, false).unwrap();
    }
    let mut acknowledged = 0;
    let mut expected = 0;
    while acknowledged < 5000 || expected < 5000 {
        turn(&mut [&mut sender, &mut receiver]);
        while let Some(event) = sender.next_event() {
            acknowledged += u32::from(matches!(event, Event::Acknowledged(_)));
        }
        while let Some(event) = receiver.next_event() {
            if let Event::Message(message) = event {
                assert_eq!(message.payload, text(expected));
                expected += 1;
            }
        }
    }
    disconnect(sender);
}

#[test]
fn every_message_is_acknowledged_though_the_broker_is_killed_again_and_again() {
    let mut broker = Broker::start("allow_anonymous true\nmax_queued_messages 0\n");
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut receiver = broker.client(|options| options.clean_session = false);
        receiver.subscribe("t", qos, Instant::now()).unwrap();
        subscribed(&mut receiver);
        let mut sender = broker.client(|options| options.limits.in_flight.messages = 100);
        let (mut next, mut acknowledged, mut kills) = (0, 0, 0);
        let start = Instant::now();
        while acknowledged < 20_000 {
            assert!(start.elapsed() < 3 * EVENT_TIMEOUT, "stuck at {acknowledged} of {next} after {kills} kills");
            while next < 20_000 && sender.has_room(100) {
                sender.publish("t", text(next), qos, false).unwrap();
                next += 1;
            }
            turn(&mut [&mut sender, &mut receiver]);
            while let Some(event) = sender.next_event() {
                match event {
                    Event::Acknowledged(_) => acknowledged += 1,
                    Event::Refused(refusal) => panic!("{}", refusal.error),
                    _ => {}
                }
            }
            while let Some(event) = receiver.next_event() {
                if let Event::Message(message) = event {
                    receiver.ack(message.receipt);
                }
            }
            if acknowledged > (kills + 1) * 2000 && kills < 8 {
                broker.kill();
                broker.run();
                kills += 1;
            }
        }
        assert_eq!((kills, sender.unacknowledged().messages), (8, 0));
        disconnect(sender);
    }
}

#[test]
fn a_broker_that_is_not_there_yet_is_waited_for() {
    let mut broker = Broker::start("allow_anonymous true\n");
    broker.kill();
    let mut client = broker.client(|_| {});
    client.publish("t", text(1), Qos::AtLeastOnce, false).unwrap();
    let why = down(&mut client);
    assert!(why.contains("refused") && why.contains(&broker.port.to_string()), "{why}");
    broker.run();
    acknowledged(&mut client);
    disconnect(client);
}

#[test]
fn names_are_looked_up_and_a_wrong_one_is_an_ordinary_failure() {
    let broker = Broker::start("allow_anonymous true\n");
    let mut client = connecting(Endpoint::tcp("localhost", broker.port), ClientOptions::new("by-name"));
    assert!(!up(&mut client));
    disconnect(client);
    let nowhere = Endpoint::tcp("no-such-host.invalid", 1883);
    let mut client = connecting(nowhere, ClientOptions::new("nowhere"));
    assert!(down(&mut client).starts_with("no-such-host.invalid:1883: "));
    disconnect(client);
}

#[test]
fn a_wrong_password_is_an_error_with_a_remedy() {
    let broker = Broker::start("allow_anonymous false\n");
    let mut client = broker.client(|options| {
        options.login = Some(Login { username: "me".into(), password: Some(Password::new("wrong".into())) });
    });
    let error = refused(&mut client);
    assert_eq!(error.exit(), Exit::Unavailable);
    assert!(error.hint_text().unwrap().contains("password"), "{error}");
}

#[test]
fn a_subscription_that_is_not_allowed_names_its_topic() {
    // An `acl_file` lets mosquitto grant such a subscription and deliver nothing; its plugin answers 0x80.
    let roles = r#"{"defaultACLAccess": {"publishClientSend": true, "publishClientReceive": true, "subscribe": false},
        "anonymousGroup": "all", "clients": [], "groups": [{"groupname": "all", "roles": [{"rolename": "open"}]}],
        "roles": [{"rolename": "open", "acls": [{"acltype": "subscribePattern", "topic": "open/#", "allow": true}]}]}"#;
    let config = format!("allow_anonymous true\nplugin {}\nplugin_opt_config_file DIR/roles\n", plugin().display());
    let broker = Broker::start_with(&config, &[("roles", roles)]);
    let mut client = broker.client(|_| {});
    client.subscribe("open/a", Qos::AtLeastOnce, Instant::now()).unwrap();
    assert_eq!(subscribed(&mut client), Qos::AtLeastOnce);
    client.subscribe("closed/a", Qos::AtLeastOnce, Instant::now()).unwrap();
    // What it granted says that it works: this may be granted later.
    let warning = wait(&mut client, |event| if let Event::Warning(error) = event { Some(error) } else { None });
    assert!(warning.to_string().contains("closed/a"), "{warning}");
    disconnect(client);
}

/// mosquitto's access control plugin: below `/usr/lib`, in a directory named after the machine on some systems.
fn plugin() -> PathBuf {
    let machines = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut places = machines.chain([PathBuf::from("/usr/lib")]).map(|dir| dir.join("mosquitto_dynamic_security.so"));
    places.find(|path| path.exists()).expect("mosquitto has its plugin")
}

#[test]
fn a_burst_at_qos_2_arrives_whole_and_once() {
    let broker = Broker::start("allow_anonymous true\n");
    let mut receiver = broker.client(|_| {});
    receiver.subscribe("t", Qos::ExactlyOnce, Instant::now()).unwrap();
    subscribed(&mut receiver);
    let mut sender = broker.client(|_| {});
    for number in 0..500 {
        sender.publish("t", text(number), Qos::ExactlyOnce, false).unwrap();
    }
    let start = Instant::now();
    let mut expected = 0;
    while expected < 500 || sender.unacknowledged().messages > 0 {
        assert!(start.elapsed() < EVENT_TIMEOUT, "{expected} came");
        turn(&mut [&mut sender, &mut receiver]);
        while let Some(event) = receiver.next_event() {
            if let Event::Message(message) = event {
                assert_eq!(message.payload, text(expected));
                receiver.ack(message.receipt);
                expected += 1;
            }
        }
    }
    disconnect(sender);
    disconnect(receiver);
}

#[test]
fn a_message_over_the_brokers_limit_is_named_and_not_sent_for_ever() {
    let broker = Broker::start("allow_anonymous true\nmax_packet_size 1000\n");
    let mut client = broker.client(|_| {});
    client.publish("t", text(1), Qos::AtLeastOnce, false).unwrap();
    client.publish("t", vec![b'x'; 5000].into(), Qos::AtLeastOnce, false).unwrap();
    client.publish("t", text(2), Qos::AtLeastOnce, false).unwrap();
    let error = refused(&mut client);
    assert_eq!(error.exit(), Exit::DataLost);
    assert!(error.to_string().contains("5000 bytes"), "{error}");
    assert!(error.hint_text().unwrap().contains("max_message"));
    assert_eq!(client.unacknowledged().messages, 2);
}

#[test]
fn two_clients_with_one_identifier_are_told() {
    let broker = Broker::start("allow_anonymous true\n");
    let mut one = broker.client(|options| options.client_id = "same".into());
    let mut other = broker.client(|options| options.client_id = "same".into());
    let start = Instant::now();
    loop {
        assert!(start.elapsed() < EVENT_TIMEOUT);
        turn(&mut [&mut one, &mut other]);
        let mut events = std::iter::from_fn(|| one.next_event().or_else(|| other.next_event()));
        if events.any(|event| matches!(event, Event::Contested { .. })) {
            break;
        }
    }
}

#[test]
fn what_was_not_acknowledged_comes_again_to_a_persistent_session() {
    let broker = Broker::start("allow_anonymous true\n");
    let persistent = || {
        broker.client(|options| {
            options.client_id = "persistent".into();
            options.clean_session = false;
        })
    };
    let mut receiver = persistent();
    receiver.subscribe("t", Qos::AtLeastOnce, Instant::now()).unwrap();
    subscribed(&mut receiver);
    let mut sender = broker.client(|_| {});
    for number in 0..3 {
        sender.publish("t", text(number), Qos::AtLeastOnce, false).unwrap();
        acknowledged(&mut sender);
    }
    let first = message(&mut receiver);
    assert_eq!(first.payload, text(0));
    receiver.ack(first.receipt);
    assert_eq!(message(&mut receiver).payload, text(1));
    disconnect(receiver);
    let mut receiver = persistent();
    assert!(up(&mut receiver));
    for number in 1..3 {
        let got = message(&mut receiver);
        assert_eq!(got.payload, text(number));
        receiver.ack(got.receipt);
    }
    disconnect(receiver);
}

#[test]
fn pausing_holds_messages_back_without_a_busy_loop() {
    let mut broker = Broker::start("allow_anonymous true\n");
    let mut receiver = broker.client(|_| {});
    receiver.subscribe("t", Qos::AtMostOnce, Instant::now()).unwrap();
    subscribed(&mut receiver);
    receiver.pause_reading(true, Instant::now());
    let mut sender = broker.client(|_| {});
    sender.publish("t", text(7), Qos::AtLeastOnce, false).unwrap();
    acknowledged(&mut sender);
    for _ in 0..3 {
        turn(&mut [&mut receiver]);
    }
    assert!(receiver.next_event().is_none());
    broker.kill();
    // A hang-up shows at every poll, whatever is asked for: so nothing must be asked for any more.
    let start = Instant::now();
    for _ in 0..5 {
        turn(&mut [&mut receiver]);
    }
    assert!(start.elapsed() > Duration::from_millis(150));
    receiver.pause_reading(false, Instant::now());
    assert_eq!(message(&mut receiver).payload, text(7));
    down(&mut receiver);
}
