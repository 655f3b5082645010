//! Claim: devices that all begin to pair at once with one gateway, through a broker with its usual queues, are all paired, also
//! those that are killed on the way; no session is stored twice, and the gateway's memory stays within a bound.
//!
//! `STS_STORM_DEVICES` says how many there are; the figures are printed on stderr.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{Device, LINK};
use crate::fleet::{configure_sensor, gateway};
use crate::process::{Process, wait_until};

/// Devices of a run that says nothing else: as many as two busy processors pair in a minute.
const DEVICES: usize = 40;
/// Of so many, one is killed on the way.
const KILLED: usize = 5;
/// What the gateway's memory may grow by: frames that wait, 1,024 of 2.5 kB, answers on their way, and what the allocator keeps.
const MAX_GROWTH: usize = 24 << 20;
/// And for each device: four attempts of 2 kB.
const MAX_GROWTH_PER_DEVICE: usize = 8 << 10;

/// A device of the area with an identity key, and its line in `known_peers`.
fn device(broker: &Broker, number: usize) -> (Device, String) {
    let device = Device::bare();
    let pem = device.config_dir().join("identity.pem");
    // Much faster than the tool as it is built for tests; without openssl the tool makes one itself.
    let mut openssl = Command::new("openssl");
    openssl.args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]).arg(&pem);
    let _ = openssl.stdout(Stdio::null()).stderr(Stdio::null()).status();
    let key = Process::spawn(device.pair(&["-q", "--key"])).wait().succeeded();
    let line = format!("s{number} {}", key.text());
    configure_sensor(&device, broker, "storm", number);
    (device, line)
}

/// A gateway and its devices, which trust each other.
fn enrolled(broker: &Broker, count: usize) -> (Device, Vec<Device>) {
    let gateway = gateway(broker, "storm");
    let key = Process::spawn(gateway.pair(&["-q", "--key"])).wait().succeeded();
    let made: Vec<_> = thread::scope(|scope| {
        let make = |first: usize| {
            scope.spawn(move || (first..count).step_by(2).map(|number| device(broker, number)).collect::<Vec<_>>())
        };
        let makers = [make(0), make(1)];
        makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect()
    });
    let (devices, lines): (Vec<_>, Vec<_>) = made.into_iter().unzip();
    for device in &devices {
        device.write("known_peers", format!("gateway {}", key.text()), 0o600);
    }
    gateway.write("known_peers", lines.concat(), 0o600);
    (gateway, devices)
}

/// Each device sends one line, which only the session that both ends have can carry.
fn carry(gateway: &Device, devices: &[Device]) {
    let receiver = gateway.listen(&[]);
    let mut expected = Vec::new();
    for (number, some) in devices.chunks(20).enumerate() {
        let line = |device: usize| format!("from {}\n", number * 20 + device);
        let sending: Vec<_> = some
            .iter()
            .enumerate()
            .map(|(at, device)| Process::spawn_with(device.send(&["--confirm", LINK]), line(at)))
            .collect();
        for sender in sending {
            sender.wait().succeeded();
        }
        expected.extend((0..some.len()).map(line));
    }
    let written = String::from_utf8(receiver.stop().succeeded().stdout).unwrap();
    let mut lines: Vec<_> = written.split_inclusive('\n').map(str::to_owned).collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

#[test]
#[expect(clippy::print_stderr, reason = "figures are what this is for")]
fn devices_that_begin_at_once_are_all_paired_and_some_are_killed_on_the_way() {
    let count = std::env::var("STS_STORM_DEVICES").map_or(DEVICES, |count| count.parse().unwrap());
    let broker = Broker::start();
    let (gateway, devices) = enrolled(&broker, count);
    let serving = Process::spawn(gateway.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    let before = serving.memory();

    let begun = Instant::now();
    let start = |device: &Device| Process::spawn(device.pair(&["-q", "--timeout", "0", LINK]));
    let pairing: Vec<_> = devices.iter().map(start).collect();
    wait_until("some to be paired", || serving.stderr().matches("paired with").count() >= count / 10);
    let mut restarted = 0;
    let go_on = |(number, mut pairing): (usize, Process)| {
        if number % KILLED > 0 || !pairing.is_running() {
            return pairing;
        }
        pairing.signal(Signal::KILL);
        pairing.wait();
        restarted += 1;
        start(&devices[number])
    };
    let pairing: Vec<_> = pairing.into_iter().enumerate().map(go_on).collect();
    for pairing in pairing {
        pairing.wait().succeeded();
    }
    let (took, growth) = (begun.elapsed(), serving.memory().saturating_sub(before));

    let mut wrong = String::new();
    let said = serving.stop().succeeded().stderr;
    let status = Process::spawn(gateway.pair(&["--status", "--json", LINK])).wait().succeeded();
    for number in 0..count {
        let starts = 1 + usize::from(number % KILLED == 0);
        let paired = said.matches(&format!("paired with s{number} (")).count();
        let row = status.text().lines().find(|line| line.contains(&format!("\"peer\":\"s{number}\""))).unwrap_or("");
        // One that was killed, or that asked again on a machine that is too busy, may have left a session that it does not use.
        let are_few = (1..=3).any(|sessions| row.contains(&format!("\"sessions\":{sessions},")));
        if !(1..=starts).contains(&paired) || !are_few || !row.contains("\"standing\":\"current\"") {
            writeln!(wrong, "s{number}: paired {paired} times; {row}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}{said}");
    carry(&gateway, &devices);
    eprintln!(
        "{count} devices: all paired in {took:.1?}, {restarted} of them killed and started again; the gateway's memory grew by \
         {} KiB, from {} KiB",
        growth >> 10,
        before >> 10
    );
    assert!(growth <= MAX_GROWTH + count * MAX_GROWTH_PER_DEVICE, "{growth} bytes");
}
