//! Claim: on a device without keys, `sts-recv --wait` waits for the first session, so that a service is not started again
//! and again, and loses nothing that is sent under that session.

use std::fs;
use std::path::{Path, PathBuf};

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, Pair, readings, settings};
use crate::process::Process;

#[test]
fn a_receiver_waits_for_the_first_session_and_loses_nothing() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    // As after a restart that cleared /run.
    fs::remove_dir(pair.slave.runtime_dir()).unwrap();
    let receiver = Process::spawn(pair.slave.recv(&["--wait", "--once", LINK]));
    receiver.wait_for("no session");
    broker.wait_for_log("Sending SUBACK to gateway\n", 1);
    pair.agree();
    pair.master.send_all(&["--each"], "first\nsecond\n").succeeded();
    receiver.wait().succeeded().wrote(b"first\nsecond\n");
    // If there is a session, it does not wait.
    let receiver = pair.slave.listen(&["--wait", "--once"]);
    pair.master.send_all(&[], "third\n").succeeded();
    let ended = receiver.wait().succeeded().wrote(b"third\n");
    assert!(!ended.stderr.contains("no session"), "{}", ended.stderr);
}

/// Moves what is in one directory to another one, which is made if it is absent: as a pairing would, it leaves the directory.
fn move_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A receiver that waits for a session, and where the one is that it has again when its files are moved back.
fn waiting(pair: &Pair, options: &[&str]) -> (Process, PathBuf) {
    let hidden = pair.slave.path().join("hidden");
    move_files(&pair.slave.runtime_dir(), &hidden);
    let receiver = Process::spawn(pair.slave.recv(&[&["--wait", "--once"], options, &[LINK]].concat()));
    receiver.wait_for("no session");
    (receiver, hidden)
}

/// At QoS 0 the broker sends all of it at once, and nothing of it again.
#[test]
fn more_than_a_receiver_keeps_while_it_waits_is_not_lost() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let qos = ["-o", "qos=0"];
    let (receiver, hidden) = waiting(&pair, &qos);
    broker.wait_for_log("Sending SUBACK to gateway\n", 1);
    let input = readings(500);
    pair.master.send_all(&[&["--each"], &qos[..]].concat(), input.clone()).succeeded();
    move_files(&hidden, &pair.slave.runtime_dir());
    receiver.wait().succeeded().wrote(&input);
}

#[test]
fn what_was_kept_outlives_the_connection() {
    for qos in ["qos=1", "qos=2"] {
        let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
        let pair = Pair::paired(&broker, "gcm");
        let (receiver, hidden) = waiting(&pair, &["-o", qos]);
        broker.wait_for_log("Sending SUBACK to gateway\n", 1);
        pair.master.send_all(&["--each", "-o", qos], "first\nsecond\n").succeeded();
        broker.wait_for_log("Sending PUBLISH to gateway (d0", 2);
        broker.restart();
        broker.wait_for_log("Sending PUBLISH to gateway (d1", 2);
        move_files(&hidden, &pair.slave.runtime_dir());
        receiver.wait().succeeded().wrote(b"first\nsecond\n");
    }
}

#[test]
fn a_device_that_knows_nobody_waits_too() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let master = Device::configured(Identity::Station, &settings(&port, "master", "gcm"));
    let slave = Device::configured(Identity::Gateway, &settings(&port, "slave", "gcm"));
    let receiver = Process::spawn(slave.recv(&["--wait", "--once", LINK]));
    receiver.wait_for("no peer is trusted yet");
    master.trust("gateway", &slave);
    slave.trust("station", &master);
    let pair = Pair { master, slave };
    pair.agree();
    pair.master.send_all(&[], "first\n").succeeded();
    receiver.wait().succeeded().wrote(b"first\n");
}

/// A key that is trusted for another link only is no reason to exit: the link has no peer yet.
#[test]
fn a_device_that_knows_the_peers_of_other_links_only_waits_too() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let master = Device::configured(Identity::Station, &settings(&port, "master", "gcm"));
    let slave = Device::configured(Identity::Gateway, &settings(&port, "slave", "gcm"));
    let conf = |link: &str| slave.config_dir().join(format!("{link}.conf"));
    fs::copy(conf(LINK), conf("other")).unwrap();
    let key = Process::spawn(master.pair(&["--key"])).wait().succeeded().stdout;
    let trust = |link| Process::spawn_with(slave.pair(&["--trust", "station", link]), key.clone()).wait().succeeded();
    trust("other");
    let given_up = Process::spawn(slave.recv(&["--wait", "--timeout", "1", LINK])).wait();
    given_up.failed(&[77], &["waiting for the first session", "no peer is trusted for gateway"]);
    let receiver = Process::spawn(slave.recv(&["--wait", "--once", LINK]));
    receiver.wait_for("waiting for the first session");
    trust(LINK);
    master.trust("gateway", &slave);
    let pair = Pair { master, slave };
    pair.agree();
    pair.master.send_all(&[], "first\n").succeeded();
    receiver.wait().succeeded().wrote(b"first\n");
}

/// A configuration that is named by its path may be elsewhere than the keys, whose directory sts-pair makes only later.
#[test]
fn a_device_without_a_directory_of_keys_waits_too() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let master = Device::configured(Identity::Station, &settings(&port, "master", "gcm"));
    let slave = Device::configured(Identity::Gateway, &settings(&port, "slave", "gcm"));
    let by_path = format!("./{LINK}.conf");
    fs::rename(slave.config_dir().join(&by_path), slave.path().join(&by_path)).unwrap();
    fs::remove_dir_all(slave.config_dir()).unwrap();
    let receiver = Process::spawn(slave.recv(&["--wait", "--once", &by_path]));
    receiver.wait_for("no peer is trusted yet");
    master.trust("gateway", &slave);
    slave.trust("station", &master);
    let answering = Process::spawn(slave.pair(&["-v", &by_path]));
    answering.wait_for("listening on");
    Process::spawn(master.pair(&[LINK])).wait().succeeded();
    answering.wait().succeeded();
    master.send_all(&[], "first\n").succeeded();
    receiver.wait().succeeded().wrote(b"first\n");
}

#[test]
fn waiting_ends_by_a_signal_or_in_time() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let receiver = Process::spawn(pair.slave.recv(&["--wait", LINK]));
    receiver.wait_for("no session");
    receiver.stop().succeeded();
    let ended = Process::spawn(pair.slave.recv(&["--wait", "--timeout", "1", LINK])).wait();
    ended.failed(&[75], &["no session", "run sts-pair gateway"]);
}

#[test]
fn another_receiver_is_nothing_to_wait_for() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let first = pair.slave.listen(&["--once"]);
    Process::spawn(pair.slave.recv(&["--wait", LINK])).wait().failed(&[75], &["already"]);
    pair.master.send_all(&[], "to the first\n").succeeded();
    first.wait().succeeded().wrote(b"to the first\n");
}

/// Both would connect with the same client id, and each would end the other's connection.
#[test]
fn one_receiver_waits_and_keeps_its_connection() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let first = Process::spawn(pair.slave.recv(&["--wait", "--once", LINK]));
    broker.wait_for_log("Sending SUBACK to gateway\n", 1);
    Process::spawn(pair.slave.recv(&["--wait", LINK])).wait().failed(&[75], &["already"]);
    pair.agree();
    pair.master.send_all(&[], "to the first\n").succeeded();
    let ended = first.wait().succeeded().wrote(b"to the first\n");
    assert!(!ended.stderr.contains("connected again"), "{}", ended.stderr);
}
