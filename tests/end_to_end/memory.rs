//! Claim: each key of a session, and the broker's password, is in the memory of a running tool once at most, and on no stack;
//! so it is in a core, if somebody forces one.

#![expect(clippy::print_stderr, reason = "it says what this machine cannot try")]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, Pair, settings};
use crate::process::{Process, wait_until};

const PASSWORD: &str = "correct-horse-battery-7731";

/// The keys in a device's session files, each as it is in memory, with the name of its line.
fn keys(device: &Device) -> Vec<(String, Vec<u8>)> {
    let mut keys = Vec::new();
    for (_, content) in device.runtime_files() {
        let text = String::from_utf8_lossy(&content).into_owned();
        for line in text.lines().filter(|_| text.contains("send_tree")) {
            let Some((name, value)) = line.split_once(" = ") else { continue };
            if ["send_tree", "send_side", "receive_tree", "receive_open", "receive_side", "confirm"].contains(&name) {
                // A key is the last part of its word; of an open stream there are two.
                let kept = if name == "receive_open" { 2 } else { 1 };
                let words = value.split_ascii_whitespace().flat_map(|word| word.rsplit(':').take(kept));
                keys.extend(words.map(|word| (name.to_owned(), STANDARD.decode(word).unwrap())));
            }
        }
    }
    assert!(!keys.is_empty());
    keys
}

/// The same, once the file has the keys of an open stream instead of the keys that led to them: they are written when
/// another stream is over.
fn keys_with_open_stream(device: &Device) -> Vec<(String, Vec<u8>)> {
    let is_open = |keys: &[(String, Vec<u8>)]| keys.iter().any(|(name, _)| name == "receive_open");
    wait_until("the keys of an open stream in the session file", || is_open(&keys(device)));
    keys(device)
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

/// Checks that each key is there at most once, in bytes, and never as text, and that the password is there once. This
/// holds when the tool is at rest: while it reads a file, there are more copies.
fn check(state: &str, tool: &Process, keys: &[(String, Vec<u8>)]) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{state}: not looked at, as only root can");
        return;
    }
    wait_until(&format!("{state} with the password once"), || count(tool, PASSWORD.as_bytes()) == (1, false));
    for (name, key) in keys {
        wait_until(&format!("{state} with {name} once at most, not on the stack"), || {
            let (times, on_stack) = count(tool, key);
            times <= 1 && !on_stack
        });
        // The last digits depend on what follows.
        let text = STANDARD.encode(key);
        wait_until(&format!("{state} without {name} as text"), || count(tool, &text.as_bytes()[..40]).0 == 0);
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
    Process::spawn_with(pair.master.send(&[LINK]), "z\n").wait().succeeded();
    check("sts-recv with an open stream", &receiver, &keys_with_open_stream(&pair.slave));
    let serving = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with");
    sender.write("y\n");
    receiver.wait_for_stdout(b"x\nz\ny\n");
    // The old session's keys and the new one's, and those of a stream of each.
    let both = keys_with_open_stream(&pair.slave);
    check("sts-recv with a new session", &receiver, &both);
    check("sts-pair --serve after a pairing", &serving, &both);
    sender.close_stdin();
    sender.wait().succeeded();
    serving.stop().succeeded();
    receiver.stop().succeeded();
}
