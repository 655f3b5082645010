//! Claim: a copy of a runtime directory seals nothing under a key that the original uses, which the receiver reports; and what
//! was received leaves no key on the disk.

use std::collections::HashSet;
use std::fs;

use crate::broker::Broker;
use crate::device::{Device, LINK, M2S, Pair};
use crate::process::{Process, wait_until};
use crate::sniffer::Sniffer;

const ENC: u8 = 0x27;

/// The lines of this key in the session files of a device.
fn lines(device: &Device, key: &str) -> Vec<String> {
    let files = device.runtime_files().into_iter().map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned());
    let all: Vec<String> = files.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    all.into_iter().filter(|line| line.starts_with(key)).collect()
}

#[test]
fn a_copy_takes_a_number_again_and_no_key() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    let copied = pair.master.runtime_files();
    pair.master.send_all(&[], "original\n").succeeded();
    receiver.wait_for_stdout(b"original\n");
    for (path, bytes) in &copied {
        fs::write(path, bytes).unwrap();
    }
    pair.master.send_all(&[], "copy\n").succeeded();
    receiver.wait_for("unverified: station may have taken stream 0 twice");
    pair.master.send_all(&[], "the next number\n").succeeded();
    receiver.wait_for_stdout(b"original\nthe next number\n");
    receiver.stop().wrote(b"original\nthe next number\n");
    let sealed = sniffer.seen().into_iter().filter(|seen| seen.topic == M2S && seen.payload.first() == Some(&ENC));
    let headers: Vec<Vec<u8>> = sealed.map(|seen| seen.payload[..20].to_vec()).collect();
    let streams: Vec<&[u8]> = headers.iter().map(|header| &header[4..8]).collect();
    assert!(streams.iter().filter(|stream| **stream == [0; 4]).count() > 1, "{streams:?}");
    assert_eq!(headers.iter().collect::<HashSet<_>>().len(), headers.len(), "one key and nonce for two messages");
}

/// Of a number that was over so long ago, the receiver no longer knows the salt.
#[test]
fn a_directory_that_was_restored_after_many_runs_is_told() {
    const RUNS: usize = 20;
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let old = pair.master.runtime_files();
    for _ in 0..RUNS {
        pair.master.send_all(&[], "original\n").succeeded();
    }
    receiver.wait_for_stdout("original\n".repeat(RUNS).as_bytes());
    for (path, bytes) in &old {
        fs::write(path, bytes).unwrap();
    }
    pair.master.send_all(&[], "dropped\n").succeeded();
    receiver.wait_for("unverified: station, stream 0: ");
    pair.agree();
    pair.master.send_all(&[], "paired again\n").succeeded();
    let all = "original\n".repeat(RUNS) + "paired again\n";
    receiver.wait_for_stdout(all.as_bytes());
    receiver.stop().succeeded().wrote(all.as_bytes());
    let status = Process::spawn(pair.slave.pair(&["--status", "--json"])).wait().succeeded();
    assert!(status.text().contains(r#""stream number used twice":"#), "{}", status.text());
}

#[test]
fn what_was_received_leaves_no_key() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "cbc");
    let whole = |device: &Device, key: &str| lines(device, key).iter().any(|line| line.contains("= -:"));
    assert!(whole(&pair.master, "send_tree") && whole(&pair.slave, "receive_tree"));
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    sender.write("a line\n");
    receiver.wait_for_stdout(b"a line\n");
    assert!(!whole(&pair.master, "send_tree"), "the number is taken, and its leaf with it");
    sender.close_stdin();
    sender.wait().succeeded();
    wait_until("the keys to be erased", || !whole(&pair.slave, "receive_tree"));
    assert_eq!(lines(&pair.slave, "receive_open"), ["receive_open = "]);

    // Also by a run that ends before it is time.
    let before = lines(&pair.slave, "receive_tree");
    pair.master.send_all(&[], "another\n").succeeded();
    receiver.wait_for_stdout(b"a line\nanother\n");
    receiver.stop().succeeded();
    assert_ne!(lines(&pair.slave, "receive_tree"), before);
}
