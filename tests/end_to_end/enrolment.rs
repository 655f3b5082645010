//! Claim: a code that a person carries from one device to the other makes the two trust each other, and no third device
//! gains trust.

use std::fs;
use std::mem::MaybeUninit;
use std::process::{Command, Stdio};
use std::thread;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use sts::handshake::Code;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, M2S, S2M, readings, settings};
use crate::hostile::HostileBroker;
use crate::process::{Ended, Process, wait_until};
use crate::sniffer::Sniffer;

const INITREQ: u8 = 0x21;
const AUTHREQ: u8 = 0x23;

/// A master and a slave that do not know each other.
struct Strangers {
    master: Device,
    slave: Device,
}

impl Strangers {
    fn on(broker: &Broker) -> Self {
        Self::at(broker.port())
    }

    /// With the broker on this port.
    fn at(port: u16) -> Self {
        let port = port.to_string();
        Self {
            master: Device::configured(Identity::Station, &settings(&port, "master", "gcm")),
            slave: Device::configured(Identity::Gateway, &settings(&port, "slave", "gcm")),
        }
    }

    /// Starts the slave, with a code or without one, and returns once it listens.
    fn slave(&self, code: Option<&str>, args: &[&str]) -> Process {
        let mut command = self.slave.pair(&[&["-v", "--code", "--name", "gateway"], args, &[LINK]].concat());
        code.map(|code| command.env("STS_CODE", code));
        let slave = Process::spawn(command);
        slave.wait_for("listening on");
        slave
    }

    fn master(&self, code: &str, args: &[&str]) -> Process {
        let mut command = self.master.pair(&[&["--code", "--name", "station"], args, &[LINK]].concat());
        command.env("STS_CODE", code);
        Process::spawn(command)
    }

    fn enrol(&self, code: &str) -> [Ended; 2] {
        let slave = self.slave(Some(code), &[]);
        let master = self.master(code, &[]).wait();
        [master, slave.wait()]
    }

    fn enrolled(&self, code: &str) {
        for ended in self.enrol(code) {
            ended.succeeded();
        }
    }

    fn works(&self) {
        let slave = Process::spawn(self.slave.pair(&[LINK]));
        Process::spawn(self.master.pair(&[LINK])).wait().succeeded();
        slave.wait().succeeded();
        let receiver = self.slave.listen(&["--once"]);
        let input = readings(50);
        self.master.send_all(&[], input.clone()).succeeded();
        receiver.wait().succeeded().wrote(&input);
    }
}

fn code(seed: u64) -> String {
    Code::generate(&mut StdRng::seed_from_u64(seed)).expose().to_string()
}

fn known_peers(device: &Device) -> String {
    fs::read_to_string(device.config_dir().join("known_peers")).unwrap_or_default()
}

/// The code that a slave shows.
fn shown(slave: &Process) -> String {
    slave.wait_for("sts-pair --code gateway\n");
    let stderr = slave.stderr();
    let (_, rest) = stderr.split_once("the code is ").expect("it shows a code");
    rest.lines().next().unwrap().to_owned()
}

#[test]
fn without_a_terminal_both_take_the_code_from_the_environment() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let code = code(1);
    let [master, slave] = devices.enrol(&code).map(Ended::succeeded);
    assert!(known_peers(&devices.master).starts_with("gateway sts-rsa "), "{}", known_peers(&devices.master));
    assert!(known_peers(&devices.slave).starts_with("station sts-rsa "), "{}", known_peers(&devices.slave));
    for (ended, peer) in [(&master, "gateway"), (&slave, "station")] {
        assert!(ended.stdout.is_empty(), "stdout carries data only");
        for text in [format!("{peer} is now trusted: SHA256:"), format!("paired with {peer} (SHA256:")] {
            assert!(ended.stderr.contains(&text), "no {text:?} in:\n{}", ended.stderr);
        }
        assert!(!ended.stderr.contains(&code[..3]) && !ended.stderr.contains('\r'), "{}", ended.stderr);
    }
    // The session works at once, and from now on the two pair by their keys alone.
    let receiver = devices.slave.listen(&["--once"]);
    devices.master.send_all(&[], "under the first session\n").succeeded();
    receiver.wait().succeeded().wrote(b"under the first session\n");
    devices.works();
}

#[test]
fn an_enrolment_writes_the_known_peers_once() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let both = [&devices.master, &devices.slave];
    let watches = both.map(|device| {
        let watch = inotify::init(CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, device.config_dir(), WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE).unwrap();
        watch
    });
    devices.enrolled(&code(9));
    for (watch, device) in watches.iter().zip(both) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(watch, &mut buffer);
        let mut written = 0;
        while let Ok(event) = events.next() {
            written += u32::from(event.file_name() == Some(c"known_peers"));
        }
        assert_eq!(written, 1);
        let known = known_peers(device);
        assert!(known.ends_with(" link=gateway paired=gateway\n") && known.lines().count() == 1, "{known}");
    }
}

#[test]
fn a_code_leaves_the_environment_and_is_in_no_argument() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let code = code(2);
    let slave = devices.slave(Some(&code), &["--timeout", "0"]);
    for file in ["environ", "cmdline"] {
        let text = fs::read(format!("/proc/{}/{file}", slave.id())).unwrap();
        let text = String::from_utf8_lossy(&text).replace('\0', " ");
        assert!(text.contains("gateway") || text.contains("STS_RUNTIME_DIR"), "{text}");
        assert!(!text.contains(&code) && !text.contains(&code.replace('-', "")), "{file}: {text}");
    }
    slave.stop().failed(&[75], &[]);
}

#[test]
fn the_slave_shows_a_code_and_the_command_for_the_other_device() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let slave = devices.slave(None, &["--timeout=0"]);
    let code = shown(&slave);
    assert!(Code::parse(&code).is_ok(), "{code}");
    assert!(slave.stderr().contains("sts-pair: on the other device: sts-pair --code gateway\n"), "{}", slave.stderr());
    devices.master(&code.to_lowercase().replace('-', ""), &[]).wait().succeeded();
    slave.wait().succeeded();
    devices.works();
}

#[test]
fn quiet_is_not_about_the_code() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let slave = Process::spawn(devices.slave.pair(&["-q", "--code", "--timeout", "0", LINK]));
    shown(&slave);
    // If it does not catch signals yet, the signal kills it.
    slave.stop().failed(&[75, 128 + 15], &[]);
}

#[test]
fn a_code_may_come_on_standard_input() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let slave = devices.slave(None, &[]);
    let mut master = devices.master.pair(&["--code", "--name", "station", LINK]);
    master.env("STS_CODE", "-");
    Process::spawn_with(master, format!("{}\n", shown(&slave))).wait().succeeded();
    slave.wait().succeeded();
}

#[test]
fn the_master_asks_for_the_code_on_its_terminal() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let slave = devices.slave(None, &[]);
    let code = shown(&slave);
    let mut terminal = terminal(&devices.master, "--code --name station gateway");
    terminal.wait_for_text("code that the other device shows: ", 1);
    // Swap two neighbours, or, if they are equal, change one of them: this is reported before anything is sent.
    let mut typo: Vec<char> = code.chars().collect();
    typo.swap(0, 1);
    if typo[0] == typo[1] {
        typo[0] = if typo[0] == 'X' { 'Y' } else { 'X' };
    }
    terminal.0.write(format!("{}\n", typo.iter().collect::<String>()));
    terminal.wait_for_text("code that the other device shows: ", 2);
    assert!(terminal.text().contains("one character is wrong, or two are swapped"), "{}", terminal.text());
    // A well-formed but wrong code uses up an attempt, and the master asks again.
    terminal.0.write(format!("{}\n", self::code(99)));
    slave.wait_for("2 attempts are left");
    terminal.wait_for_text("code that the other device shows: ", 3);
    assert!(terminal.text().contains("wrong code"), "{}", terminal.text());
    terminal.0.write(format!("{code}\n"));
    let ended = terminal.0.wait().succeeded();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(said.contains("paired with gateway"), "{said}");
    let slave = slave.wait().succeeded();
    assert_eq!(slave.stderr.matches("wrong code").count(), 1, "a typo costs no attempt: {}", slave.stderr);
    devices.works();
}

#[test]
fn a_person_at_a_terminal_sees_that_it_waits_and_others_see_lines() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let terminal = terminal(&devices.slave, "--code --name gateway gateway");
    for picture in ['|', '/', '-', '\\'] {
        terminal.wait_for_text(&format!("\r{picture} waiting for the other device, 9:"), 1);
    }
    let said = terminal.text();
    let (_, rest) = said.split_once("the code is ").expect("it shows a code");
    devices.master(rest.lines().next().unwrap().trim(), &[]).wait().succeeded();
    let said = String::from_utf8_lossy(&terminal.0.wait().succeeded().stdout).into_owned();
    // Messages begin where the progress line was erased.
    assert!(said.contains(" \rsts-pair: station is now trusted"), "{said:?}");
}

#[test]
fn while_there_is_no_broker_it_is_the_broker_that_is_waited_for() {
    let device = Device::configured(Identity::Gateway, &settings("1", "slave", "gcm"));
    let terminal = terminal(&device, "--code gateway");
    terminal.wait_for_text("waiting for the broker, ", 3);
    assert!(!terminal.text().contains("waiting for the other device"), "{}", terminal.text());
}

/// The broker drops, repeats, reorders and delays messages, and cuts connections.
#[test]
fn a_broker_that_misbehaves_costs_time_and_no_code() {
    thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let broker = HostileBroker::start();
                let devices = Strangers::at(broker.port());
                let slave = devices.slave(Some(&code(seed)), &[]);
                broker.arm(seed, 12);
                devices.master(&code(seed), &[]).wait().succeeded();
                let slave = slave.wait().succeeded();
                assert!(!slave.stderr.contains("wrong code"), "{}", slave.stderr);
            });
        }
    });
}

#[test]
fn three_wrong_codes_end_the_wait_and_both_are_told() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let right = code(1);
    let slave = devices.slave(Some(&right), &[]);
    for attempt in 2..5 {
        let master = devices.master(&code(attempt), &[]).wait();
        master.failed(&[77], &["wrong code"]);
    }
    let slave = slave.wait().failed(&[77], &["2 attempts are left", "1 attempt is left", "erased", "hint: "]);
    assert!(!slave.stderr.contains(&right[..3]), "{}", slave.stderr);
    devices.master(&right, &["--timeout", "1"]).wait().failed(&[75], &["no slave with the code answered", "--code"]);
    assert_eq!(known_peers(&devices.master) + &known_peers(&devices.slave), "");
}

#[test]
fn a_name_that_is_taken_is_refused_on_both_sides_and_kept() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    devices.slave.trust("station", &Device::with(Identity::Stranger));
    let before = known_peers(&devices.slave);
    let [master, slave] = devices.enrol(&code(1));
    slave.failed(&[77], &["cannot trust `station`", "--forget station", "--name"]);
    master.failed(&[77], &["`gateway` cannot trust this device", "--name NAME"]);
    assert_eq!((known_peers(&devices.slave), known_peers(&devices.master)), (before.clone(), String::new()));

    // In the reverse case, the slave is not told, and continues to wait; its code is still valid.
    devices.slave.write("known_peers", "", 0o600);
    devices.master.write("known_peers", before.replace("station", "gateway"), 0o600);
    let slave = devices.slave(Some(&code(2)), &[]);
    devices.master(&code(2), &[]).wait().failed(&[77], &["cannot trust `gateway`", "--forget gateway"]);
    Process::spawn(devices.master.pair(&["--forget", "gateway"])).wait().succeeded();
    devices.master(&code(2), &[]).wait().succeeded();
    slave.wait().succeeded();
    devices.works();
}

#[test]
fn a_key_has_one_name_and_a_link_the_peer_that_it_names() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    devices.slave.trust("pump", &devices.master);
    let [_, slave] = devices.enrol(&code(1));
    slave.failed(&[77], &["already known as `pump`", "--name pump"]);

    devices.slave.write("known_peers", "", 0o600);
    let slave = devices.slave(Some(&code(2)), &["-o", "peer=pump"]);
    devices.master(&code(2), &[]).wait().failed(&[77], &["cannot trust this device"]);
    slave.wait().failed(&[77], &["the link is with `pump`", "peer = station"]);
    assert_eq!(known_peers(&devices.slave), "");
}

#[test]
fn enrolling_again_changes_nothing_and_mends_what_is_half_done() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    devices.enrolled(&code(1));
    let before = [&devices.master, &devices.slave].map(known_peers);
    devices.enrolled(&code(2));
    assert_eq!([&devices.master, &devices.slave].map(known_peers), before);
    // As if one of the two had died before it pinned the other.
    for device in [&devices.master, &devices.slave] {
        device.write("known_peers", "", 0o600);
        devices.enrolled(&code(3));
        assert_eq!([&devices.master, &devices.slave].map(known_peers), before);
    }
    devices.works();
}

#[test]
fn a_second_peer_needs_no_line() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    devices.slave.trust("pump", &Device::with(Identity::Stranger));
    let [_, slave] = devices.enrol(&code(1)).map(Ended::succeeded);
    assert!(!slave.stderr.contains("hint:"), "{}", slave.stderr);
    devices.works();
}

#[test]
fn one_side_with_a_code_and_one_without_do_not_pair_and_are_told() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    devices.slave.trust("station", &devices.master);
    devices.master.trust("gateway", &devices.slave);
    let master = Process::spawn(devices.master.pair(&["--timeout", "0", LINK]));
    let slave = devices.slave(Some(&code(1)), &["--timeout", "0"]);
    slave.wait_for("the other device pairs without a code (unverified)");
    slave.stop().failed(&[75], &[]);
    master.stop().failed(&[75], &[]);

    let master = devices.master(&code(1), &["--timeout", "0"]);
    let slave = Process::spawn(devices.slave.pair(&["--timeout", "0", LINK]));
    slave.wait_for("the other device enrols by code (unverified)");
    slave.stop().failed(&[75], &["sts-pair --code"]);
    master.stop().failed(&[75], &[]);
    for (path, _) in [devices.slave.runtime_files(), devices.master.runtime_files()].concat() {
        assert!(path.to_str().unwrap().ends_with("lock"), "a session: {}", path.display());
    }
}

#[test]
fn a_recorded_enrolment_said_again_changes_nothing() {
    let broker = Broker::start();
    let devices = Strangers::on(&broker);
    let sniffer = Sniffer::start(&broker);
    devices.enrolled(&code(1));
    sniffer.wait_for_type(M2S, AUTHREQ, 1);
    let recorded = sniffer.seen();
    assert!(recorded.iter().any(|seen| seen.payload[0] == INITREQ && seen.payload.len() == 1266));
    for device in [&devices.master, &devices.slave] {
        device.write("known_peers", "", 0o600);
    }
    // The same code again, with a recording replayed: the attempts are new ones, so the recording is of no use.
    let slave = devices.slave(Some(&code(1)), &[]);
    for message in &recorded {
        broker.publish(&message.topic, &message.payload);
        broker.publish(if message.topic == M2S { S2M } else { M2S }, &message.payload);
    }
    let master = devices.master(&code(1), &[]);
    master.wait().succeeded();
    let slave = slave.wait().succeeded();
    assert!(!slave.stderr.contains("wrong code"), "{}", slave.stderr);
    devices.works();
}

#[test]
fn a_wrong_command_line_or_variable_is_said_before_anything_is_sent() {
    let device = Device::configured(Identity::Station, &settings("1", "master", "gcm"));
    let run = |args: &[&str], code: &str| {
        let mut command = device.pair(&[args, &[LINK]].concat());
        command.env("STS_CODE", code);
        Process::spawn_with(command, "000-000-001\n").wait()
    };
    for bad in ["secret", "000-000-001", "000-000-00U", "--", "000-000-000-000"] {
        let ended = run(&["--code"], bad).failed(&[64], &["STS_CODE: ", "hint: "]);
        assert!(!ended.stderr.contains("secret") && !ended.stderr.contains("000"), "{}", ended.stderr);
    }
    run(&["--code"], "-").failed(&[64], &["STS_CODE: "]);
    run(&["--name", "station"], "").failed(&[64], &["--code"]);
    run(&["--code", "--name", "no name"], "").failed(&[64], &["--name"]);
    run(&["--code", "--end"], "").failed(&[64], &["--end"]);

    let mut nobody = Command::new("setsid");
    nobody.arg("--wait").arg(device.pair(&[]).get_program()).args(["--code", LINK]);
    nobody.env("STS_CONFIG_DIR", device.config_dir()).env("STS_RUNTIME_DIR", device.runtime_dir());
    nobody.env_remove("STS_CODE");
    Process::spawn_with(nobody, "").wait().failed(&[64], &["cannot ask for the code: /dev/tty", "STS_CODE"]);
}

/// sts-pair on a terminal of its own: script(1) passes on the input, and shows the output.
struct Terminal(Process);

fn terminal(device: &Device, args: &str) -> Terminal {
    let program = device.pair(&[]).get_program().to_str().unwrap().to_owned();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("{program} {args}"), "/dev/null"]).current_dir(device.path());
    terminal.env("STS_CONFIG_DIR", device.config_dir()).env("STS_RUNTIME_DIR", device.runtime_dir());
    terminal.env_remove("STS_CODE");
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Terminal(Process::started(terminal))
}

impl Terminal {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout()).into_owned()
    }

    /// Waits until the terminal has shown this text this many times.
    fn wait_for_text(&self, text: &str, times: usize) {
        wait_until(&format!("{text:?} on the terminal"), || self.text().matches(text).count() >= times);
    }
}
