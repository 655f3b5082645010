//! Claim: in MQTT 3.1, 3.1.1 and 5 the tools keep the same promises; in MQTT 5 the limits of the broker are kept to and
//! its refusals named. A shared subscription divides a plain link among its readers, and leaves an encrypted one whole.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, M2S, Pair, readings, settings};
use crate::process::{Process, wait_until};
use crate::server::{Server, carry};

const VERSIONS: [&str; 3] = ["3", "4", "5"];

/// The settings of one end in this version.
fn in_version<'a>(port: &'a str, mode: &'a str, suite: &'a str, version: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut settings = settings(port, mode, suite);
    settings.retain(|(key, _)| *key != "mqtt_version");
    settings.push(("mqtt_version", version));
    settings
}

/// Two ends that trust each other, each with its own version.
pub(crate) fn pair_in(broker: &Broker, master: &str, slave: &str) -> Pair {
    let port = broker.port().to_string();
    let pair = Pair::enrolled(broker, "gcm");
    pair.master.configure(&in_version(&port, "master", "gcm", master));
    pair.slave.configure(&in_version(&port, "slave", "gcm", slave));
    pair.agree();
    pair
}

#[test]
fn both_ends_agree_and_carry_in_every_version() {
    let broker = Broker::start();
    for (master, slave) in VERSIONS.into_iter().zip(VERSIONS).chain([("3", "5"), ("5", "3")]) {
        let pair = pair_in(&broker, master, slave);
        for qos in ["qos=0", "qos=1", "qos=2"] {
            pair.carries(&["-o", qos, "--confirm"], &readings(2000));
        }
        pair.carries(&[], &readings(2000));
        pair.carries(&["--each"], &readings(100));
    }
    // As mosquitto numbers the versions.
    for protocol in ["(p1, ", "(p2, ", "(p5, "] {
        assert!(broker.times_logged(protocol) > 0, "{protocol}");
    }
}

#[test]
fn a_receiver_with_a_client_id_misses_nothing_while_it_is_away() {
    for version in VERSIONS {
        let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
        let pair = pair_in(&broker, version, version);
        pair.slave.listen(&[]).stop();
        pair.master.send_all(&[], "while it was away\n").succeeded();
        broker.restart();
        Process::spawn(pair.slave.recv(&["--once", LINK])).wait().succeeded().wrote(b"while it was away\n");
    }
}

#[test]
fn a_clean_session_is_not_kept_in_any_version() {
    for version in VERSIONS {
        let broker = Broker::start();
        let pair = pair_in(&broker, version, version);
        pair.slave.listen(&["-o", "clean_session=1"]).stop();
        pair.master.send_all(&[], "nobody has it\n").succeeded();
        let receiver = pair.slave.listen(&["--once", "-o", "clean_session=1"]);
        pair.master.send_all(&[], "now\n").succeeded();
        receiver.wait().succeeded().wrote(b"now\n");
    }
}

#[test]
fn messages_are_no_longer_than_the_broker_takes() {
    let broker = Broker::with(Options { max_packet_size: Some(4000), ..Options::default() });
    let pair = pair_in(&broker, "5", "5");
    let input = readings(1000);
    let receiver = pair.slave.listen(&["--once"]);
    let sent = pair.master.send_all(&["-v", "--confirm"], &*input).succeeded();
    assert!(sent.stderr.contains("packets of at most 4000 bytes"), "{}", sent.stderr);
    receiver.wait().succeeded().wrote(&input);
    // In MQTT 3.1.1 the broker cannot say so, and closes the connection.
    let refused = pair.master.send_all(&["-o", "mqtt_version=4"], &*input);
    refused.failed(&[65], &["did not accept a message", "max_message"]);
}

#[test]
fn what_is_in_a_spool_is_cut_to_the_limit_of_the_broker() {
    let broker = Broker::with(Options { max_packet_size: Some(4000), ..Options::default() });
    let pair = pair_in(&broker, "5", "5");
    let input = readings(1000);
    let away = ["-o", "port=1", "--timeout", "1", "--spool", "spool"];
    pair.master.send_all(&away, &*input).failed(&[75], &["left in the spool"]);
    let receiver = pair.slave.listen(&["--once"]);
    let sent = pair.master.send_all(&["--spool", "spool"], "and more\n").succeeded();
    assert!(sent.stderr.contains("cut into smaller ones"), "{}", sent.stderr);
    receiver.wait().succeeded().wrote(&[&*input, b"and more\n"].concat());
}

/// Takes a connection of MQTT 5 until so many bytes came, with these properties in CONNACK; acknowledges none of them.
pub(crate) fn swallow(mut stream: TcpStream, bytes: usize, properties: &[u8]) {
    let mut buffer = [0; 1 << 14];
    let mut total = stream.read(&mut buffer).unwrap();
    let len = u8::try_from(properties.len()).unwrap();
    stream.write_all(&[&[0x20, len + 3, 0, 0, len], properties].concat()).unwrap();
    while total < bytes
        && let Ok(count @ 1..) = stream.read(&mut buffer)
    {
        total += count;
        // The client asks before it sends again what the last connection may have been closed for.
        if buffer[..count] == [0xc0, 0] {
            stream.write_all(&[0xd0, 0]).unwrap();
        }
    }
}

/// As after a failover to a node with another configuration.
#[test]
fn what_is_sealed_already_is_cut_where_the_next_broker_takes_less() {
    let broker = Broker::with(Options { max_packet_size: Some(4000), ..Options::default() });
    let port = broker.port();
    let input = [&b"first\n"[..], &vec![b'x'; 40_000], b"\nlast\n"].concat();
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null", "-o", "pubtop=plain", "-o", "subtop=plain", "-b"];
    for (spool, options, listen) in [
        ("1", &["--each"][..], &[][..]),
        ("2", &["--each", "-o", "qos=2"], &[]),
        ("3", &["--each", "--confirm"], &[]),
        ("4", &["--each", "--spool", "4"], &[]),
        ("5", &["--each", "--confirm", "--spool", "5"], &[]),
        ("6", &["--each", "--will", "gone", "--pad", "64"], &[]),
        ("7", &plain, &plain),
        ("8", &[&plain[..], &["--spool", "8"]].concat(), &plain),
        ("9", &["--each", "-o", "retain=1"], &[]),
    ] {
        let pair = pair_in(&broker, "5", "5");
        let relay = Server::start(move |number, stream| match number {
            0 => swallow(stream, 40_000, &[]),
            _ => carry(stream, port),
        });
        let receiver = pair.slave.listen(&[listen, &["-o", "clientid="]].concat());
        let sent = pair.master.send_all(&[options, &["-o", &format!("port={}", relay.port())]].concat(), &*input);
        sent.succeeded();
        receiver.wait_for_stdout(&input);
        let ended = receiver.stop().succeeded().wrote(&input);
        assert!(!ended.stderr.contains("gap"), "case {spool}: {}", ended.stderr);
        if options.contains(&"retain=1") {
            // The end of the stream was sealed again, too, and is not a value.
            Process::spawn(pair.slave.recv(&["--last", LINK])).wait().succeeded().wrote(b"last\n");
        }
    }
}

/// With a spool, records that are cut again begin a new sequence. The stream that was begun before the new limit is
/// known carries nothing, and a short message has no room to tell how all earlier streams ended: it tells this one
/// first.
#[test]
fn a_stream_that_carried_nothing_as_the_limit_fell_is_not_missed() {
    let broker = Broker::with(Options { max_packet_size: Some(4000), ..Options::default() });
    let port = broker.port();
    let input = [&vec![b'x'; 40_000][..], b"\nlast\n"].concat();
    for confirm in [&[][..], &["--confirm"]] {
        let pair = pair_in(&broker, "5", "5");
        let relay = Server::start(move |number, stream| match number {
            0 => swallow(stream, 40_000, &[]),
            _ => carry(stream, port),
        });
        let receiver = pair.slave.listen(&[]);
        for _ in 0..4 {
            pair.master.send_all(&[], "before\n").succeeded();
        }
        let through = format!("port={}", relay.port());
        let sent = pair.master.send_all(&[confirm, &["--each", "--spool", "spool", "-o", &through]].concat(), &*input);
        assert!(sent.succeeded().stderr.contains("cut into smaller ones"));
        let expected = ["before\n".repeat(4).as_bytes(), &input].concat();
        receiver.wait_for_stdout(&expected);
        let ended = receiver.stop().succeeded().wrote(&expected);
        assert!(!ended.stderr.contains("no messages of"), "{}", ended.stderr);
    }
}

/// The client is full of what the first broker took: of its 1 MiB, less the longest message. In shorter messages that is more
/// than the client has room for, so a part of them is not published when the limit falls again: it comes after those that are
/// withdrawn then.
#[test]
fn what_was_cut_is_cut_again_in_order_where_the_limit_falls_twice() {
    const MAX_PACKET_4000: [u8; 5] = [0x27, 0, 0, 0x0f, 0xa0];
    let broker = Broker::with(Options { max_packet_size: Some(3000), ..Options::default() });
    let port = broker.port();
    let pair = pair_in(&broker, "5", "5");
    let line = |number: u8| [&vec![b'a' + number; 90_000][..], b"\n"].concat();
    let input: Vec<u8> = (0..20).flat_map(line).collect();
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null", "-o", "pubtop=plain", "-o", "subtop=plain"];
    for (options, listen) in [(&["--each"][..], &[][..]), (&plain, &[&plain[..], &["-b"]].concat())] {
        let relay = Server::start(move |number, stream| match number {
            0 => swallow(stream, 940_000, &[]),
            1 => swallow(stream, 1000, &MAX_PACKET_4000),
            _ => carry(stream, port),
        });
        let receiver = pair.slave.listen(&[listen, &["-o", "clientid="]].concat());
        let longer = ["-o", "max_message=100000", "-o", &format!("port={}", relay.port())];
        let sent = pair.master.send_all(&[options, &longer].concat(), &*input).succeeded();
        assert_eq!(sent.stderr.matches("possibly duplicated").count(), 2, "{}", sent.stderr);
        receiver.wait_for_stdout(&input);
        let ended = receiver.stop().succeeded().wrote(&input);
        assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
    }
}

/// What is not too long is under way, unacknowledged, when a longer message is cut, and is itself too long for the next broker:
/// messages of two streams would have to be cut.
#[test]
fn what_is_under_way_beside_what_was_cut_is_cut_where_the_limit_falls_again() {
    const MAX_PACKET_40000: [u8; 5] = [0x27, 0, 0, 0x9c, 0x40];
    let broker = Broker::with(Options { max_packet_size: Some(3000), ..Options::default() });
    let port = broker.port();
    let input = [&vec![b'a'; 10_000][..], b"\n", &vec![b'b'; 90_000], b"\nlast\n"].concat();
    for options in [&["--each"][..], &["--each", "-o", "qos=2"], &["--each", "--spool", "spool"]] {
        let pair = pair_in(&broker, "5", "5");
        let relay = Server::start(move |number, stream| match number {
            0 => swallow(stream, 100_000, &[]),
            1 => swallow(stream, 10_000, &MAX_PACKET_40000),
            _ => carry(stream, port),
        });
        let receiver = pair.slave.listen(&[]);
        let longer = ["-o", "max_message=100000", "-o", &format!("port={}", relay.port())];
        pair.master.send_all(&[options, &longer].concat(), &*input).succeeded();
        receiver.wait_for_stdout(&input);
        let ended = receiver.stop().succeeded().wrote(&input);
        // Records of a spool that are cut begin a new sequence, and a short message has no room to tell of all streams before.
        assert!(options.contains(&"--spool") || !ended.stderr.contains("gap"), "{}", ended.stderr);
    }
}

/// The sessions are gone by the time the limit is known, so there is no stream for the shorter messages.
#[test]
fn what_cannot_be_sealed_again_in_shorter_messages_is_reported_as_lost() {
    const MAX_PACKET_4000: [u8; 5] = [0x27, 0, 0, 0x0f, 0xa0];
    let broker = Broker::start();
    let input = [&vec![b'x'; 40_000][..], b"\nlast\n"].concat();
    let pair = pair_in(&broker, "5", "5");
    let sessions = pair.master.runtime_files();
    let relay = Server::start(move |number, stream| {
        if number == 0 {
            return swallow(stream, 40_000, &[]);
        }
        for (path, _) in &sessions {
            let _ = std::fs::remove_file(path);
        }
        swallow(stream, 1000, &MAX_PACKET_4000);
    });
    let through = format!("port={}", relay.port());
    let sent = pair.master.send_all(&["--each", "-o", &through], &*input);
    sent.failed(&[65], &["unacknowledged: 2 messages (40006 bytes)"]);
}

/// The frames of a receiver are confirms, which its padding may make too long.
#[test]
fn a_receiver_whose_padding_the_broker_does_not_bear_names_the_limit() {
    let broker = Broker::with(Options { max_packet_size: Some(3000), ..Options::default() });
    let pair = pair_in(&broker, "5", "5");
    let receiver = pair.slave.listen(&["--pad", "4096"]);
    let sender = Process::spawn_with(pair.master.send(&["--confirm", LINK]), "x\n");
    receiver.wait().failed(&[69], &["does not accept a message of", "raise the limit of the broker"]);
    let next = pair.slave.listen(&[]);
    sender.wait().succeeded();
    next.stop().succeeded();
}

#[test]
fn who_may_not_publish_is_told() {
    let acl = "topic readwrite s2m\ntopic read m2s\n";
    let broker = Broker::with(Options { acl: Some(acl), ..Options::default() });
    let port = broker.port().to_string();
    let device = Device::configured(Identity::Station, &in_version(&port, "nosec", "null", "5"));
    let topic = format!("pubtop={M2S}");
    let said = ["not authorized", "\"m2s\"", "right to publish"];
    device.send_all(&["-o", &topic], "x\n").failed(&[69], &said);
    device.send_all(&["-o", &topic, "-o", "qos=2"], "x\n").failed(&[69], &said);
    device.send_all(&["-o", &topic, "--spool", "spool"], "x\n").failed(&[69], &said);
    // What was not accepted is still in the spool.
    let receiver = device.listen(&["-n", "2", "-o", "subtop=s2m"]);
    device.send_all(&["-o", "pubtop=s2m", "--spool", "spool"], "y\n").succeeded();
    receiver.wait().succeeded().wrote(b"x\ny\n");
}

/// How long a broker keeps what this test wants it to drop, and longer.
const EXPIRY: [&str; 2] = ["-o", "message_expiry=1"];
const LONGER_THAN_EXPIRY: Duration = Duration::from_secs(2);

#[test]
fn a_message_that_expires_at_the_broker_is_reported_and_with_confirm_sent_again() {
    let broker = Broker::start();
    let pair = pair_in(&broker, "5", "5");
    pair.slave.listen(&[]).stop();
    pair.master.send_all(&EXPIRY, "expired\n").succeeded();
    sleep(LONGER_THAN_EXPIRY);
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&EXPIRY, "in time\n").succeeded();
    receiver.wait_for("gap: ");
    receiver.stop().failed(&[0, 65], &["gap: station, stream 0: message 0 is lost"]).wrote(b"in time\n");

    let published = broker.times_logged("Received PUBLISH from station-send");
    let sender = Process::spawn_with(pair.master.send(&[&EXPIRY[..], &["--confirm", LINK]].concat()), "confirmed\n");
    broker.wait_for_log("Received PUBLISH from station-send", published + 1);
    sleep(LONGER_THAN_EXPIRY);
    let published = broker.times_logged("Received PUBLISH from station-send");
    let receiver = pair.slave.listen(&[]);
    sender.wait().succeeded();
    assert!(broker.times_logged("Received PUBLISH from station-send") > published, "it was sent again");
    let ended = receiver.stop().succeeded().wrote(b"confirmed\n");
    assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
}

#[test]
fn a_session_that_expires_at_the_broker_costs_what_was_queued_and_that_is_reported() {
    let broker = Broker::start();
    let pair = pair_in(&broker, "5", "5");
    let expiry = ["-o", "session_expiry=1"];
    pair.slave.listen(&expiry).stop();
    pair.master.send_all(&[], "expired\n").succeeded();
    broker.wait_for_log("Expiring client gateway", 1);
    let receiver = pair.slave.listen(&expiry);
    pair.master.send_all(&[], "after it\n").succeeded();
    receiver.wait_for("gap: ");
    receiver.stop().failed(&[0, 65], &["gap: station, stream 0: message 0 is lost"]).wrote(b"after it\n");
}

/// Two runtime directories of one device, each with a session of its own, in one group: the broker gives each message to
/// only one of them.
#[test]
fn what_another_client_of_the_group_takes_from_an_encrypted_link_is_told_by_the_topic() {
    let broker = Broker::start();
    let pair = pair_in(&broker, "5", "5");
    let elsewhere = pair.slave.path().join("elsewhere");
    let there = |mut command: Command| {
        command.env("STS_RUNTIME_DIR", &elsewhere);
        command
    };
    let slave = Process::spawn(there(pair.slave.pair(&[LINK])));
    let master = Process::spawn(pair.master.pair(&[LINK]));
    master.wait().succeeded();
    slave.wait().succeeded();

    let shared = format!("subtop=$share/readers/{M2S}");
    let options = ["-v", "-o", &shared, "-o", "clientid=", LINK];
    let readers = [Process::spawn(pair.slave.recv(&options)), Process::spawn(there(pair.slave.recv(&options)))];
    for reader in &readers {
        reader.wait_for("listening on");
    }
    pair.master.send_all(&["--each"], readings(20)).succeeded();
    let hint = format!("hint: `subtop` is shared ($share/readers/{M2S}): another client of the group");
    let [without_session, with_gaps] = readers;
    without_session.wait_for("unknown session");
    without_session.wait_for(&hint);
    with_gaps.wait_for("gap: ");
    with_gaps.wait_for(&hint);
    without_session.stop();
    let ended = with_gaps.stop();
    assert_eq!(ended.stderr.matches(&hint).count(), 1, "{}", ended.stderr);
}

#[test]
fn a_shared_subscription_divides_a_plain_link() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    for version in VERSIONS {
        let device = Device::configured(Identity::Station, &in_version(&port, "nosec", "null", version));
        let shared = ["-o", "subtop=$share/readers/m2s", "-o", "clientid="];
        let readers = [device.listen(&shared), device.listen(&shared)];
        device.send_all(&["--each", "-o", "pubtop=m2s"], readings(100)).succeeded();
        let total = || readers.iter().map(Process::written).sum::<usize>();
        wait_until("all lines to be written", || total() == readings(100).len());
        assert!(readers.iter().all(|reader| reader.written() > 0), "each has a part in MQTT {version}");
    }
}

#[test]
fn an_encrypted_link_may_have_a_shared_subscription() {
    let broker = Broker::start();
    for version in VERSIONS {
        let pair = pair_in(&broker, version, version);
        let shared = format!("subtop=$share/readers/{M2S}");
        let receiver = pair.slave.listen(&["--once", "-o", &shared]);
        pair.master.send_all(&["--confirm"], readings(500)).succeeded();
        receiver.wait().succeeded().wrote(&readings(500));
    }
}

#[test]
fn a_timeout_without_a_connection_is_the_same_in_every_version() {
    for version in VERSIONS {
        let device = Device::configured(Identity::Station, &in_version("1", "nosec", "null", version));
        device.send_all(&["--timeout", "1"], "x\n").failed(&[69], &["timed out", "no connection to the broker"]);
        let receiver = Process::spawn(device.recv(&["--timeout", "1", LINK]));
        receiver.wait().failed(&[69], &["timed out", "no connection to the broker"]);
    }
}

#[test]
fn what_waits_while_the_broker_is_away_is_sent_when_it_is_back() {
    for version in VERSIONS {
        let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
        let port = broker.port().to_string();
        let device = Device::configured(Identity::Station, &in_version(&port, "nosec", "null", version));
        // Long enough for an alias.
        let (publish, subscribe) = ("pubtop=plant/station/up", "subtop=plant/station/up");
        device.listen(&["-o", subscribe]).stop();
        broker.stop();
        let mut sender = Process::spawn(device.send(&["--each", "-o", publish, LINK]));
        sender.write("one\n");
        sender.wait_for("waiting for the broker");
        broker.start_again();
        sender.write("two\nthree\n");
        sender.close_stdin();
        sender.wait().succeeded();
        let receiver = device.recv(&["-n", "3", "-o", subscribe, LINK]);
        Process::spawn(receiver).wait().succeeded().wrote(b"one\ntwo\nthree\n");
    }
}

#[test]
fn a_client_id_that_mqtt_3_1_does_not_allow_is_refused() {
    let device = Device::configured(Identity::Station, &in_version("1", "master", "gcm", "3"));
    let long = ["-o", "clientid=a-client-id-of-24-bytes!", LINK];
    Process::spawn(device.recv(&long)).wait().failed(&[64], &["MQTT 3.1 allows 23 bytes", "mqtt_version = 4"]);
}
