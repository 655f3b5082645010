//! Claim: what a link between two devices can do, a gateway can do with each of many devices: enrol it by code, keep data
//! for it in a spool, and receive its confirms.

use rand::SeedableRng;
use rand::rngs::StdRng;
use sts::handshake::Code;

use crate::broker::Broker;
use crate::device::{LINK, readings};
use crate::fleet::{Fleet, sensor};
use crate::process::Process;
use crate::sniffer::Sniffer;

const INITREQ: u8 = 0x21;
const INITACK: u8 = 0x22;
const AREA: &str = "plant";

fn code(seed: u64) -> String {
    Code::generate(&mut StdRng::seed_from_u64(seed)).expose().to_string()
}

fn enrolling(fleet: &Fleet, code: &str) -> Process {
    let mut command = fleet.gateway.pair(&["-v", "--code", "--name", "gateway", LINK]);
    command.env("STS_CODE", code);
    let slave = Process::spawn(command);
    slave.wait_for("listening on");
    slave
}

#[test]
fn a_code_takes_in_the_one_device_that_has_it_though_others_call() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, AREA, 0..2);
    let sniffer = Sniffer::start(&broker);
    let slave = enrolling(&fleet, &code(1));
    // Two devices that are already known try to pair without a code, again and again.
    let others: Vec<_> =
        fleet.sensors.iter().map(|sensor| Process::spawn(sensor.pair(&["--timeout", "0", LINK]))).collect();
    slave.wait_for("the other device pairs without a code (unverified)");
    let called = sniffer.wait_for_type("plant/s0/up", INITREQ, 1).remove(0);
    // Strangers send messages, on the topics of the device that is to be enrolled and on others.
    for round in 0..20_u8 {
        broker.publish("plant/s2/up", &called);
        broker.publish("plant/x/up", &[&[INITREQ][..], &vec![round; 1265]].concat());
        broker.publish("plant/s2/down", &[&[INITACK][..], &vec![round; 1168]].concat());
        broker.publish("plant/s2/up", &[&[INITACK][..], &vec![round; 1168]].concat());
    }
    let new = sensor(&broker, AREA, 2);
    let mut master = new.pair(&["--code", "--name", "s2", LINK]);
    master.env("STS_CODE", code(1));
    Process::spawn(master).wait().succeeded();
    let ended = slave.wait().succeeded();
    assert!(ended.stderr.contains("paired with s2 (SHA256:"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("wrong code") && !ended.stderr.contains("several peers"), "{}", ended.stderr);
    for other in others {
        other.stop().failed(&[75], &[]);
    }

    // From then on it is one of the devices, both under its session and by its key.
    let receiver = fleet.gateway.listen(&["--prefix"]);
    new.send_all(&["--confirm"], "by code\n").succeeded();
    fleet.sensors[0].send_all(&["--confirm"], "as ever\n").succeeded();
    receiver.stop().succeeded().wrote(b"s2: by code\ns0: as ever\n");
    let serving = fleet.serve();
    Process::spawn(new.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with s2");
    // --code and --serve exclude each other in one run.
    Process::spawn(fleet.gateway.pair(&["--code", "--serve", LINK])).wait().failed(&[64], &["--serve"]);
    serving.stop().succeeded();
}

/// The service answers devices without a code, the enrolment those with one; neither takes the other's for a mistake.
#[test]
fn a_device_is_enrolled_while_the_gateway_serves() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, AREA, 0..2);
    let serving = fleet.serve();
    let slave = enrolling(&fleet, &code(1));
    // No second one, and nothing else that pairs.
    let mut command = fleet.gateway.pair(&["--code", LINK]);
    command.env("STS_CODE", code(2));
    Process::spawn(command).wait().failed(&[75], &["another sts-pair"]);
    Process::spawn(fleet.gateway.pair(&[LINK])).wait().failed(&[75], &["another sts-pair"]);
    // Known devices pair meanwhile, and have their sessions checked.
    Process::spawn(fleet.sensors[0].pair(&[LINK])).wait().succeeded();
    let checked = Process::spawn(fleet.sensors[1].pair(&["-v", "--if-older", "1h", LINK])).wait().succeeded();
    assert!(checked.stderr.contains("the peer still has it"), "{}", checked.stderr);
    let new = sensor(&broker, AREA, 2);
    let mut master = new.pair(&["--code", "--name", "s2", LINK]);
    master.env("STS_CODE", code(1));
    Process::spawn(master).wait().succeeded();
    let enrolled = slave.wait().succeeded();
    assert!(enrolled.stderr.contains("paired with s2 (SHA256:"), "{}", enrolled.stderr);
    assert!(!enrolled.stderr.contains("without a code"), "{}", enrolled.stderr);
    // From then on it is one of the service's devices.
    Process::spawn(new.pair(&[LINK])).wait().succeeded();
    serving.wait_for("paired with s2");
    let served = serving.stop().succeeded();
    assert!(!served.stderr.contains("enrols by code"), "{}", served.stderr);
}

#[test]
fn three_wrong_codes_from_three_devices_are_three() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, AREA, 0..3);
    let slave = enrolling(&fleet, &code(1));
    for (number, device) in fleet.sensors.iter().enumerate() {
        let mut master = device.pair(&["--code", LINK]);
        master.env("STS_CODE", code(2 + number as u64));
        Process::spawn(master).wait().failed(&[77], &["wrong code"]);
    }
    slave.wait().failed(&[77], &["2 attempts are left", "1 attempt is left", "erased"]);
}

#[test]
fn each_peer_has_a_spool_of_its_own() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, AREA, 0..2);
    let send = |spool: &str, to: &[&str], input: &str| {
        fleet.gateway.send_all(&[&["--confirm", "--spool", spool][..], to].concat(), input)
    };
    // Before there is a session, the name alone tells for whom the data is.
    send("a", &["--to", "s0"], "one\n").failed(&[75], &["left in the spool", "1 message (4 bytes)"]);
    send("a", &["--to", "s1"], "not for s0\n").failed(&[78], &["another peer of this link"]);
    send("a", &["--to", "s9"], "for nobody\n").failed(&[64], &["no peer `s9`"]);
    send("c", &[], "for whom?\n").failed(&[64, 75], &[]);
    assert!(!fleet.gateway.path().join("c/owner").exists(), "a spool of nobody's");

    let serving = fleet.serve();
    // Meanwhile the other device pairs: the waiting data is not for that one.
    let waiting = Process::spawn(fleet.gateway.send(&["--confirm", "--spool", "a", "--to", "s0", LINK]));
    waiting.wait_for("meanwhile, input waits in the spool");
    Process::spawn(fleet.sensors[1].pair(&[LINK])).wait().succeeded();
    let other = fleet.sensors[1].listen(&[]);
    send("b", &["--to", "s1"], "for s1\n").succeeded();
    Process::spawn(fleet.sensors[0].pair(&[LINK])).wait().succeeded();
    let listening = fleet.sensors[0].listen(&["--once"]);
    waiting.wait().succeeded();
    listening.wait().succeeded().wrote(b"one\n");
    send("a", &["--to", "s1"], "not for s0\n").failed(&[78], &["another peer of this link"]);
    send("a", &[], "to whom?\n").failed(&[64], &["several peers", "s0, s1"]);
    other.stop().succeeded().wrote(b"for s1\n");
    serving.stop().succeeded();
}

/// Without a name, the spool belongs to the only peer. While the run waits for a session with it, another peer pairs.
#[test]
fn what_waits_for_one_peer_is_not_sealed_for_another() {
    let broker = Broker::start();
    let fleet = Fleet::enrolled(&broker, AREA, 0..1);
    let mut waiting = Process::spawn(fleet.gateway.send(&["--spool", "a", LINK]));
    waiting.write("for s0\n");
    waiting.wait_for("meanwhile, input waits in the spool");
    let new = sensor(&broker, AREA, 1);
    fleet.gateway.trust("s1", &new);
    new.trust("gateway", &fleet.gateway);
    let serving = fleet.serve();
    Process::spawn(new.pair(&[LINK])).wait().succeeded();
    waiting.wait().failed(&[78], &["another peer paired on this link", "--to NAME"]);
    fleet.pair();
    let (reader, other) = (fleet.sensors[0].listen(&["--once"]), new.listen(&[]));
    fleet.gateway.send_all(&["--spool", "a", "--to", "s0"], "").succeeded();
    reader.wait().succeeded().wrote(b"for s0\n");
    other.stop().succeeded().wrote(b"");
    serving.stop().succeeded();
}

#[test]
fn over_wildcards_both_sides_know_that_all_is_written() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, AREA, 0..2);
    let input = readings(500);
    for spool in [&[][..], &["--spool", "spool"]] {
        // Many senders, but the reader follows one stream: once that sender has settled, it exits without a warning.
        let reader = fleet.gateway.listen(&["--once"]);
        fleet.sensors[1].send_all(&[spool, &["--confirm"]].concat(), input.clone()).succeeded();
        let ended = reader.wait().succeeded();
        assert!(!ended.stderr.contains("may not have heard"), "{}", ended.stderr);
        ended.wrote(&input);
        // The other direction: to one of two devices, over that device's own topics.
        let reader = fleet.sensors[0].listen(&["--once"]);
        let other = fleet.sensors[1].listen(&[]);
        fleet.gateway.send_all(&[spool, &["--confirm", "--to", "s0"]].concat(), input.clone()).succeeded();
        let ended = reader.wait().succeeded();
        assert!(!ended.stderr.contains("may not have heard"), "{}", ended.stderr);
        ended.wrote(&input);
        let other = other.stop().succeeded();
        assert!(other.stdout.is_empty() && !other.stderr.contains("dropped"), "{}", other.stderr);
    }
}

#[test]
fn a_gateway_goes_over_to_a_new_session_and_settles_the_old_stream() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, AREA, 0..2);
    let serving = fleet.serve();
    for spool in [&[][..], &["--spool", "spool"]] {
        let reader = fleet.sensors[0].listen(&["--once"]);
        let args = [spool, &["--confirm", "--each", "--to", "s0", LINK]].concat();
        let mut sender = Process::spawn(fleet.gateway.send(&args));
        sender.write("before\n");
        reader.wait_for_stdout(b"before\n");
        fleet.pair();
        sender.write("after\n");
        reader.wait_for_stdout(b"before\nafter\n");
        sender.close_stdin();
        sender.wait().succeeded();
        let ended = reader.wait().succeeded();
        assert!(!ended.stderr.contains("may not have heard"), "{}", ended.stderr);
        ended.wrote(b"before\nafter\n");
    }
    serving.stop().succeeded();
}
