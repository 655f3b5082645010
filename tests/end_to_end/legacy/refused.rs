//! Claim: what a link to the old program cannot have is refused with the reason, and no such link comes about by accident.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::Link;
use super::old_program::Role;
use crate::broker::Broker;
use crate::device::LINK;
use crate::process::Process;

/// Settings that a link to the old program cannot have, and why.
const REFUSED_SETTINGS: [(&str, &str); 9] = [
    ("qos=1", "comes twice garbles the next one"),
    ("retain=1", "comes late garbles the next one"),
    ("peer=a", "authenticates no device"),
    ("channel=a", "authenticates no device"),
    ("will_topic=a", "is sent later would be out of step"),
    ("subtop=a/+", "a link has one device at its other end"),
    ("pubtop=a/#", "a link has one device at its other end"),
    ("subtop=$share/g/a", "a link has one device at its other end"),
    ("aes=gcm", "must be cbc or ecb"),
];

#[test]
fn what_the_old_program_has_nothing_for_is_refused_with_the_reason() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 7);
    let device = &link.device;
    for (command, why) in [
        (device.pair(&["--code", LINK]), "the old program has no keys"),
        (device.pair(&["--trust", "a", LINK]), "the old program has no keys"),
        (device.pair(&["--peers", LINK]), "the old program has no keys"),
        (device.pair(&["--serve", LINK]), "this device is the master, and the master begins each pairing"),
        (device.pair(&["--keep", "1h", LINK]), "it cannot be asked whether it still has the session"),
        (device.pair(&["--end", "--to", "a", LINK]), "the device at its other end has no name"),
        (device.send(&["--pad", "64", LINK]), "the old program always pads to 16 bytes"),
        (device.recv(&["--pad", "64", LINK]), "the old program always pads to 16 bytes"),
        (device.recv(&["--last", LINK]), "it retains no messages"),
        (device.send(&["--confirm", LINK]), "it confirms nothing"),
        (device.send(&["--will", "x", LINK]), "out of step"),
        (device.send(&["--stamp", LINK]), "texts"),
        (device.send(&["--to", "a", LINK]), "has no name"),
        (device.send(&["-b", LINK]), "texts, one per line"),
        (device.send(&["--spool", "spool", "--confirm", LINK]), "it confirms nothing"),
    ] {
        Process::spawn(command).wait().failed(&[64], &[why]);
    }
    for (option, why) in REFUSED_SETTINGS {
        let ended = Process::spawn(device.recv(&["-o", option, LINK])).wait().failed(&[64], &[why]);
        assert!(!ended.stderr.contains("this line"), "there is none: {}", ended.stderr);
    }
    // Each use says what such a link is worth.
    for command in [device.pair(&["--timeout", "1", LINK]), device.send(&[LINK]), device.recv(&[LINK])] {
        Process::spawn(command).wait().failed(&[75], &["warning: sts_version = 1 proves neither"]);
    }
    // Hints name what the other device has.
    Process::spawn(device.send(&[LINK])).wait().failed(&[75], &["then `start` on the other device while it runs"]);
    Process::spawn(device.pair(&["--end", LINK])).wait().failed(&[75], &["run `stop` there, too"]);
    let old = link.paired();
    let check = Process::spawn(link.device.pair(&["--check", LINK])).wait().succeeded();
    assert!(check.text().contains("the old program would display whatever is published"), "{}", check.text());
    let sender = link.sender();
    Process::spawn(link.device.send(&[LINK])).wait().failed(&[75], &["another sts-send is already running"]);
    drop(sender);
    let _receiver = link.receiver(&[]);
    Process::spawn(link.device.recv(&[LINK])).wait().failed(&[75], &["another sts-recv is already running"]);
    assert!(old.seen().ended.is_none());
}

#[test]
fn on_a_fresh_machine_hints_name_what_the_other_device_has() {
    let broker = Broker::start();
    let device = Link::new(broker.port(), Role::Slave, true, 9).device;
    fs::remove_dir(device.runtime_dir()).unwrap();
    for command in [device.send(&[LINK]), device.recv(&[LINK])] {
        Process::spawn(command).wait().failed(&[75], &["then `start` on the other device while it runs"]);
    }
    assert!(!device.runtime_dir().exists(), "only sts-pair makes it");
}

#[test]
fn an_end_that_the_other_device_does_not_learn_of_says_so_whatever_failed() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 10);
    let _old = link.paired();
    let away = link.device.pair(&["--end", "--timeout", "1", "-o", "port=1", LINK]);
    Process::spawn(away).wait().failed(&[69], &["check `host`", "run `stop` there, too"]);
    let file = link.device.runtime_dir().join(format!("{LINK}@sts1"));
    assert!(!file.exists());
    fs::write(&file, "damaged").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let ended = Process::spawn(link.device.pair(&["--end", LINK])).wait();
    let ended = ended.failed(&[1], &["not a valid session file", "run `stop` there, too"]);
    assert!(!ended.stderr.contains("replaces this file") && !file.exists(), "{}", ended.stderr);
}

#[test]
fn a_session_whose_link_is_no_longer_for_the_old_program_is_told_of() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 11);
    let _old = link.paired();
    let port = broker.port().to_string();
    link.device.configure(&crate::device::settings(&port, "master", "cbc"));
    let device = &link.device;
    let told = "has a session of the old program, but its configuration does not say sts_version = 1";
    for command in [device.send(&[LINK]), device.recv(&[LINK])] {
        Process::spawn(command).wait().failed(&[77], &[told, "on a line of its own"]);
    }
    Process::spawn(device.pair(&["--timeout", "1", LINK])).wait().failed(&[77], &[told]);
    // Who says so on the command line knows.
    let meant = Process::spawn(device.send(&["-o", "sts_version=2", LINK])).wait().failed(&[77], &["no peer"]);
    assert!(!meant.stderr.contains(told), "{}", meant.stderr);
}

#[test]
fn neither_version_becomes_the_other_by_a_line_in_a_file() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 8);
    let _old = link.paired();
    let port = broker.port().to_string();
    let plain = [("ip", "127.0.0.1"), ("port", &*port), ("subtop", "a"), ("pubtop", "b"), ("sts_mode", "nosec")];
    link.device.configure(&plain);
    link.device.send_all(&[], "in the clear\n").failed(&[78], &["not encrypted", "it has sessions"]);
    let pair = crate::device::Pair::paired(&broker, "gcm");
    let mut settings = crate::device::settings(&port, "master", "cbc");
    settings.push(("sts_version", "1"));
    pair.master.configure(&settings);
    for options in [&[][..], &["-o", "sts_mode=master"]] {
        let said = ["is for the old program (sts_version = 1), but it has sessions"];
        pair.master.send_all(options, "x\n").failed(&[78], &said);
    }
}
