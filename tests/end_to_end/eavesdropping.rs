//! Claim: a broker that reads everything learns no plaintext, and forged, repeated or altered messages change nothing.

use crate::broker::Broker;
use crate::device::{LINK, M2S, Pair, S2M, readings};
use crate::process::Process;
use crate::sniffer::Sniffer;

/// First byte of an ENC message, `sts-protocol(7)`, "Header".
const ENC: u8 = 0x27;

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_broker_sees_no_plaintext() {
    let broker = Broker::start();
    for suite in ["gcm", "cbc", "ecb"] {
        let pair = Pair::enrolled(&broker, suite);
        let sniffer = Sniffer::start(&broker);
        pair.agree();
        pair.carries(&["--each"], &readings(100));
        sniffer.wait_for_type(M2S, ENC, 100);
        for seen in sniffer.seen() {
            assert!((0x21..=0x29).contains(&seen.payload[0]), "{suite}: {seen:?}");
            for plain in ["station", "celsius", "\"seq\"", "0.481"] {
                assert!(!contains(&seen.payload, plain.as_bytes()), "{suite}: {plain} in {seen:?}");
            }
        }
    }
}

#[test]
fn names_are_sealed_in_the_handshake() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    pair.agree();
    sniffer.wait_for_type(S2M, 0x26, 1);
    let spki_of_rsa = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    for seen in sniffer.seen() {
        assert!(!contains(&seen.payload, &spki_of_rsa), "a public key in the clear: {seen:?}");
    }
}

#[test]
fn foreign_messages_are_counted_never_fatal() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let junk = || {
        broker.publish(M2S, b"");
        broker.publish(M2S, b"hello from another program");
        broker.publish(M2S, &[0; 100]);
        broker.publish(M2S, &vec![b'x'; 2 << 20]);
        for first_byte in 0x20..=0x2f {
            broker.publish(M2S, &[first_byte]);
            broker.publish(M2S, &[vec![first_byte], vec![0x55; 14]].concat());
            broker.publish(M2S, &[vec![first_byte], vec![0xaa; 200]].concat());
        }
    };
    junk();
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    sender.write("between\n");
    receiver.wait_for_stdout(b"between\n");
    junk();
    sender.write("the junk\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"between\nthe junk\n");
}

#[test]
fn foreign_messages_do_not_postpone_the_timeout() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut receiver = pair.slave.listen(&["--timeout", "2"]);
    let started = std::time::Instant::now();
    while receiver.is_running() {
        assert!(started.elapsed() < crate::process::DEADLINE, "kept alive by strangers");
        broker.publish(M2S, b"tick");
    }
    receiver.wait().succeeded().wrote(b"");
}

#[test]
fn a_recording_played_again_is_dropped() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--each"], "one\ntwo\nthree\n").succeeded();
    receiver.wait_for_stdout(b"one\ntwo\nthree\n");
    let recorded = sniffer.wait_for_type(M2S, ENC, 3);
    for payload in &recorded {
        broker.publish(M2S, payload);
    }
    pair.master.send_all(&[], "four\n").succeeded();
    receiver.wait_for_stdout(b"one\ntwo\nthree\nfour\n");
    receiver.stop().wrote(b"one\ntwo\nthree\nfour\n");

    // A new process still recognizes them.
    let receiver = pair.slave.listen(&["--once"]);
    for payload in &recorded {
        broker.publish(M2S, payload);
    }
    pair.master.send_all(&[], "five\n").succeeded();
    receiver.wait().succeeded().wrote(b"five\n");
}

#[test]
fn altered_and_reflected_messages_do_not_open() {
    for suite in ["gcm", "cbc", "ecb"] {
        let broker = Broker::start();
        let pair = Pair::paired(&broker, suite);
        let sniffer = Sniffer::start(&broker);
        // Recorded while no receiver runs: to the receiver, none of it is a duplicate.
        pair.master.send_all(&[], "genuine\n").succeeded();
        let genuine = sniffer.wait_for_type(M2S, ENC, 1).remove(0);

        let at_slave = pair.slave.listen(&["-n", "1"]);
        let at_master = pair.master.listen(&["-n", "1"]);
        broker.publish(S2M, &genuine);
        for at in 0..genuine.len() {
            let mut altered = genuine.clone();
            altered[at] ^= 1;
            broker.publish(M2S, &altered);
            broker.publish(M2S, &genuine[..at]);
        }
        broker.publish(M2S, &genuine);
        at_slave.wait().succeeded().wrote(b"genuine\n");
        pair.slave.send_all(&[], "and back\n").succeeded();
        at_master.wait().succeeded().wrote(b"and back\n");
    }
}
