//! Claim: once it has started, a tool can open no file, execute no program and connect to no port that it has no need of, in
//! every state; what it needs keeps working when it is replaced. Without a kernel that can do this, or with `--no-sandbox`,
//! the tools run as before.

#![expect(clippy::print_stderr, reason = "it says what this machine cannot try")]

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use rustix::process::Signal;

use crate::broker::{Broker, Options};
use crate::certificates::{Authority, Kind};
use crate::device::{Device, Identity, LINK, Pair, settings};
use crate::process::Process;

/// What is said of a sandbox that is complete.
const COMPLETE: &str = "sandbox: files, TCP ports, system calls";

/// Attempts that go through: they show that the others fail because of the sandbox.
const ALLOWED: [&str; 3] = ["read-own ok", "set-flags ok", "socket ok"];
/// What root could do by its capabilities.
const CAPABILITIES: [&str; 1] = ["mark EPERM"];
/// Where the broker has a name, its lookup takes sockets of these families, of which one needs a capability to change anything.
const BY_NAME: [&str; 2] = ["unix-socket ok", "add-address EPERM"];
/// Where it has an address, nothing takes them.
const BY_ADDRESS: [&str; 2] = ["unix-socket ENOSYS", "add-address ENOSYS"];
/// Attempts on files and ports, which Landlock refuses.
const LANDLOCK: [&str; 8] = [
    "read-other EACCES",
    "read-older EACCES",
    "read-process EACCES",
    "write-other EACCES",
    "write-beside EACCES",
    "make-beside EACCES",
    "write-system EACCES",
    "connect EACCES",
];
/// Calls that are not on the list.
const SECCOMP: [&str; 22] = [
    "set-id-file ENOSYS",
    "set-id-file-older ENOSYS",
    "set-id-file-newer ENOSYS",
    "change-mode ENOSYS",
    "signal-by-input ENOSYS",
    "signal-by-flag ENOSYS",
    "execute ENOSYS",
    "execute-fd ENOSYS",
    "fork ENOSYS",
    "fast-open ENOSYS",
    "listen ENOSYS",
    "multipath ENOSYS",
    "raw ENOSYS",
    "packet ENOSYS",
    "trace ENOSYS",
    "memory-of-another ENOSYS",
    "signal-another ENOSYS",
    "type-on-terminal ENOSYS",
    "raise-core-limit ENOSYS",
    "dumpable ENOSYS",
    "unshare ENOSYS",
    "io-uring ENOSYS",
];

/// Whether attempts can be made inside a process here; says why not. CI can.
fn can_enter(tool: &Process) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let is_complete = tool.stderr().contains(COMPLETE);
    if !is_root || !is_complete || !cfg!(target_arch = "x86_64") {
        eprintln!("not tried from inside: needs root, x86-64 and a kernel with Landlock and seccomp");
        return false;
    }
    true
}

/// Tries from inside `tool`, started with `-v`, whatever it has no need of; the device's `known_peers` is what it needs.
fn try_from_inside(state: &str, tool: &Process, device: &Device) {
    try_with(&BY_ADDRESS, state, tool, device);
}

/// The same; `sockets` is what comes of other families of sockets.
fn try_with(sockets: &[&str], state: &str, tool: &Process, device: &Device) {
    tool.wait_for("sandbox");
    if !can_enter(tool) {
        return;
    }
    let other = tempfile::NamedTempFile::new().unwrap();
    // It accepts what connects: only the sandbox refuses.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/inside.py");
    let own = device.config_dir().join("gateway.conf");
    let tried = Command::new("python3")
        .args([script, &tool.id().to_string()])
        .args([other.path(), &own])
        .arg(port)
        .output()
        .expect("python3 is installed");
    let result = String::from_utf8(tried.stdout).unwrap();
    assert!(tried.status.success(), "{state}: {result}{}", String::from_utf8_lossy(&tried.stderr));
    let expected = ALLOWED.iter().chain(sockets).chain(&CAPABILITIES).chain(&LANDLOCK).chain(&SECCOMP);
    for line in expected.clone() {
        assert!(result.lines().any(|got| got == *line), "{state}: no {line:?} in:\n{result}");
    }
    assert_eq!(result.lines().count(), expected.count(), "{state}:\n{result}");
}

#[test]
fn sts_send_is_confined_in_every_state() {
    let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let (master, spool) = (&pair.master, pair.master.path().join("spool"));
    let spool = spool.to_str().unwrap();
    broker.stop();
    let mut sender = Process::spawn(master.send(&["-v", LINK]));
    sender.wait_for("waiting for the broker");
    try_from_inside("sts-send without a broker", &sender, master);
    broker.start_again();
    sender.wait_for("connected to");
    try_from_inside("sts-send, connected", &sender, master);
    sender.write("x\n");
    sender.close_stdin();
    sender.wait().succeeded();
    // It follows a host that is looked up, and not one port of one address.
    let port = broker.port().to_string();
    let mut named = settings(&port, "master", "gcm");
    named.retain(|(key, _)| *key != "ip");
    master.configure(&[&named[..], &[("host", "localhost")]].concat());
    let mut spooled = Process::spawn(master.send(&["-v", "--spool", spool, LINK]));
    spooled.wait_for("connected to");
    broker.restart();
    spooled.wait_for_times("connected to", 2);
    try_with(&BY_NAME, "sts-send with a spool, connected again by name", &spooled, master);
    spooled.write("x\n");
    spooled.close_stdin();
    spooled.wait().succeeded();
    // A second run only appends; without a session, a first one waits.
    fs::remove_dir_all(master.runtime_dir()).unwrap();
    let mut first = Process::spawn(master.send(&["-v", "--spool", spool, LINK]));
    first.wait_for("no session");
    try_with(&BY_NAME, "sts-send without a session", &first, master);
    let beside = Process::spawn(master.send(&["-v", "--spool", spool, LINK]));
    try_with(&BY_NAME, "sts-send beside another one", &beside, master);
    first.write("y\n");
    first.signal(Signal::TERM);
    first.wait().failed(&[75], &["no session"]);
}

#[test]
fn sts_recv_is_confined_in_every_state() {
    let mut broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let slave = &pair.slave;
    let receiver = Process::spawn(slave.recv(&["-v", "--wait", LINK]));
    receiver.wait_for("no session");
    try_from_inside("sts-recv without a session", &receiver, slave);
    pair.agree();
    receiver.wait_for("listening on");
    pair.master.send_all(&[], "x\n").succeeded();
    receiver.wait_for_stdout(b"x\n");
    try_from_inside("sts-recv, receiving", &receiver, slave);
    broker.stop();
    receiver.wait_for("waiting for the broker");
    try_from_inside("sts-recv without a broker", &receiver, slave);
    broker.start_again();
    receiver.wait_for_times("listening on", 2);
    pair.master.send_all(&[], "y\n").succeeded();
    receiver.wait_for_stdout(b"x\ny\n");
    receiver.stop().succeeded();
}

#[test]
fn sts_pair_is_confined_in_every_state() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    let alone = Process::spawn(master.pair(&["-v", LINK]));
    alone.wait_for("listening on");
    try_from_inside("sts-pair without its peer", &alone, master);
    alone.signal(Signal::TERM);
    alone.wait();
    let serving = Process::spawn(slave.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    try_from_inside("sts-pair --serve", &serving, slave);
    Process::spawn(master.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with");
    serving.signal(Signal::HUP);
    serving.wait_for("configuration reloaded");
    serving.wait_for_times("listening on", 2);
    try_from_inside("sts-pair --serve, reloaded", &serving, slave);
    Process::spawn(master.pair(&[LINK])).wait().succeeded();
    serving.wait_for_times("paired with", 2);
    serving.stop().succeeded();
    let keeping = Process::spawn(master.pair(&["-v", "--keep", "24h", LINK]));
    keeping.wait_for("listening on");
    try_from_inside("sts-pair --keep", &keeping, master);
    keeping.stop().succeeded();
    let enrolling = Process::spawn(slave.pair(&["-v", "--code", LINK]));
    enrolling.wait_for("listening on");
    try_from_inside("sts-pair --code", &enrolling, slave);
    enrolling.signal(Signal::TERM);
    enrolling.wait();
}

#[test]
fn a_service_names_what_a_later_configuration_cannot_have() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let serving = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    if !serving.stderr().contains(COMPLETE) {
        eprintln!("not tried: this kernel does not have all of Landlock and seccomp");
        return;
    }
    pair.slave.configure(&settings("9", "slave", "gcm"));
    serving.signal(Signal::HUP);
    serving.wait_for("the new configuration needs TCP port 9: this run gave up access to it");
    serving.wait_for("hint: to use it, restart sts-pair");
    serving.wait_for("keeping the previous configuration");
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    serving.stop().succeeded();
}

/// What is absent is made before, or nothing is allowed in its place: the directory that it would be in may be the user's home.
#[test]
fn an_absent_directory_does_not_leave_the_one_around_it_writable() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    fs::remove_dir(slave.runtime_dir()).unwrap();
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null", "-o", "subtop=plain", "-o", "pubtop=plain"];
    let receiver = slave.listen(&plain);
    try_from_inside("sts-recv of a plain link, without a runtime directory", &receiver, slave);
    receiver.stop().succeeded();
    let mut sender = Process::spawn(slave.send(&[&["-v"], &plain[..], &[LINK]].concat()));
    sender.wait_for("connected to");
    try_from_inside("sts-send of a plain link, without a runtime directory", &sender, slave);
    sender.close_stdin();
    sender.wait().succeeded();
    assert!(!slave.runtime_dir().exists(), "a plain link keeps nothing");
    let waiting = Process::spawn(slave.recv(&["-v", "--wait", LINK]));
    waiting.wait_for("no session");
    try_from_inside("sts-recv --wait, without a runtime directory", &waiting, slave);
    waiting.stop().succeeded();
    fs::remove_dir(master.runtime_dir()).unwrap();
    let spool = master.path().join("spool");
    let mut spooled = Process::spawn(master.send(&["-v", "--spool", spool.to_str().unwrap(), LINK]));
    spooled.wait_for("no session");
    try_from_inside("sts-send --spool, without a runtime directory", &spooled, master);
    // The session that comes is found in the directory that was made.
    pair.agree();
    spooled.wait_for("sending to");
    spooled.close_stdin();
    spooled.wait().succeeded();
}

/// As a certificate manager does it: new files, to which the link then points.
#[test]
fn authorities_and_peers_that_are_replaced_are_read_again() {
    let (first, second) = (Authority::new(), Authority::new());
    let (one, other) = (first.sign("broker", Kind::Good), second.sign("broker", Kind::Good));
    let lines = format!("certfile {}\nkeyfile {}\n", one.cert.display(), one.key.display());
    let mut broker = Broker::with_lines(Options::default(), &lines);
    let port = broker.port().to_string();
    let lines =
        [("url", "mqtts://localhost"), ("port", &*port), ("sts_mode", "nosec"), ("subtop", "t"), ("pubtop", "t")];
    let device = Device::configured(Identity::Station, &[&lines[..], &[("ca_file", "live/ca.pem")]].concat());
    let (live, archive) = (device.config_dir().join("live"), device.path().join("archive"));
    fs::create_dir(&live).unwrap();
    fs::create_dir(&archive).unwrap();
    fs::copy(first.file(), archive.join("ca1.pem")).unwrap();
    std::os::unix::fs::symlink(archive.join("ca1.pem"), live.join("ca.pem")).unwrap();
    let receiver = device.listen(&[]);
    broker.stop();
    receiver.wait_for("waiting for the broker");
    fs::copy(second.file(), archive.join("ca2.pem")).unwrap();
    std::os::unix::fs::symlink(archive.join("ca2.pem"), live.join("new")).unwrap();
    fs::rename(live.join("new"), live.join("ca.pem")).unwrap();
    fs::copy(&other.cert, &one.cert).unwrap();
    fs::copy(&other.key, &one.key).unwrap();
    broker.start_again();
    receiver.wait_for_times("listening on", 2);
    receiver.stop().succeeded();
}

/// Runs a tool as on another kernel: under strace(1), which fails these calls.
fn on_another_kernel(command: &Command, fail: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=landlock_create_ruleset,seccomp"]);
    for call in fail {
        traced.args(["-e", &format!("inject={call}")]);
    }
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced.current_dir(command.get_current_dir().unwrap());
    traced
}

#[test]
fn without_a_kernel_that_can_confine_the_tools_run_and_say_so() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let absent = ["landlock_create_ruleset:error=ENOSYS", "seccomp:error=EINVAL"];
    let disabled = ["landlock_create_ruleset:error=EOPNOTSUPP"];
    for (fail, said) in [
        (&absent[..], &["files: this kernel has no Landlock (needs Linux 5.13)", "system calls: "][..]),
        (&disabled, &["files: Landlock is not enabled in this kernel"]),
    ] {
        let receiver = Process::spawn(on_another_kernel(&pair.slave.recv(&["-v", "--once", LINK]), fail));
        receiver.wait_for("listening on");
        pair.master.send_all(&[], "x\n").succeeded();
        let ended = receiver.wait().succeeded().wrote(b"x\n");
        for said in said {
            assert!(ended.stderr.contains(&format!("no sandbox for {said}")), "{}", ended.stderr);
        }
    }
}

#[test]
fn no_sandbox_is_none() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--no-sandbox"]);
    let status = fs::read_to_string(format!("/proc/{}/status", receiver.id())).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    for field in ["Seccomp:", "NoNewPrivs:"] {
        let value = |status: &str| status.lines().find(|line| line.starts_with(field)).map(str::to_owned);
        assert_eq!(value(&status), value(&own));
    }
    assert!(receiver.stderr().contains("no sandbox (--no-sandbox)"), "{}", receiver.stderr());
    receiver.stop().succeeded();
}
