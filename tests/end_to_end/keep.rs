//! Claim: a master that keeps the session alive has a peer that lost it paired again within seconds, and what was sent is not lost.

use std::fs;

use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, Pair, settings};
use crate::process::{Ended, Process};

fn keep(pair: &Pair, age: &str) -> Process {
    Process::spawn(pair.master.pair(&["-v", "--keep", age, LINK]))
}

fn serve(pair: &Pair) -> Process {
    let serving = Process::spawn(pair.slave.pair(&["-v", "--serve", LINK]));
    serving.wait_for("listening on");
    serving
}

#[test]
fn a_peer_that_lost_its_session_gets_another_and_what_was_unconfirmed() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let (serving, keeping) = (serve(&pair), keep(&pair, "24h"));
    keeping.wait_for("paired with gateway");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&["--confirm", LINK]));
    sender.write("before\n");
    receiver.wait_for_stdout(b"before\n");
    // The peer reboots: all that it knew of sessions is gone.
    receiver.stop().succeeded();
    serving.stop().succeeded();
    for entry in fs::read_dir(pair.slave.runtime_dir()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    sender.write("while it was away\n");
    let serving = serve(&pair);
    let receiver = Process::spawn(pair.slave.recv(&["--wait", LINK]));
    keeping.wait_for_times("paired with gateway", 2);
    receiver.wait_for_stdout(b"while it was away\n");
    sender.wait().succeeded();
    // Nothing was wrong after that: no other session is agreed on.
    keeping.wait_for("the peer still has it");
    let ended = keeping.stop().succeeded();
    assert_eq!(ended.stderr.matches("paired with").count(), 2, "{}", ended.stderr);
    serving.stop().succeeded();
    receiver.stop().succeeded();
}

/// A sender that asks for confirms asks first whether the session is still there; others just send.
#[test]
fn a_running_receiver_hears_its_peer_again_after_the_session_was_ended_here() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = Process::spawn(pair.slave.recv(&["-v", "--wait", LINK]));
    receiver.wait_for("listening on");
    let mut written = String::new();
    for turn in 0..3 {
        for options in [&[][..], &["--confirm"]] {
            let line = format!("{turn} {options:?}\n");
            pair.master.send_all(options, line.clone()).succeeded();
            written += &line;
            receiver.wait_for_stdout(written.as_bytes());
        }
        Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
        pair.agree();
    }
    receiver.stop().succeeded();
}

#[test]
fn a_session_is_replaced_at_its_age_and_a_peer_that_is_away_is_reported_once() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "cbc");
    let (serving, keeping) = (serve(&pair), keep(&pair, "10s"));
    keeping.wait_for_times("paired with gateway", 2);
    // Another run has no place beside it, and the slave has another service.
    Process::spawn(pair.master.pair(&[LINK])).wait().failed(&[75], &["another sts-pair"]);
    Process::spawn(pair.slave.pair(&["--keep", "1h", LINK])).wait().failed(&[64], &["--serve"]);
    keep(&pair, "9s").wait().failed(&[64], &["--keep 9s", "at least 10s"]);
    keeping.signal(Signal::HUP);
    keeping.wait_for("configuration reloaded");
    keeping.wait_for_times("paired with gateway", 3);
    serving.stop().succeeded();
    keeping.wait_for("no trusted slave answered");
    let Ended { stderr, .. } = keeping.stop().succeeded();
    assert_eq!(stderr.matches("no trusted slave answered").count(), 1, "{stderr}");
}

/// Both services are enabled before the devices know each other, as on a new machine.
#[test]
fn services_that_are_started_without_a_key_take_the_first_one() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let master = Device::configured(Identity::Station, &settings(&port, "master", "gcm"));
    let slave = Device::configured(Identity::Gateway, &settings(&port, "slave", "gcm"));
    let pair = Pair { master, slave };
    let (serving, keeping) = (serve(&pair), keep(&pair, "24h"));
    keeping.wait_for("waiting for the first key");
    // Neither key is there when the configuration is read again.
    serving.signal(Signal::HUP);
    serving.wait_for("configuration reloaded");
    pair.slave.trust("station", &pair.master);
    pair.master.trust("gateway", &pair.slave);
    keeping.wait_for("paired with gateway");
    serving.wait_for("paired with station");
    let told = serving.stop().succeeded().stderr.matches("no peer is trusted yet").count();
    assert_eq!(told, 2, "once, and once more when told to read the configuration");
    let told = keeping.stop().succeeded().stderr.matches("no peer is trusted yet").count();
    assert_eq!(told, 1);
}

/// A name that no key has is a mistake if another key is trusted for the link, and no peer that is still to come.
#[test]
fn a_name_that_no_key_has_does_not_replace_the_peer_of_a_service() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let pair = Pair::enrolled(&broker, "gcm");
    for tool in [
        pair.slave.pair(&["--serve", "-o", "peer=statoin", LINK]),
        pair.slave.recv(&["--wait", "-o", "peer=statoin", LINK]),
    ] {
        Process::spawn(tool).wait().failed(&[77], &["`peer = statoin`", "did you mean `station`?"]);
    }
    let one_of_two = pair.slave.pair(&["--serve", "-o", "peer=station other", LINK]);
    Process::spawn(one_of_two).wait().failed(&[77], &["`peer = other`", "no key is trusted under this name"]);
    let serving = serve(&pair);
    pair.slave.configure(&[&settings(&port, "slave", "gcm")[..], &[("peer", "statoin")]].concat());
    serving.signal(Signal::HUP);
    serving.wait_for("keeping the previous configuration");
    assert!(serving.stderr().contains("did you mean `station`?"), "{}", serving.stderr());
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with station");
    serving.stop().succeeded();
}

/// Without any key, a name in the configuration is waited for from the start only: a reload has an administrator who reads
/// what it says.
#[test]
fn a_service_without_a_key_waits_for_the_peer_that_its_configuration_names() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let master = Device::configured(Identity::Station, &settings(&port, "master", "gcm"));
    let named = [&settings(&port, "slave", "gcm")[..], &[("peer", "station")]].concat();
    let slave = Device::configured(Identity::Gateway, &named);
    let pair = Pair { master, slave };
    let serving = serve(&pair);
    serving.wait_for("waiting for the first key");
    serving.signal(Signal::HUP);
    serving.wait_for("keeping the previous configuration");
    pair.slave.trust("station", &pair.master);
    pair.master.trust("gateway", &pair.slave);
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with station");
    serving.stop().succeeded();
}

/// On a link with one peer, a key that is trusted later does not come in by a reload that fails, nor by what changes after it.
#[test]
fn a_reload_that_fails_lets_no_other_peer_in() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let pair = Pair::enrolled(&broker, "gcm");
    let second = Device::configured(Identity::Stranger, &settings(&port, "master", "gcm"));
    second.trust("gateway", &pair.slave);
    let is_refused = || {
        let pairing = Process::spawn(second.pair(&["--timeout", "0", "-o", "clientid=second", LINK]));
        pairing.wait_for("does not know this device's key");
        pairing.stop().failed(&[75], &["stopped by a signal"]);
    };
    let serving = serve(&pair);
    pair.slave.trust("second", &second);
    is_refused();
    serving.signal(Signal::HUP);
    serving.wait_for("keeping the previous configuration");
    assert!(serving.stderr().contains("station, second are trusted"), "{}", serving.stderr());
    is_refused();
    pair.slave.trust("third", &Device::bare());
    is_refused();
    Process::spawn(pair.master.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with station");
    serving.stop().succeeded();
}
