//! Claim: one gateway serves many devices over wildcards. All of them pair at once, each with its own topics and
//! sessions. Junk, gaps or the end of a session of one device do not affect the others, and no name or topic from
//! outside is ever anything but text.

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK};
use crate::process::{Process, wait_until};

/// How many devices the largest fleet of these tests has.
const MANY: usize = 12;

/// The identity keys of the devices, made by the tool itself, once for the whole run.
fn keys() -> &'static [Vec<u8>] {
    static KEYS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let make = |_| {
            let device = Device::bare();
            Process::spawn(device.pair(&["--key"])).wait().succeeded();
            fs::read(device.config_dir().join("identity.pem")).unwrap()
        };
        (0..MANY).map(make).collect()
    })
}

fn gateway(broker: &Broker, area: &str) -> Device {
    let port = broker.port().to_string();
    let (subtop, pubtop) = (format!("{area}/+/up"), format!("{area}/+/down"));
    Device::configured(
        Identity::Gateway,
        &[
            ("host", "127.0.0.1"),
            ("port", &port),
            ("subtop", &subtop),
            ("pubtop", &pubtop),
            ("clientid", &format!("gateway-{}", area.replace('/', "-"))),
            ("sts_mode", "slave"),
        ],
    )
}

/// The device with this key, which the gateway knows by the same name as the topics do.
pub(crate) fn sensor(broker: &Broker, area: &str, number: usize) -> Device {
    let device = Device::bare();
    device.write("identity.pem", &keys()[number], 0o600);
    let port = broker.port().to_string();
    let (subtop, pubtop) = (format!("{area}/s{number}/down"), format!("{area}/s{number}/up"));
    device.configure(&[
        ("host", "127.0.0.1"),
        ("port", &port),
        ("subtop", &subtop),
        ("pubtop", &pubtop),
        ("clientid", &format!("s{number}")),
        ("sts_mode", "master"),
    ]);
    device
}

pub(crate) struct Fleet {
    pub(crate) gateway: Device,
    pub(crate) sensors: Vec<Device>,
}

impl Fleet {
    pub(crate) fn enrolled(broker: &Broker, area: &str, numbers: std::ops::Range<usize>) -> Self {
        let gateway = gateway(broker, area);
        let sensors: Vec<_> = numbers.clone().map(|number| sensor(broker, area, number)).collect();
        for (number, sensor) in numbers.zip(&sensors) {
            gateway.trust(&format!("s{number}"), sensor);
            sensor.trust("gateway", &gateway);
        }
        Self { gateway, sensors }
    }

    pub(crate) fn paired(broker: &Broker, area: &str, numbers: std::ops::Range<usize>) -> Self {
        let fleet = Self::enrolled(broker, area, numbers);
        let serving = fleet.serve();
        fleet.pair();
        serving.stop().succeeded();
        fleet
    }

    pub(crate) fn serve(&self) -> Process {
        let serving = Process::spawn(self.gateway.pair(&["-v", "--serve", LINK]));
        serving.wait_for("listening on");
        serving
    }

    /// All sensors at once.
    pub(crate) fn pair(&self) {
        let pairing: Vec<_> = self.sensors.iter().map(|sensor| Process::spawn(sensor.pair(&[LINK]))).collect();
        for sensor in pairing {
            sensor.wait().succeeded();
        }
    }
}

/// The lines that came, in any order.
fn lines(text: &[u8]) -> BTreeSet<String> {
    String::from_utf8(text.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn twelve_devices_pair_at_once_and_each_is_a_peer_of_its_own() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, "plant", 0..MANY);
    let serving = fleet.serve();
    fleet.pair();
    for number in 0..MANY {
        serving.wait_for(&format!("sts-pair: paired with s{number} (SHA256:"));
    }

    // Everything to the gateway, while it still serves.
    let receiver = fleet.gateway.listen(&[]);
    let sending: Vec<_> = (0..MANY)
        .map(|number| {
            let text: Vec<_> = (0..100).map(|line| format!("s{number} line {line}\n")).collect();
            Process::spawn_with(fleet.sensors[number].send(&["--each", "--confirm", LINK]), text.concat())
        })
        .collect();
    for sender in sending {
        sender.wait().succeeded();
    }
    let expected: BTreeSet<_> =
        (0..MANY).flat_map(|number| (0..100).map(move |line| format!("s{number} line {line}"))).collect();
    wait_until("all lines", || lines(&receiver.stdout()).len() == 100 * MANY);
    assert_eq!(lines(&receiver.stop().succeeded().stdout), expected);

    // And back, to one of them, confirmed over its own topics.
    let listening = fleet.sensors[7].listen(&["--once"]);
    let other = fleet.sensors[8].listen(&["--once"]);
    fleet.gateway.send_all(&["--to", "s7", "--confirm"], "for s7\n").succeeded();
    listening.wait().succeeded().wrote(b"for s7\n");
    assert!(!other.stderr().contains("dropped"), "{}", other.stderr());
    assert!(other.stop().stdout.is_empty());
    let ended = serving.stop().succeeded();
    assert_eq!(ended.stderr.matches("paired with").count(), MANY, "{}", ended.stderr);
}

#[test]
fn without_a_name_sts_send_lists_those_it_could_mean() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..3);
    fleet.gateway.send_all(&[], "to whom?\n").failed(&[64], &["several peers", "s0, s1, s2", "--to s"]);
    fleet.gateway.send_all(&["--to", "s9"], "to whom?\n").failed(&[64], &["no peer `s9`", "s0, s1, s2"]);
    fleet.gateway.send_all(&["--to", "../s1"], "to whom?\n").failed(&[64], &["--to"]);
    let listening = fleet.sensors[1].listen(&["--once"]);
    fleet.gateway.send_all(&["-o", "peer=s1"], "to the only one\n").succeeded();
    listening.wait().succeeded().wrote(b"to the only one\n");
}

#[test]
fn garbage_and_a_gap_of_one_device_are_its_own() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..3);
    let receiver = fleet.gateway.listen(&[]);
    for junk in [&b""[..], b"\x21junk", b"\x27no such session, but long enough to be a message of one", b"\x1b]0;x\x07"]
    {
        broker.publish("plant/s0/up", junk);
        broker.publish("plant/\u{202e}red/up", junk);
    }
    // Half a line, of a process that then only waits.
    let mut slow = Process::spawn(fleet.sensors[0].send(&["--binary", LINK]));
    slow.write("half a li");
    fleet.sensors[1].send_all(&[], "whole one\n").succeeded();
    fleet.sensors[2].send_all(&[], "whole two\n").succeeded();
    wait_until("the others' lines", || {
        let written = String::from_utf8(receiver.stdout()).unwrap();
        written.contains("whole one\n") && written.contains("whole two\n")
    });
    slow.write("ne\n");
    slow.close_stdin();
    slow.wait().succeeded();
    wait_until("the end of the line", || receiver.stdout().ends_with(b"ne\n"));
    let ended = receiver.stop().succeeded();
    assert!(!ended.stderr.contains('\x1b') && ended.stderr.contains("dropped a message"), "{}", ended.stderr);
}

#[test]
fn whoever_is_forgotten_is_heard_no_more() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..2);
    let serving = fleet.serve();
    let receiver = fleet.gateway.listen(&[]);
    let mut sender = Process::spawn(fleet.sensors[0].send(&["--each", LINK]));
    let mut to_it = Process::spawn(fleet.gateway.send(&["--each", "--to", "s0", LINK]));
    sender.write("before\n");
    to_it.write("before\n");
    to_it.wait_until_read();
    receiver.wait_for_stdout(b"before\n");
    let forgotten = Process::spawn(fleet.gateway.pair(&["--forget", "s0"])).wait().succeeded();
    assert!(forgotten.stderr.contains("sessions of gateway with s0 are deleted"), "{}", forgotten.stderr);
    sender.write("after\n");
    receiver.wait_for("dropped a message");
    fleet.sensors[1].send_all(&["--confirm"], "still here\n").succeeded();
    assert_eq!(receiver.stop().succeeded().stdout, b"before\nstill here\n");
    to_it.write("after\n");
    to_it.close_stdin();
    to_it.wait().failed(&[65, 75, 77], &["s0"]);

    // And it pairs no more, with a service that was there all the time.
    let refused = Process::spawn(fleet.sensors[0].pair(&["--timeout", "3", LINK])).wait();
    refused.failed(&[75], &["does not know this device's key"]);
    serving.wait_for("unknown peer");
    serving.stop().succeeded();
}

#[test]
fn a_service_reads_its_configuration_again() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, "plant", 0..1);
    let good = fs::read_to_string(fleet.gateway.config_dir().join("gateway.conf")).unwrap();
    let serving = fleet.serve();
    fleet.gateway.write("gateway.conf", "nonsense\n", 0o600);
    serving.signal(Signal::HUP);
    serving.wait_for("keeping the previous configuration");
    fleet.pair();
    serving.wait_for_times("paired with s0", 1);
    fleet.gateway.write("gateway.conf", good.replace("plant/", "works/"), 0o600);
    serving.signal(Signal::HUP);
    serving.wait_for("configuration reloaded");
    serving.wait_for("listening on works/+/up");
    let moved = ["-o", "subtop=works/s0/down", "-o", "pubtop=works/s0/up", LINK];
    Process::spawn(fleet.sensors[0].pair(&moved)).wait().succeeded();
    serving.wait_for_times("paired with s0", 2);
    // One at a time on a link, and only where it makes sense.
    Process::spawn(fleet.gateway.pair(&["--serve", LINK])).wait().failed(&[75], &["another sts-pair"]);
    Process::spawn(fleet.sensors[0].pair(&["--serve", LINK])).wait().failed(&[64], &["--serve", "master", "hint: "]);
    Process::spawn(fleet.gateway.pair(&["--serve", "--timeout", "3", LINK])).wait().failed(&[64], &["--timeout"]);
    serving.signal(Signal::INT);
    serving.wait().succeeded();
}

#[test]
fn without_serve_a_gateway_leaves_after_its_first_device() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, "plant", 0..2);
    let slave = Process::spawn(fleet.gateway.pair(&["-v", LINK]));
    slave.wait_for("listening on");
    Process::spawn(fleet.sensors[1].pair(&[LINK])).wait().succeeded();
    let ended = slave.wait().succeeded();
    assert!(ended.stderr.contains("paired with s1"), "{}", ended.stderr);
}

#[test]
fn two_gateways_share_the_topics_of_one_broker() {
    let broker = Broker::start();
    let (a, b) = (Fleet::enrolled(&broker, "plant/a", 0..2), Fleet::enrolled(&broker, "plant/b", 2..4));
    let serving = [a.serve(), b.serve()];
    a.pair();
    b.pair();
    let receivers = [a.gateway.listen(&[]), b.gateway.listen(&[])];
    for (number, sensor) in a.sensors.iter().chain(&b.sensors).enumerate() {
        sensor.send_all(&["--confirm"], format!("from s{number}\n")).succeeded();
    }
    let [of_a, of_b] = receivers.map(|receiver| lines(&receiver.stop().succeeded().stdout));
    assert_eq!(of_a, ["from s0", "from s1"].map(str::to_owned).into());
    assert_eq!(of_b, ["from s2", "from s3"].map(str::to_owned).into());
    for serving in serving {
        let ended = serving.stop().succeeded();
        assert_eq!(ended.stderr.matches("paired with").count(), 2, "{}", ended.stderr);
    }
}

#[test]
fn the_end_is_for_one_or_for_all() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..3);
    let listening: Vec<_> = fleet.sensors.iter().map(|sensor| sensor.listen(&[])).collect();
    let ended = Process::spawn(fleet.gateway.pair(&["--end", "--to", "s1", LINK])).wait().succeeded();
    assert!(ended.stderr.contains("sessions with s1") && !ended.stderr.contains("s0"), "{}", ended.stderr);
    listening[1].wait_for("gateway ended the session");
    let status = Process::spawn(fleet.gateway.pair(&["--status", "--json"])).wait().succeeded();
    let peers: Vec<_> =
        status.text().lines().map(|line| line.split("\"peer\":").nth(1).unwrap()[..4].to_owned()).collect();
    assert_eq!(peers.len(), 2, "{}", status.text());
    assert!(peers.contains(&"\"s0\"".to_owned()) && peers.contains(&"\"s2\"".to_owned()), "{}", status.text());
    Process::spawn(fleet.gateway.pair(&["--end", LINK])).wait().succeeded();
    for sensor in listening {
        sensor.wait().succeeded();
    }
    Process::spawn(fleet.gateway.pair(&["--to", "s1", LINK])).wait().failed(&[64], &["--end"]);
}

/// Or the ends of twenty devices would be all that the broker ever sends.
#[test]
fn the_end_of_a_session_is_acknowledged_once_its_keys_are_deleted() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..2);
    let receiver = fleet.gateway.listen(&[]);
    Process::spawn(fleet.sensors[0].pair(&["--end", LINK])).wait().succeeded();
    receiver.wait_for("s0 ended the session");
    broker.wait_for_log("Received PUBACK from gateway-plant ", 1);
    receiver.stop().succeeded();
}

#[test]
fn each_line_says_whose_it_is_and_none_is_torn() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..6);
    let receivers = ["--prefix", "--json"];
    for option in receivers {
        let receiver = fleet.gateway.listen(&[option]);
        // Lines in pieces: each is longer than a message may be.
        let line = |number, line| format!("s{number} {line:-<400}");
        let sending: Vec<_> = (0..6)
            .map(|number| {
                let lines: Vec<_> = (0..=50).map(|at| line(number, at)).collect();
                let args = ["-o", "max_message=256", "--confirm", LINK];
                Process::spawn_with(fleet.sensors[number].send(&args), lines.join("\n"))
            })
            .collect();
        for sender in sending {
            sender.wait().succeeded();
        }
        let ended = receiver.stop().succeeded();
        for (number, expected) in (0..6).flat_map(|number| (0..=50).map(move |line| (number, line))) {
            let text = line(number, expected);
            let of_peer: Vec<_> = match option {
                "--prefix" => ended.text().lines().filter(|line| **line == format!("s{number}: {text}")).collect(),
                _ => ended
                    .text()
                    .lines()
                    .filter(|line| {
                        line.starts_with(&format!(r#"{{"peer":"s{number}","stream":"#))
                            && line.contains(&format!(r#""text":"{text}""#))
                            && line.contains(r#""newline":false"#) == (expected == 50)
                            && line.ends_with('}')
                    })
                    .collect(),
            };
            assert_eq!(of_peer.len(), 1, "{option} {text}:\n{}", ended.text());
        }
        assert_eq!(ended.text().lines().count(), 6 * 51, "{}", ended.text());
    }
    Process::spawn(fleet.gateway.recv(&["--json", "--prefix", LINK])).wait().failed(&[64], &["--prefix"]);
}

#[test]
fn a_number_of_lines_and_the_rest_in_the_next_run() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..2);
    fleet.gateway.listen(&[]).stop().succeeded();
    fleet.sensors[0].send_all(&[], "1\n2\n3\n4\n5").succeeded();
    let run = |args: &[&str]| Process::spawn(fleet.gateway.recv(&[args, &[LINK]].concat())).wait().succeeded();
    run(&["-n", "2", "--prefix"]).wrote(b"s0: 1\ns0: 2\n");
    run(&["-n", "1"]).wrote(b"3\n");
    let ended = run(&["-n", "1", "--json"]);
    assert!(ended.text().ends_with("\"text\":\"4\"}\n"), "{}", ended.text());
    run(&["--timeout", "2", "--prefix"]).wrote(b"s0: 5\n");
    fleet.sensors[1].send_all(&[], b"\xff\x00\n".to_vec()).succeeded();
    let ended = run(&["--once", "--json"]);
    assert!(ended.text().starts_with("{\"peer\":\"s1\"") && ended.text().ends_with("\"base64\":\"/wA=\"}\n"));
}

#[test]
fn without_encryption_the_topic_is_all_that_is_known() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let plain =
        [("port", &*port), ("host", "127.0.0.1"), ("subtop", "plant/+"), ("pubtop", "x"), ("sts_mode", "nosec")];
    let device = Device::bare();
    device.configure(&plain);
    let (prefix, json) = (device.listen(&["--prefix"]), device.listen(&["--json", "-b"]));
    broker.publish("plant/\u{202e}é", b"21.5");
    broker.publish("plant/b", b"one\ntwo\n");
    prefix.wait_for_stdout(b"plant/\\xe2\\x80\\xae\\xc3\\xa9: 21.5\nplant/b: one\nplant/b: two\n");
    wait_until("three objects", || json.stdout().ends_with(b"\"text\":\"two\"}\n"));
    let text = String::from_utf8(json.stop().succeeded().stdout).unwrap();
    assert!(text.starts_with("{\"topic\":\"plant/\\u202eé\",\"time\":1"), "{text}");
    assert!(text.contains(",\"text\":\"21.5\",\"newline\":false}\n"), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}
