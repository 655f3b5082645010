//! Claim: a tool looks names up in its sandbox wherever a distribution keeps what the system's resolver reads, also if that is
//! made after the tool has started; where the sandbox is why a name is not found, a hint says so.

#![expect(clippy::print_stderr, reason = "it says what this machine cannot try")]

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use tempfile::TempDir;

use crate::broker::Broker;
use crate::device::{Device, LINK};
use crate::process::Process;
use crate::scratch::directory;

/// The host of the broker, which only [`name_server`] knows.
const HOST: &str = "broker.sts.test";

/// The address of a name server (RFC 1035) for which every name is 127.0.0.1; `None` where this process may not use its port.
fn name_server() -> Option<String> {
    static ADDRESS: OnceLock<Option<String>> = OnceLock::new();
    ADDRESS.get_or_init(start_name_server).clone()
}

fn start_name_server() -> Option<String> {
    // Not the one of a name server of this machine, nor of another run of this test.
    let [low, high, ..] = std::process::id().to_le_bytes();
    let address = format!("127.53.{high}.{}", low | 1);
    let socket = UdpSocket::bind(format!("{address}:53")).ok()?;
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, client)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..len]) {
                socket.send_to(&answer, client).unwrap();
            }
        }
    });
    Some(address)
}

/// The answer to a query: one address of IPv4, and none of IPv6.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name_len = query.get(12..)?.iter().position(|byte| *byte == 0)?;
    let question = query.get(12..12 + name_len + 5)?;
    let is_ipv4 = question[name_len + 1..] == [0, 1, 0, 1];
    let mut answer = [&query[..2], &[0x81, 0x80, 0, 1, 0, is_ipv4.into(), 0, 0, 0, 0], question].concat();
    if is_ipv4 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

/// A machine of its own: what it has in /etc and /run.
struct Machine {
    dir: TempDir,
    name_server: String,
}

impl Machine {
    /// `None` where this process cannot make one.
    fn new() -> Option<Self> {
        let can_mount = Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|made| made.status.success());
        let Some(name_server) = name_server().filter(|_| can_mount) else {
            eprintln!("not tried: needs root, for a name server and a mount namespace");
            return None;
        };
        let machine = Self { dir: directory("machine"), name_server };
        for name in ["etc", "run"] {
            fs::create_dir(machine.dir.path().join(name)).unwrap();
        }
        for (name, content) in [("hosts", "127.0.0.1 localhost\n"), ("nsswitch.conf", "hosts: files dns\n")] {
            fs::write(machine.etc(name), content).unwrap();
        }
        for name in ["passwd", "group"] {
            fs::copy(Path::new("/etc").join(name), machine.etc(name)).unwrap();
        }
        Some(machine)
    }

    fn etc(&self, name: &str) -> PathBuf {
        self.dir.path().join("etc").join(name)
    }

    /// Makes /etc/resolv.conf a link.
    fn lead_to(&self, target: &str) {
        symlink(target, self.etc("new")).unwrap();
        fs::rename(self.etc("new"), self.etc("resolv.conf")).unwrap();
    }

    /// Makes a file below /run that says which name server to ask, in a directory that is made first.
    fn tell_name_server(&self, path: &str) {
        let path = self.dir.path().join("run").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("nameserver {}\noptions timeout:1\n", self.name_server);
        fs::write(path.with_extension("new"), text).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// Starts a tool on this machine.
    fn spawn(&self, tool: &Command) -> Process {
        let script = r#"mount --bind "$0/etc" /etc && mount --bind "$0/run" /run && exec "$@""#;
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script]).arg(self.dir.path()).arg(tool.get_program()).args(tool.get_args());
        for (name, value) in tool.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.current_dir(tool.get_current_dir().unwrap());
        Process::spawn(command)
    }
}

fn device(broker: &Broker) -> Device {
    let device = Device::bare();
    let port = broker.port().to_string();
    device.configure(&[("host", HOST), ("port", &port), ("subtop", "t"), ("pubtop", "t"), ("sts_mode", "nosec")]);
    device
}

#[test]
fn a_name_server_is_found_wherever_a_link_leads() {
    let Some(machine) = Machine::new() else { return };
    let broker = Broker::start();
    let device = device(&broker);
    // As openSUSE and dhcpcd have it.
    for path in ["netconfig/resolv.conf", "resolv.conf"] {
        machine.tell_name_server(path);
        machine.lead_to(&format!("/run/{path}"));
        let receiver = machine.spawn(&device.recv(&["-v", LINK]));
        receiver.wait_for("listening on");
        receiver.stop().succeeded();
    }
}

#[test]
fn a_name_server_that_is_known_later_is_found() {
    let Some(machine) = Machine::new() else { return };
    let mut broker = Broker::start();
    let device = device(&broker);
    machine.lead_to("../run/network/resolve/resolv.conf");
    let receiver = machine.spawn(&device.recv(&["-v", LINK]));
    receiver.wait_for("waiting for the broker");
    machine.tell_name_server("network/resolve/resolv.conf");
    receiver.wait_for("listening on");
    // What is replaced is read, too.
    machine.tell_name_server("network/resolve/resolv.conf");
    broker.restart();
    receiver.wait_for_times("listening on", 2);
    receiver.stop().succeeded();
}

#[test]
fn where_the_sandbox_hides_the_name_server_a_hint_says_so() {
    let Some(machine) = Machine::new() else { return };
    let mut broker = Broker::start();
    let device = device(&broker);
    machine.tell_name_server("one/resolv.conf");
    machine.tell_name_server("other/resolv.conf");
    machine.lead_to("/run/one/resolv.conf");
    let receiver = machine.spawn(&device.recv(&["-v", LINK]));
    receiver.wait_for("listening on");
    machine.lead_to("/run/other/resolv.conf");
    broker.restart();
    if receiver.stderr().contains("sandbox: files") {
        receiver.wait_for("/etc/resolv.conf leads where this run's sandbox does not let it read: restart it");
    } else {
        receiver.wait_for_times("listening on", 2);
    }
    receiver.stop().succeeded();
}
