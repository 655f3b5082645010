//! Claim: each key of a session, and each password, is in the memory of a running tool once at most, and on no stack, whatever
//! carries it to the broker; so it is in a core, if somebody forces one. Once a session is deleted, none of its keys is there. Of
//! the device's own key there are those copies that its library computes with, and one that it does not erase.

#![expect(clippy::print_stderr, reason = "it says what this machine cannot try")]

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::broker::{Broker, Options};
use crate::certificates::{Authority, Kind};
use crate::device::{Device, Identity, LINK, Pair, settings};
use crate::process::{Process, wait_until};
use crate::proxies;

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
    count_where(tool, needle.len(), |window| window[0] == needle[0] && window == needle)
}

/// How often `needle` is there as WebSocket masks it (RFC 6455, 5.3): the mask is beside it.
fn count_masked(tool: &Process, needle: &[u8]) -> usize {
    let is_masked = |window: &[u8]| {
        let mask = |at: usize| window[at] ^ needle[at];
        (4..needle.len()).all(|at| mask(at) == mask(at - 4)) && (0..4).any(|at| mask(at) != 0)
    };
    count_where(tool, needle.len(), is_masked).0
}

/// How often there are `len` bytes that `is_it` accepts, and whether they are on the stack.
fn count_where(tool: &Process, len: usize, is_it: impl Fn(&[u8]) -> bool) -> (usize, bool) {
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
            let found = bytes.windows(len).filter(|window| is_it(window)).count();
            times += found;
            on_stack |= found > 0 && line.ends_with("[stack]");
        }
    }
    (times, on_stack)
}

/// The private numbers of a device's key (RFC 8017, A.1.2) as they are in memory, from the lowest byte on, each with its name and
/// how often it may be there: `rsa` keeps each prime as such and to compute with, the first one once more in a third number,
/// and leaves what it prepared to compute with the second one.
fn identity(device: &Device) -> Vec<(&'static str, Vec<u8>, usize)> {
    let pem = fs::read_to_string(device.config_dir().join("identity.pem")).unwrap();
    let der = STANDARD.decode(pem.lines().filter(|line| !line.starts_with('-')).collect::<String>()).unwrap();
    let (info, _) = element(&der);
    // Version, algorithm, and the key as bytes.
    let (_, rest) = element(info);
    let (_, rest) = element(rest);
    let (key, _) = element(rest);
    let (mut numbers, _) = element(key);
    let mut found = Vec::new();
    while !numbers.is_empty() {
        let (number, rest) = element(numbers);
        found.push(number.iter().rev().copied().collect::<Vec<_>>());
        numbers = rest;
    }
    let names = [("d", 3, 1), ("prime1", 4, 3), ("prime2", 5, 3), ("dp", 6, 1), ("dq", 7, 1)];
    // The last byte may be a zero that keeps a number positive.
    names.map(|(name, at, times)| (name, found[at][..150].to_vec(), times)).into()
}

/// The content of the first element of DER, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (len, start) = match der[1] {
        short @ ..0x80 => (usize::from(short), 2),
        long => {
            let end = 2 + usize::from(long & 0x7f);
            (der[2..end].iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), end)
        }
    };
    (&der[start..start + len], &der[start + len..])
}

/// Checks that the device's key is there no more often than it must be, on no stack, and never as in its file.
fn check_identity(state: &str, tool: &Process, device: &Device) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{state}: not looked at, as only root can");
        return;
    }
    let numbers = identity(device);
    for (name, number, times) in &numbers {
        wait_until(&format!("{state} with {name} {times} times at most, not on the stack"), || {
            let (found, on_stack) = count(tool, number);
            found <= *times && !on_stack
        });
        let as_in_der: Vec<_> = number.iter().rev().copied().collect();
        wait_until(&format!("{state} without {name} as in DER"), || count(tool, &as_in_der).0 == 0);
    }
    assert!(numbers.iter().any(|(_, number, _)| count(tool, number).0 > 0), "{state}: no number of it was found");
    let pem = fs::read_to_string(device.config_dir().join("identity.pem")).unwrap();
    for line in pem.lines().filter(|line| line.len() == 64) {
        wait_until(&format!("{state} without the file of its key"), || count(tool, line.as_bytes()).0 == 0);
    }
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
    check_identity("sts-pair --serve after a pairing", &serving, &pair.slave);
    sender.close_stdin();
    sender.wait().succeeded();
    serving.stop().succeeded();
    receiver.stop().succeeded();
    let enrolling = Process::spawn(pair.slave.pair(&["-v", "--code", LINK]));
    enrolling.wait_for("listening on");
    check_identity("sts-pair --code", &enrolling, &pair.slave);
    enrolling.signal(rustix::process::Signal::TERM);
    enrolling.wait();
}

/// The settings of a way to the broker, and the texts of a proxy's password that may be in memory so many times.
struct Way {
    settings: Vec<(&'static str, String)>,
    proxy_password: Vec<(Vec<u8>, usize)>,
}

fn ways(urls: &[String; 2], proxies: [u16; 2]) -> [Way; 4] {
    let direct = |url: &String| Way { settings: vec![("url", url.clone())], proxy_password: Vec::new() };
    let (_, password) = proxies::LOGIN.split_once(':').unwrap();
    let through = |scheme: &str, port: u16| {
        let proxy = format!("{scheme}://{}@127.0.0.1:{port}", proxies::LOGIN);
        Way {
            settings: vec![("url", "mqtt://broker.inside:1883".to_owned()), ("proxy", proxy)],
            proxy_password: vec![(password.into(), 1), (STANDARD.encode(proxies::LOGIN).into(), 0)],
        }
    };
    let [tls, web] = urls;
    let [socks, http] = proxies;
    [direct(tls), direct(web), through("socks5", socks), through("http", http)]
}

/// Checks what a tool keeps of the passwords once it is connected: what it needs to connect again.
fn check_passwords(state: &str, tool: &Process, way: &Way) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("{state}: not looked at, as only root can");
        return;
    }
    let once = || count(tool, PASSWORD.as_bytes()) == (1, false);
    wait_until(&format!("{state} with the password once"), once);
    wait_until(&format!("{state} without it masked"), || count_masked(tool, PASSWORD.as_bytes()) == 0);
    for (text, times) in &way.proxy_password {
        let shown = text.escape_ascii();
        wait_until(&format!("{state} with {shown} {times} times"), || count(tool, text) == (*times, false));
    }
}

#[test]
fn a_password_is_in_memory_once_whatever_carries_it() {
    let authority = Authority::new();
    let (files, ca) = (authority.sign("broker", Kind::Good), authority.file());
    let tls = format!("certfile {}\nkeyfile {}\n", files.cert.display(), files.key.display());
    let options = Options { login: Some(("user", PASSWORD)), ..Options::default() };
    let mut broker = Broker::listening(options, |_, [port, web]| {
        format!("listener {port} 127.0.0.1\n{tls}listener {web} 127.0.0.1\nprotocol websockets\n{tls}")
    });
    let [port, web] = broker.more_ports();
    let urls = [format!("mqtts://localhost:{port}"), format!("wss://localhost:{web}/mqtt")];
    let (socks5, http) = (proxies::socks5(broker.port()), proxies::http(broker.port()));
    for way in ways(&urls, [socks5.port(), http.port()]) {
        let device = Device::bare();
        device.write("secret", PASSWORD, 0o600);
        let plain = [("sts_mode", "nosec"), ("subtop", "t"), ("pubtop", "t")];
        let login = [("username", "user"), ("password_file", "secret"), ("ca_file", ca.to_str().unwrap())];
        let way_lines: Vec<_> = way.settings.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let is_tls = way.settings[0].1.contains("s://");
        device.configure(&[&plain[..], &login[..if is_tls { 3 } else { 2 }], &way_lines].concat());
        let receiver = device.listen(&[]);
        check_passwords(&format!("{:?}", way.settings), &receiver, &way);
        broker.restart();
        receiver.wait_for_times("listening on", 2);
        check_passwords(&format!("{:?}, connected again", way.settings), &receiver, &way);
        receiver.stop().succeeded();
    }
}

/// Nothing else happens to the tool: nothing comes, and there is nothing to send.
#[test]
fn an_idle_tool_drops_the_keys_of_a_session_that_is_deleted() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not looked at, as only root can");
        return;
    }
    let broker = Broker::start();
    for action in [&["--end", LINK][..], &["--forget", "station"]] {
        let pair = Pair::paired(&broker, "gcm");
        let receiver = pair.slave.listen(&[]);
        pair.master.send_all(&[], "x\n").succeeded();
        receiver.wait_for_stdout(b"x\n");
        deletes(action, &pair.slave, &[&receiver]);
        receiver.stop();
    }
    for action in [&["--end", LINK][..], &["--forget", "gateway"]] {
        let pair = Pair::paired(&broker, "gcm");
        let receiver = pair.slave.listen(&[]);
        let unused = Process::spawn(pair.master.send(&["-v", LINK]));
        unused.wait_for("connected to");
        let mut used = Process::spawn(pair.master.send(&["-v", "--confirm", LINK]));
        used.write("x\n");
        receiver.wait_for_stdout(b"x\n");
        let tools = [&unused, &used];
        deletes(action, &pair.master, &tools);
    }
}

/// Checks that this command of sts-pair takes all keys out of the memory of these tools.
fn deletes(action: &[&str], device: &Device, tools: &[&Process]) {
    let keys = keys(device);
    let has_any = |tool: &Process| keys.iter().any(|(_, key)| count(tool, key).0 > 0);
    assert!(tools.iter().all(|tool| has_any(tool)), "no key was found before {action:?}");
    Process::spawn(device.pair(action)).wait().succeeded();
    for (number, tool) in tools.iter().enumerate() {
        wait_until(&format!("no key in memory of tool {number} after {action:?}"), || !has_any(tool));
    }
}
