//! Claim: each key of a session, and the broker's password, is in the memory of a running tool once at most, and on no stack;
//! so it is in a core, if somebody forces one.

#![expect(clippy::print_stderr, reason = "it says what this machine cannot try")]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, Pair, settings};
use crate::process::Process;

const PASSWORD: &str = "correct-horse-battery-7731";

/// The keys in a device's session files, each as it is in memory, with the name of its line.
fn keys(device: &Device) -> Vec<(String, Vec<u8>)> {
    let mut keys = Vec::new();
    for (_, content) in device.runtime_files() {
        let text = String::from_utf8_lossy(&content).into_owned();
        for line in text.lines().filter(|_| text.contains("send_tree")) {
            let Some((name, value)) = line.split_once(" = ") else { continue };
            if ["send_tree", "send_side", "receive_tree", "receive_side", "confirm"].contains(&name) {
                let words = value.split_ascii_whitespace().map(|word| word.rsplit(':').next().unwrap());
                keys.extend(words.map(|word| (name.to_owned(), STANDARD.decode(word).unwrap())));
            }
        }
    }
    assert!(!keys.is_empty());
    keys
}

/// How often `needle` is in what a process can write to, and whether it is on the stack: what a core would have.
fn count(tool: &Process, needle: &[u8]) -> (usize, bool) {
    let maps = fs::read_to_string(format!("/proc/{}/maps", tool.id())).unwrap();
    let mut memory = File::open(format!("/proc/{}/mem", tool.id())).unwrap();
    let (mut times, mut on_stack) = (0, false);
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        memory.seek(SeekFrom::Start(start)).unwrap();
        // What is mapped and was never used may have nothing behind it.
        if memory.read_exact(&mut bytes).is_ok() {
            let found =
                bytes.windows(needle.len()).filter(|window| window[0] == needle[0] && *window == needle).count();
            times += found;
            on_stack |= found > 0 && line.ends_with("[stack]");
        }
    }
    (times, on_stack)
}

/// Checks that each key is there once at most, in bytes, and never as text, and that the password is there once.
fn check(state: &str, tool: &Process, keys: &[(String, Vec<u8>)]) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{state}: not looked at, as only root can");
        return;
    }
    assert_eq!(count(tool, PASSWORD.as_bytes()), (1, false), "{state}: the password");
    for (name, key) in keys {
        let (times, on_stack) = count(tool, key);
        assert!(times <= 1 && !on_stack, "{state}: {name} is there {times} times, on the stack: {on_stack}");
        // The last digits depend on what follows.
        assert_eq!(count(tool, &STANDARD.encode(key).as_bytes()[..40]).0, 0, "{state}: {name} as text");
    }
    assert!(keys.iter().any(|(_, key)| count(tool, key).0 == 1), "{state}: no key at all was found");
}

/// A device that logs in at the broker.
fn device(identity: Identity, port: &str, mode: &str) -> Device {
    let login = [("username", "user"), ("password_file", "secret")];
    let device = Device::with(identity);
    device.write("secret", PASSWORD, 0o600);
    device.configure(&[&settings(port, mode, "gcm")[..], &login].concat());
    device
}

#[test]
fn a_secret_is_in_memory_once() {
    let broker = Broker::with(Options { login: Some(("user", PASSWORD)), ..Options::default() });
    let port = broker.port().to_string();
    let (master, slave) = (device(Identity::Station, &port, "master"), device(Identity::Gateway, &port, "slave"));
    master.trust("gateway", &slave);
    slave.trust("station", &master);
    let pair = Pair { master, slave };
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    check("sts-recv", &receiver, &keys(&pair.slave));
    let mut sender = Process::spawn(pair.master.send(&["-v", LINK]));
    sender.write("x\n");
    receiver.wait_for_stdout(b"x\n");
    check("sts-send", &sender, &keys(&pair.master));
    let serving = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with");
    sender.write("y\n");
    receiver.wait_for_stdout(b"x\ny\n");
    // The old session's keys and the new one's. What the receiver derives as a stream begins, it also reads back from the file.
    let mut both = keys(&pair.slave);
    both.retain(|(name, _)| name != "receive_tree");
    check("sts-recv with a new session", &receiver, &both);
    check("sts-pair --serve after a pairing", &serving, &both);
    sender.close_stdin();
    sender.wait().succeeded();
    serving.stop().succeeded();
    receiver.stop().succeeded();
}
