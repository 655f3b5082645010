//! Claim: a key that is trusted or enrolled for one link changes no other link, neither running tools nor those that start
//! later, before and after a reboot. Messages that a configuration does not accept wait with the broker until it does.

use std::fs;
use std::path::Path;
use std::process::Command;

use rand::SeedableRng;
use rand::rngs::StdRng;
use sts::handshake::Code;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, M2S, Pair, settings};
use crate::process::{Ended, Process};

/// A second link of a device that has [`LINK`], with topics of its own.
const OTHER: &str = "other";

/// Settings of [`OTHER`].
fn other_settings<'a>(port: &'a str, mode: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut settings = settings(port, mode, "gcm");
    for (key, value) in &mut settings {
        match (&**key, &**value) {
            ("subtop" | "pubtop", "m2s") => *value = "other/m2s",
            ("subtop" | "pubtop", _) => *value = "other/s2m",
            ("clientid", "station") => *value = "other-station",
            ("clientid", _) => *value = "other-gateway",
            _ => {}
        }
    }
    settings
}

/// Adds the link [`OTHER`] to a device.
fn add_other(device: &Device, port: &str, mode: &str) {
    let lines: Vec<_> = other_settings(port, mode).iter().map(|(key, value)| format!("{key} = {value}\n")).collect();
    device.write("other.conf", lines.concat(), 0o600);
}

fn key(device: &Device) -> Vec<u8> {
    Process::spawn(device.pair(&["--key"])).wait().succeeded().stdout
}

fn trust(device: &Device, args: &[&str], peer: &Device) -> Ended {
    Process::spawn_with(device.pair(&[&["--trust"], args].concat()), key(peer)).wait()
}

/// Does to a device what a reboot does: only its configuration directory remains.
fn reboot(device: &Device) {
    fs::remove_dir_all(device.runtime_dir()).unwrap();
}

fn agree(master: &Device, slave: &Device, link: &str) {
    let slave = Process::spawn(slave.pair(&[link]));
    Process::spawn(master.pair(&[link])).wait().succeeded();
    slave.wait().succeeded();
}

fn code(mut command: Command) -> Process {
    let code = Code::generate(&mut StdRng::seed_from_u64(7)).expose().to_string();
    command.env("STS_CODE", code);
    Process::spawn(command)
}

fn known_peers(device: &Device) -> String {
    fs::read_to_string(device.config_dir().join("known_peers")).unwrap()
}

#[test]
fn a_third_key_changes_no_link_that_has_paired() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    let receiver = slave.listen(&[]);
    let mut sender = Process::spawn(slave.send(&["--confirm", LINK]));
    let reader = master.listen(&[]);
    sender.write("before\n");
    reader.wait_for_stdout(b"before\n");
    master.send_all(&["--confirm"], "one\n").succeeded();
    let stranger = Device::with(Identity::Stranger);
    trust(slave, &["third"], &stranger).succeeded();
    trust(master, &["third"], &stranger).succeeded();

    // Both running tools and tools that start later.
    master.send_all(&["--confirm"], "two\n").succeeded();
    sender.write("after\n");
    sender.close_stdin();
    sender.wait().succeeded();
    reader.stop().succeeded().wrote(b"before\nafter\n");
    let ended = receiver.stop().succeeded();
    assert!(!ended.stderr.contains("dropped"), "{}", ended.stderr);
    ended.wrote(b"one\ntwo\n");
    pair.carries(&["--confirm"], b"three\n");
    pair.agree();
    pair.carries(&["--confirm"], b"four\n");

    // The same after a reboot of both devices.
    for device in [master, slave] {
        reboot(device);
        device.send_all(&[], "too early\n").failed(&[75], &["no session"]);
    }
    pair.agree();
    pair.carries(&["--confirm"], b"five\n");
    // Even another key that is trusted for this link does not change its peer: a message says how to change that.
    let ended = trust(slave, &["third", LINK], &stranger).succeeded();
    assert!(
        ended.stderr.contains("gateway stays with station") && ended.stderr.contains("peer = third"),
        "{}",
        ended.stderr
    );
    let silent = Process::spawn(slave.pair(&["--if-older", "1h", "--timeout", "1", LINK])).wait().succeeded();
    assert_eq!(silent.stderr, "");
}

#[test]
fn a_key_that_was_added_by_hand_or_by_an_older_version_changes_nothing_either() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let slave = &pair.slave;
    // As an older version wrote it: without fields for links.
    let plain: String = known_peers(slave)
        .lines()
        .map(|line| line.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" ") + "\n")
        .collect();
    slave.write("known_peers", &plain, 0o600);
    let receiver = slave.listen(&[]);
    pair.master.send_all(&["--confirm"], "one\n").succeeded();
    let third = format!("third {}", String::from_utf8(key(&Device::with(Identity::Stranger))).unwrap());
    slave.write("known_peers", plain + &third, 0o600);
    pair.master.send_all(&["--confirm"], "two\n").succeeded();
    receiver.stop().succeeded().wrote(b"one\ntwo\n");
    pair.carries(&["--confirm"], b"three\n");
    // The session shows which peer the link is with; the pairing records this for the time after a reboot.
    pair.agree();
    reboot(slave);
    pair.agree();
    pair.carries(&["--confirm"], b"four\n");
}

#[test]
fn a_key_for_one_link_is_not_a_question_on_another() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let pair = Pair::enrolled(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    let stranger = Device::configured(Identity::Stranger, &other_settings(&port, "master"));
    fs::rename(stranger.config_dir().join("gateway.conf"), stranger.config_dir().join("other.conf")).unwrap();
    add_other(slave, &port, "slave");
    // Neither link has paired yet.
    let ended = trust(slave, &["third", OTHER], &stranger).succeeded();
    assert!(ended.stderr.contains("third is now trusted for the link other: SHA256:"), "{}", ended.stderr);
    trust(&stranger, &["hub", OTHER], slave).succeeded();
    pair.agree();
    agree(&stranger, slave, OTHER);
    pair.carries(&["--confirm"], b"mine\n");
    for _ in 0..2 {
        let reader = Process::spawn(slave.recv(&["-v", "--once", OTHER]));
        reader.wait_for("listening on");
        Process::spawn_with(stranger.send(&["--confirm", OTHER]), "theirs\n").wait().succeeded();
        reader.wait().succeeded().wrote(b"theirs\n");
        [master, slave, &stranger].into_iter().for_each(reboot);
        pair.agree();
        agree(&stranger, slave, OTHER);
    }
    // A mistyped link does not create a new one, and a link without encryption trusts nobody.
    trust(slave, &["fourth", "othr"], master).failed(&[78], &["no configuration for link `othr`"]);
    trust(slave, &["fourth", "-o", "sts_mode=nosec", "-o", "aes=null", OTHER], master).failed(&[64], &["nosec"]);
    assert!(!known_peers(slave).contains("fourth"));
}

#[test]
fn a_device_that_enrols_by_code_is_for_that_link() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let pair = Pair::paired(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    let receiver = slave.listen(&[]);
    add_other(slave, &port, "slave");
    let new = Device::with(Identity::Stranger);
    add_other(&new, &port, "master");
    let enrolling = code(slave.pair(&["-v", "--code", "--name", "hub", OTHER]));
    enrolling.wait_for("listening on");
    code(new.pair(&["--code", "--name", "third", OTHER])).wait().succeeded();
    let ended = enrolling.wait().succeeded();
    assert!(!ended.stderr.contains("several peers"), "{}", ended.stderr);
    master.send_all(&["--confirm"], "still here\n").succeeded();
    receiver.stop().succeeded().wrote(b"still here\n");
    [master, slave].into_iter().for_each(reboot);
    pair.agree();
    pair.carries(&["--confirm"], b"and after a reboot\n");
    // If the key is wanted on another link, too, the message says how.
    let third = Device::configured(Identity::Gateway, &settings("1", "slave", "gcm"));
    add_other(&third, "1", "slave");
    trust(&third, &["third", OTHER], &new).succeeded();
    Process::spawn(third.pair(&["--timeout", "1", LINK])).wait().failed(&[77], &["third", "other", "peer = third"]);
    trust(&third, &["third", LINK], &new).succeeded();
    Process::spawn(third.pair(&["--timeout", "1", LINK])).wait().failed(&[69, 75], &[]);
}

#[test]
fn which_peer_is_asked_only_where_it_is_open() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let (master, slave) = (&pair.master, &pair.slave);
    let stranger = Device::with(Identity::Stranger);
    trust(master, &["third"], &stranger).succeeded();
    let question = "add a line to the configuration: peer = gateway";
    Process::spawn(master.pair(&["--timeout", "1", LINK])).wait().failed(&[78], &["gateway, third", question]);
    // Tools that only use sessions do not ask which peer is meant: there is no session.
    for ended in [master.send_all(&[], "x\n"), Process::spawn(master.recv(&[LINK])).wait()] {
        ended.failed(&[75], &["no session", "sts-pair gateway"]);
    }
    // Once the peer is named, by an option or for the link, it is no longer ambiguous.
    let listening = Process::spawn(slave.pair(&[LINK]));
    Process::spawn(master.pair(&["-o", "peer=gateway", LINK])).wait().succeeded();
    listening.wait().succeeded();
    pair.carries(&["--confirm"], b"one\n");
    reboot(master);
    pair.agree();

    let fresh = Device::configured(Identity::Station, &settings("1", "master", "gcm"));
    trust(&fresh, &["gateway"], slave).succeeded();
    trust(&fresh, &["third"], &stranger).succeeded();
    let ended = trust(&fresh, &["third", LINK], &stranger).succeeded();
    assert!(ended.stderr.contains("third is now trusted for the link gateway"), "{}", ended.stderr);
    Process::spawn(fresh.pair(&["--timeout", "1", LINK])).wait().failed(&[69, 75], &[]);
    // The key was for all links before, and still is.
    add_other(&fresh, "1", "master");
    Process::spawn(fresh.pair(&["--timeout", "1", OTHER])).wait().failed(&[78], &["gateway, third", "peer = "]);
}

/// A pair, and a second master on the same topics, also paired with the slave.
fn paired_with_two(broker: &Broker) -> (Pair, Device) {
    let port = broker.port().to_string();
    let pair = Pair::paired(broker, "gcm");
    let second = Device::configured(Identity::Stranger, &settings(&port, "master", "gcm"));
    trust(&second, &["gateway"], &pair.slave).succeeded();
    trust(&pair.slave, &["second"], &second).succeeded();
    let listening = Process::spawn(pair.slave.pair(&["-o", "peer=second", LINK]));
    Process::spawn(second.pair(&["-o", "clientid=second", LINK])).wait().succeeded();
    listening.wait().succeeded();
    (pair, second)
}

#[test]
fn what_the_configuration_does_not_accept_waits_with_the_broker() {
    let broker = Broker::start();
    let (pair, second) = paired_with_two(&broker);
    let (master, slave) = (&pair.master, &pair.slave);
    let receiver = slave.listen(&["-o", "peer=second"]);
    for line in ["one\n", "two\n", "three\n"] {
        master.send_all(&[], line).succeeded();
    }
    second.send_all(&["-o", "clientid=second", "--confirm"], "second's\n").succeeded();
    receiver.wait_for("station");
    let ended = receiver.stop().succeeded();
    assert!(!ended.stderr.contains("unknown session"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("left with the broker").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("peer = second, station"), "{}", ended.stderr);
    ended.wrote(b"second's\n");
    let status = Process::spawn(slave.pair(&["--status", "--json"])).wait().succeeded();
    assert!(status.text().contains(r#""rejected":{}"#), "{}", status.text());
    let receiver = Process::spawn(slave.recv(&["-o", "peer=second,station", "-n", "3", LINK]));
    receiver.wait().succeeded().wrote(b"one\ntwo\nthree\n");

    // If only this device changes its suite, messages under the old suite wait, too.
    master.send_all(&[], "under gcm\n").succeeded();
    let slave_pairs = Process::spawn(slave.pair(&["-o", "peer=second", "-o", "aes=cbc", LINK]));
    Process::spawn(second.pair(&["-o", "clientid=second", "-o", "aes=cbc", LINK])).wait().succeeded();
    slave_pairs.wait().succeeded();
    let receiver = slave.listen(&["-o", "aes=cbc"]);
    receiver.wait_for("left with the broker");
    receiver.stop().succeeded().wrote(b"");
    Process::spawn(slave.recv(&["-o", "peer=second,station", "-n", "1", LINK]))
        .wait()
        .succeeded()
        .wrote(b"under gcm\n");
}

/// They fill the broker's window, so that what is accepted does not come either.
#[test]
fn a_run_that_receives_nothing_for_what_the_configuration_keeps_out_says_so() {
    let broker = Broker::start();
    let (pair, second) = paired_with_two(&broker);
    let lines = (10..40).map(|number| format!("{number}\n")).collect::<Vec<_>>().concat();
    let said = ["nothing more came from the broker", "does not accept that peer", "peer = second, station"];
    let receiver = pair.slave.listen(&["-o", "peer=second"]);
    pair.master.send_all(&["--each"], lines.clone()).succeeded();
    second.send_all(&["-o", "clientid=second"], "second's\n").succeeded();
    receiver.wait().failed(&[78], &said).wrote(b"");
    let receiver = pair.slave.listen(&["-o", "peer=second", "--timeout", "3"]);
    receiver.wait().failed(&[78], &said).wrote(b"");
    let receiver = Process::spawn(pair.slave.recv(&["-o", "peer=second,station", "-n", "31", LINK]));
    receiver.wait().succeeded().wrote((lines + "second's\n").as_bytes());
}

#[test]
fn a_message_that_the_configuration_keeps_out_fills_no_window_when_it_is_replayed() {
    let broker = Broker::start();
    let (pair, second) = paired_with_two(&broker);
    let receiver = pair.slave.listen(&["-o", "peer=second"]);
    let recorded = broker.record(M2S, || drop(pair.master.send_all(&[], "recorded\n").succeeded()));
    receiver.wait_for("left with the broker");
    for _ in 0..30 {
        broker.publish(M2S, &recorded);
    }
    second.send_all(&["-o", "clientid=second", "--confirm"], "second's\n").succeeded();
    receiver.stop().succeeded().wrote(b"second's\n");
    // The message itself is still there.
    let receiver = Process::spawn(pair.slave.recv(&["-o", "peer=second,station", "-n", "1", LINK]));
    receiver.wait().succeeded().wrote(b"recorded\n");
}

/// The payload of such a message is not kept, so it is not known whether it came from the peer; the limit is this device's.
#[test]
fn a_message_that_is_too_large_for_this_device_is_said_to_be() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let line = vec![b'x'; (1 << 20) + 1000];
    pair.master.send_all(&["-o", "max_message=4000000"], [&line[..], b"\n"].concat()).succeeded();
    receiver.wait_for("add a line to the configuration of this device: max_message = 10");
    receiver.stop().succeeded();
    let receiver = pair.slave.listen(&["-o", "max_message=4000000", "-n", "1"]);
    pair.master.send_all(&["-o", "max_message=4000000"], [&line[..], b"\n"].concat()).succeeded();
    assert_eq!(receiver.wait().stdout.len(), line.len() + 1);
}

/// A person who reads the file can see which peer each link is with.
#[test]
fn known_peers_says_which_link_is_with_whom() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let words = |device: &Device| known_peers(device).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let at_slave = words(&pair.slave);
    assert_eq!((at_slave.len(), &*at_slave[0], &*at_slave[3]), (4, "station", "paired=gateway"));
    add_other(&pair.slave, "1", "slave");
    trust(&pair.slave, &["third", OTHER], &Device::with(Identity::Stranger)).succeeded();
    assert_eq!(words(&pair.slave)[7..], ["link=other"]);
    Process::spawn(pair.slave.pair(&["--forget", "third"])).wait().succeeded();
    assert_eq!(words(&pair.slave), at_slave);
    // A pairing also works if the directory cannot be written.
    let is_root = rustix::process::geteuid().is_root();
    let directory: &Path = &pair.slave.config_dir();
    if !is_root {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o500)).unwrap();
        pair.agree();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    }
}

/// A list is trusted as a whole or not at all, and then its devices can pair and are reached by name.
#[test]
fn a_list_of_keys_is_trusted_at_once() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let [master, slave] = [(Identity::Station, "master"), (Identity::Gateway, "slave")]
        .map(|(identity, mode)| Device::configured(identity, &settings(&port, mode, "gcm")));
    trust(&master, &["gateway"], &slave).succeeded();
    let line = |name: &str, device: &Device| format!("{name} {}", String::from_utf8(key(device)).unwrap());
    let stranger = Device::with(Identity::Stranger);
    let (station, third) = (line("station", &master), line("third", &stranger));
    let trust_list = |args: &[&str], list: &[u8]| {
        Process::spawn_with(slave.pair(&[&["--trust", "-"], args].concat()), list.to_vec()).wait()
    };
    for (list, code, said) in [
        (format!("{station}\n# more\nthird sts-rsa AAAA\n"), 65, "stdin, line 4: the key is incomplete or damaged"),
        (format!("{station}{}", third.trim_end().to_owned() + " link=a\n"), 65, "stdin, line 2: a list has no fields"),
        (format!("{station}{third}{}", line("again", &master)), 77, "stdin, line 3: cannot trust `again`"),
        (format!("{third}{}", line("me", &slave)), 77, "stdin, line 2: cannot trust `me`"),
        (String::from("no list"), 65, "stdin, line 1: "),
    ] {
        trust_list(&[], list.as_bytes()).failed(&[code], &[said]);
        assert!(!slave.config_dir().join("known_peers").exists(), "{list}");
    }
    for (between, why) in [(&b"\n\0\0"[..], "a NUL byte"), (b"# Ger\xe4t\n", "bytes that are not UTF-8")] {
        let list = [station.as_bytes(), between, third.as_bytes()].concat();
        trust_list(&[], &list).failed(&[65], &["stdin, line ", why, "nothing was changed"]);
        let line = [between, &key(&master)].concat();
        Process::spawn_with(slave.pair(&["--trust", "station"]), line).wait().failed(&[65], &["stdin, line ", why]);
        assert!(!slave.config_dir().join("known_peers").exists());
    }
    let ended = trust_list(&[LINK], format!("# ours\n\n{station}{third}").as_bytes()).succeeded();
    assert!(ended.stderr.contains("2 peers are now trusted for the link gateway"), "{}", ended.stderr);
    let written = known_peers(&slave);
    assert_eq!(written.lines().map(|line| line.split(' ').next().unwrap()).collect::<Vec<_>>(), ["station", "third"]);
    assert!(written.lines().all(|line| line.ends_with(" link=gateway")), "{written}");
    let listening = Process::spawn(slave.pair(&["-o", "peer=station", LINK]));
    Process::spawn(master.pair(&[LINK])).wait().succeeded();
    listening.wait().succeeded();
    let reader = master.listen(&["--once"]);
    slave.send_all(&["--to", "station"], "by name\n").succeeded();
    reader.wait().succeeded().wrote(b"by name\n");
}
