//! Claim: a gateway with ten thousand devices starts within seconds, and a message costs the same as with one device.
//!
//! Figures are printed on stderr. The large fleet needs an optimized build, and is tested only on request:
//! `cargo test --release --test end_to_end -- --ignored --nocapture ten_thousand`.

use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt;
use sts::cache::Cache;
use sts::crypto::schedule::{SessionKeys, Topics};
use sts::identity::PublicKey;
use sts::role::Role;
use sts::secret::Key;
use sts::session::{Parties, Session};
use sts::suite::Suite;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, readings};
use crate::process::{Process, wait_until};

/// A gateway with `count` sessions, and one device that has the other end of the first one.
fn fleet(broker: &Broker, count: usize) -> (Device, Device) {
    let port = broker.port().to_string();
    let settings = |subtop, pubtop, mode, clientid| {
        [
            ("host", "127.0.0.1"),
            ("port", port.as_str()),
            ("subtop", subtop),
            ("pubtop", pubtop),
            ("sts_mode", mode),
            ("clientid", clientid),
        ]
    };
    let gateway = Device::configured(Identity::Gateway, &settings("plant/+/up", "plant/+/down", "slave", "gateway"));
    let sensor = Device::configured(Identity::Station, &settings("plant/s0/down", "plant/s0/up", "master", "s0"));
    sensor.trust("gateway", &gateway);
    let key = |device: &Device| {
        let line = Process::spawn(device.pair(&["--key"])).wait().succeeded();
        PublicKey::from_key_line(line.text()).unwrap()
    };
    let (own, first) = (key(&gateway), key(&sensor));
    let mut rng = rand::rng();
    let cache = |device: &Device| Cache::open(&device.runtime_dir(), &LINK.parse().unwrap(), LINK).unwrap();
    let (here, there) = (cache(&gateway), cache(&sensor));
    let mut known = String::new();
    for number in 0..count {
        let mut der = first.der().to_vec();
        if number > 0 {
            // A different modulus, for which no private key exists or is needed.
            let modulus = der.len() - 5 - 384..der.len() - 5;
            rng.fill(&mut der[modulus.clone()]);
            der[modulus.start] |= 0x80;
            der[modulus.end - 1] |= 1;
        }
        let line = format!("sts-rsa {}", STANDARD.encode(der));
        let peer = PublicKey::from_key_line(&line).unwrap();
        writeln!(known, "s{number} {line}").unwrap();
        let keys = SessionKeys {
            th3: rng.random(),
            id: rng.random(),
            tree_m2s: Key::generate(32, |bytes| rng.fill(bytes)),
            tree_s2m: Key::generate(32, |bytes| rng.fill(bytes)),
            side_m2s: Key::generate(32, |bytes| rng.fill(bytes)),
            side_s2m: Key::generate(32, |bytes| rng.fill(bytes)),
            confirm: Key::generate(32, |bytes| rng.fill(bytes)),
        };
        let topics =
            Topics { master_to_slave: format!("plant/s{number}/up"), slave_to_master: format!("plant/s{number}/down") };
        let (own, peer) = (*own.fingerprint().as_bytes(), *peer.fingerprint().as_bytes());
        let session =
            |role, own, peer| Session::new(keys.clone(), Parties { role, own, peer }, topics.clone(), Suite::Gcm, 1);
        here.store_current(&session(Role::Slave, own, peer), 1).unwrap();
        if number == 0 {
            there.store_current(&session(Role::Master, peer, own), 1).unwrap();
        }
    }
    gateway.write("known_peers", known, 0o600);
    (gateway, sensor)
}

/// Processor time that a process has used so far, in seconds: proc(5), ticks of 10 ms.
fn processor(process: &Process) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let fields: Vec<f64> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse().unwrap())
        .collect();
    fields.iter().sum::<f64>() / 100.0
}

/// Processor time, in milliseconds, that it takes to find out which file of the directory changed.
fn looks(gateway: &Device, sensor: &Device, receiver: &Process) -> f64 {
    let before = processor(receiver);
    let mut slow = Process::spawn(sensor.send(&["--each", LINK]));
    let mut expected = receiver.stdout();
    for _ in 0..10 {
        fs::write(gateway.runtime_dir().join("touched"), b"x").unwrap();
        fs::remove_file(gateway.runtime_dir().join("touched")).unwrap();
        // A receiver looks at most once a second.
        std::thread::sleep(Duration::from_millis(1100));
        slow.write("a line\n");
        expected.extend_from_slice(b"s0: a line\n");
        receiver.wait_for_stdout(&expected);
    }
    slow.close_stdin();
    slow.wait().succeeded();
    (processor(receiver) - before) * 100.0
}

#[expect(clippy::print_stderr, reason = "figures are what this is for")]
fn measure(count: usize, messages: usize) {
    let broker = Broker::start();
    let begun = Instant::now();
    let (gateway, sensor) = fleet(&broker, count);
    let made = begun.elapsed();
    let begun = Instant::now();
    let receiver = gateway.listen(&["--prefix"]);
    let (start, memory) = (begun.elapsed(), receiver.memory() >> 10);
    let started = processor(&receiver);

    let text = readings(messages);
    let begun = Instant::now();
    sensor.send_all(&["--each", "--confirm"], text.clone()).succeeded();
    let (took, cost) = (begun.elapsed(), processor(&receiver) - started);
    wait_until("all lines", || receiver.stdout().len() == text.len() + messages * "s0: ".len());

    let begun = Instant::now();
    gateway.send_all(&["--to", "s0"], "one line\n").succeeded();
    let sent = begun.elapsed();
    let begun = Instant::now();
    Process::spawn(gateway.pair(&["--status"])).wait().succeeded();
    let status = begun.elapsed();

    let looking = if count > 1000 { looks(&gateway, &sensor, &receiver) } else { 0.0 };
    let begun = Instant::now();
    Process::spawn(gateway.pair(&["--forget", "s0"])).wait().succeeded();
    let forgotten = begun.elapsed();
    receiver.stop().succeeded();
    eprintln!(
        "{count} sessions (made in {made:.1?}): sts-recv starts in {start:.2?}, {memory} KiB; {messages} messages in \
         {took:.2?}, {:.0} us of processor each; sts-send --to {sent:.2?}, --status {status:.2?}, --forget {forgotten:.2?}; \
         {looking:.0} ms of processor a change of the directory",
        cost * 1e6 / f64::from(u32::try_from(messages).unwrap()),
    );
}

#[test]
fn a_hundred_sessions_are_used_like_one() {
    measure(100, 200);
}

#[test]
#[ignore = "for a build with optimization"]
fn ten_thousand_sessions_and_one() {
    measure(1, 20_000);
    measure(10_000, 20_000);
}
