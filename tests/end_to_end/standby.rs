//! Claim: a second gateway that has a copy of the configuration takes over when the first one is gone, without a change on any
//! device. What is sent with `--confirm` arrives, and comes twice only where the sender says so. If both run, that is
//! reported.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::broker::{Broker, Options};
use crate::device::{Device, LINK};
use crate::fleet::Fleet;
use crate::process::{Process, wait_until};

const CONTESTED: &str = "same client id";

/// A device with a copy of the configuration directory, and nothing of the first one's runtime directory.
fn standby_of(gateway: &Device) -> Device {
    let standby = Device::bare();
    for entry in fs::read_dir(gateway.config_dir()).unwrap() {
        let entry = entry.unwrap();
        standby.write(entry.file_name().to_str().unwrap(), fs::read(entry.path()).unwrap(), 0o600);
    }
    standby
}

/// What the services of a device run.
fn keep(fleet: &Fleet) -> Vec<Process> {
    let keep = |device: &Device| Process::spawn(device.pair(&["-v", "--keep", "24h", LINK]));
    let keeping: Vec<_> = fleet.sensors.iter().map(keep).collect();
    for keeping in &keeping {
        keeping.wait_for("paired with gateway");
    }
    keeping
}

fn senders(fleet: &Fleet) -> Vec<Process> {
    fleet.sensors.iter().map(|device| Process::spawn(device.send(&["--each", "--confirm", LINK]))).collect()
}

#[test]
fn a_standby_takes_over_when_the_gateway_is_gone() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, "plant", 0..2);
    let standby = standby_of(&fleet.gateway);
    let serving = fleet.serve();
    let keeping = keep(&fleet);
    let receiver = fleet.gateway.listen(&[]);
    let mut senders = senders(&fleet);
    for sender in &mut senders {
        sender.write("before\n");
    }
    wait_until("what was sent before", || receiver.stdout() == b"before\n".repeat(2));
    for gone in [serving, receiver] {
        gone.signal(Signal::KILL);
        gone.wait();
    }
    for sender in &mut senders {
        sender.write("while none was there\n");
    }

    let serving = Process::spawn(standby.pair(&["--serve", LINK]));
    let receiver = Process::spawn(standby.recv(&["-v", "--wait", LINK]));
    for keeping in &keeping {
        keeping.wait_for_times("paired with gateway", 2);
    }
    for mut sender in senders {
        sender.write("after\n");
        sender.close_stdin();
        sender.wait().succeeded();
    }
    let lines = |text: Vec<u8>| String::from_utf8(text).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    let written = lines(receiver.stdout());
    for line in ["while none was there", "after"] {
        assert_eq!(written.iter().filter(|other| *other == line).count(), 2, "{written:?}");
    }

    // If the first one comes back meanwhile, both report it, since the broker accepts only one of them at a time.
    let back = Process::spawn(fleet.gateway.recv(&["-v", LINK]));
    wait_until("one of them to notice", || {
        [&back, &receiver].iter().any(|receiver| receiver.stderr().contains(CONTESTED))
    });
    for process in keeping.into_iter().chain([back, serving, receiver]) {
        process.stop();
    }
}

/// Each device may have its session with either of them.
#[test]
fn a_standby_that_serves_beside_the_gateway_is_reported_when_a_device_pairs() {
    const OTHER: &str = "another device answers on this link (unverified)";
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, "plant", 0..1);
    let standby = standby_of(&fleet.gateway);
    let serving = fleet.serve();
    let beside = Process::spawn(standby.pair(&["-v", "--serve", LINK]));
    beside.wait_for("listening on");
    // One that answers the whole pairing before the other begins to answer leaves nothing to be seen.
    wait_until("one of them to notice", || {
        fleet.pair();
        [&serving, &beside].iter().any(|gateway| gateway.stderr().contains(OTHER))
    });
    let said: String = [serving, beside].map(|gateway| gateway.stop().succeeded().stderr).concat();
    assert!(said.contains("run sts-pair and sts-recv on only one of them"), "{said}");
}

/// A machine of its own: its network leads to the broker alone, and can be unplugged. It needs root.
struct Machine {
    /// Has the network namespace.
    holder: Process,
}

impl Machine {
    /// `None` if there are no namespaces. The broker listens on a Unix socket, and the tools find it on `port`.
    fn with_broker_at(socket: PathBuf, port: u16) -> Option<Self> {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"]);
        let machine = Self { holder: Process::spawn(command) };
        if machine.holder.says(b"up\n") {
            machine.relay(socket, port);
            return Some(machine);
        }
        None
    }

    fn namespace(&self) -> String {
        format!("/proc/{}/ns/net", self.holder.id())
    }

    /// Carries the bytes of each connection to the port, in this namespace, to the socket.
    fn relay(&self, socket: PathBuf, port: u16) {
        let namespace = File::open(self.namespace()).unwrap();
        thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            for client in listener.incoming() {
                let (client, broker) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
                let (mut from_client, mut to_broker) = (client.try_clone().unwrap(), broker.try_clone().unwrap());
                let (mut from_broker, mut to_client) = (broker, client);
                thread::spawn(move || {
                    let _ = io::copy(&mut from_client, &mut to_broker);
                    let _ = to_broker.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    let _ = io::copy(&mut from_broker, &mut to_client);
                    let _ = to_client.shutdown(Shutdown::Both);
                });
            }
        });
    }

    /// What the services of a gateway run, on this machine.
    fn run(&self, gateway: &Device) -> [Process; 2] {
        [gateway.pair(&["-v", "--serve", LINK]), gateway.recv(&["-v", "--wait", LINK])].map(|tool| {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", self.namespace())).arg(tool.get_program()).args(tool.get_args());
            command.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.current_dir(tool.get_current_dir().unwrap());
            Process::spawn(command)
        })
    }

    fn set_network(&self, state: &str) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.namespace())).args(["ip", "link", "set", "lo", state]);
        assert!(command.status().unwrap().success());
    }
}

/// How many messages this sts-send says may have come twice.
fn duplicates_warned_of(stderr: &str) -> usize {
    let warned = stderr.lines().filter_map(|line| line.split_once("possibly duplicated: ")?.1.split_once(" message"));
    warned.map(|(count, _)| count.parse::<usize>().unwrap()).sum()
}

#[test]
fn a_standby_takes_over_from_a_gateway_that_is_cut_off_and_comes_back() {
    let broker = Broker::listening(Options::default(), |dir, _| format!("listener 0 {}\n", socket(dir).display()));
    let machine = || Machine::with_broker_at(socket(broker.dir()), broker.port());
    let (Some(first), Some(second)) = (machine(), machine()) else { return };
    let fleet = Fleet::enrolled(&broker, "plant", 0..2);
    let standby = standby_of(&fleet.gateway);
    let [serving, receiver] = first.run(&fleet.gateway);
    serving.wait_for("listening on");
    let keeping = keep(&fleet);
    let mut senders = senders(&fleet);
    let mut write =
        |text: &str| senders.iter_mut().enumerate().for_each(|(n, sender)| sender.write(format!("s{n} {text}\n")));
    write("before");
    wait_until("what was sent before", || lines(&receiver).len() == 2);

    first.set_network("down");
    write("while it was cut off");
    let [standby_serving, standby_receiver] = second.run(&standby);
    wait_until("what was sent meanwhile", || lines(&standby_receiver).len() >= 2);
    for keeping in &keeping {
        keeping.wait_for_times("paired with gateway", 2);
    }

    first.set_network("up");
    write("while there were both");
    wait_until("one of them to notice", || {
        [&receiver, &standby_receiver].iter().any(|receiver| receiver.stderr().contains(CONTESTED))
    });
    serving.stop().succeeded();
    let at_first = receiver.stop();
    write("after");
    let mut warned = 0;
    for mut sender in senders {
        sender.close_stdin();
        warned += duplicates_warned_of(&sender.wait().succeeded().stderr);
    }
    let mut counts = BTreeMap::new();
    for line in String::from_utf8(at_first.stdout).unwrap().lines().map(str::to_owned).chain(lines(&standby_receiver)) {
        *counts.entry(line).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 8, "each line of each device: {counts:?}");
    let repeated = counts.values().sum::<usize>() - counts.len();
    assert!(repeated <= warned, "{repeated} lines came twice, and the senders said {warned}: {counts:?}");
    assert_eq!(counts.values().filter(|count| **count > 2).count(), 0, "{counts:?}");
    for process in keeping.into_iter().chain([standby_serving, standby_receiver]) {
        process.stop();
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("socket")
}

fn lines(receiver: &Process) -> Vec<String> {
    String::from_utf8(receiver.stdout()).unwrap().lines().map(str::to_owned).collect()
}
