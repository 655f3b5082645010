//! Claim: a full disk costs time and nothing else: sts-recv writes nothing that it could not record as written, and
//! ends because of no session that begins, is asked after or ends meanwhile; sts-send sends nothing in a stream whose
//! number it could not record as taken.

use std::path::Path;
use std::process::Command;
use std::thread::sleep;

use rustix::process::{Pid, Signal, kill_process};

use crate::broker::{Broker, Options};
use crate::device::{Device, LINK, M2S, Pair, readings};
use crate::hostile::{Fate, HostileBroker, paired};
use crate::process::{Ended, Process, wait_until};
use crate::rotation::LONGER_THAN_REFRESH;
use crate::server::{Server, carry};
use crate::versions::{pair_in, swallow};

/// What is said once each: that there is no space, and that there is some again.
const WAITS: &str = "the disk is full; waiting for space to record ";
const SPACE_AGAIN: &str = "there is space on the disk again";

/// sts-recv whose record of what it wrote finds no space at these writes.
fn receiving_without_space(pair: &Pair, writes: &str) -> Process {
    let receiver = without_space(&pair.slave, &pair.slave.recv(&["-v", LINK]), "gateway@recv", writes);
    receiver.wait_for("listening on");
    receiver
}

/// sts-send whose record of a stream number finds no space at these writes.
fn sending_without_space(pair: &Pair, args: &[&str], writes: &str) -> Process {
    let sender = &pair.master;
    without_space(sender, &sender.send(&[args, &[LINK]].concat()), &session_file(sender), writes)
}

/// sts-recv that finds no space in the session file at these writes.
fn receiving_without_space_for_sessions(pair: &Pair, writes: &str) -> Process {
    let receiver = &pair.slave;
    let receiver = without_space(receiver, &receiver.recv(&["-v", LINK]), &session_file(receiver), writes);
    receiver.wait_for("listening on");
    receiver
}

/// The session file of a device as it is written, before it has its name.
fn session_file(device: &Device) -> String {
    let file = device.runtime_files().into_iter().map(|(path, _)| path).find(|path| is_session_file(path));
    format!("{}.new", file.expect("it is paired").file_name().unwrap().to_str().unwrap())
}

fn is_session_file(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.strip_prefix("gateway@").is_some_and(|peer| peer.len() == 32)
}

/// A tool that finds no space in this file of its runtime directory at these writes, as strace(1) counts them.
pub(crate) fn without_space(device: &Device, tool: &Command, file: &str, writes: &str) -> Process {
    without_space_for("write", device, tool, &device.runtime_dir().join(file), writes)
}

/// As [`without_space`], in these calls of a system call on this path.
pub(crate) fn without_space_for(call: &str, device: &Device, tool: &Command, path: &Path, calls: &str) -> Process {
    with_fault(call, &format!("error=ENOSPC:when={calls}"), device, tool, path)
}

/// A tool with this fault, as strace(1) injects it, in a system call on this path.
pub(crate) fn with_fault(call: &str, fault: &str, device: &Device, tool: &Command, path: &Path) -> Process {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
    let mut traced = Command::new("strace");
    traced.args(["-o", "/dev/null", "-e", &trace, "-e", &inject, "-P"]).arg(path);
    traced.arg(tool.get_program()).args(tool.get_args()).current_dir(device.path());
    for (name, value) in tool.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    Process::spawn(traced)
}

/// Checks that this was said once: the disk is full, and `what` waits; there is space again.
pub(crate) fn assert_waited(said: &str, what: &str) {
    assert_eq!(said.matches(&format!("{WAITS}{what}: cannot write ")).count(), 1, "{said}");
    assert_eq!(said.matches(SPACE_AGAIN).count(), 1, "{said}");
}

/// Stops the tool that strace runs, which blocks the signal itself.
pub(crate) fn stop(traced: Process) -> Ended {
    end_by(traced, Signal::TERM)
}

fn end_by(traced: Process, signal: Signal) -> Ended {
    let tool = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", traced.id())).unwrap();
    kill_process(Pid::from_raw(tool.trim().parse().unwrap()).expect("it runs"), signal).unwrap();
    traced.wait()
}

#[test]
fn what_was_written_is_recorded_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = receiving_without_space(&pair, "2..3");
    let input = readings(20);
    pair.master.send_all(&["--each", "--confirm"], input.clone()).succeeded();
    assert_waited(&receiver.stderr(), "what was written");
    receiver.wait_for_stdout(&input);
    stop(receiver).succeeded().wrote(&input);
    // The next run writes none of it again.
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--confirm"], "next\n").succeeded();
    receiver.stop().succeeded().wrote(b"next\n");
}

#[test]
fn a_run_that_is_stopped_without_space_says_what_comes_again() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&["--confirm", LINK]));
    let receiver = receiving_without_space(&pair, "1+");
    sender.write("line\n");
    receiver.wait_for("the disk is full");
    let ended = stop(receiver).failed(&[1], &["No space left on device", "the next run writes 5 bytes again"]);
    let next = pair.slave.listen(&[]);
    sender.close_stdin();
    sender.wait().succeeded();
    wait_until("the line to come again", || next.written() >= 5);
    next.stop().succeeded().wrote(b"line\n");
    ended.wrote(b"line\n");
}

#[test]
fn the_first_message_under_a_session_is_received_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // The session file is to say that there is receive state.
    let receiver = receiving_without_space_for_sessions(&pair, "1..2");
    pair.master.send_all(&["--confirm"], "first\n").succeeded();
    assert_waited(&receiver.stderr(), "what was written");
    stop(receiver).succeeded().wrote(b"first\n");
    let next = pair.slave.listen(&[]);
    pair.master.send_all(&["--confirm"], "next\n").succeeded();
    next.stop().succeeded().wrote(b"next\n");
}

/// Two devices on a broker that loses what tells the slave that a session is in use.
fn pending() -> (HostileBroker, Pair) {
    let (broker, pair) = paired();
    broker
        .filter(|topic, payload| if topic == M2S && payload.first() == Some(&0x26) { Fate::Drop } else { Fate::Pass });
    let slave = Process::spawn(pair.slave.pair(&["--timeout", "10", LINK]));
    Process::spawn(pair.master.pair(&["--timeout", "10", LINK])).wait().succeeded();
    slave.wait().failed(&[75], &["the new session is kept"]);
    (broker, pair)
}

fn has_pending(device: &Device) -> bool {
    let sessions = device.runtime_files().into_iter().find(|(path, _)| is_session_file(path)).expect("it is paired").1;
    String::from_utf8(sessions).unwrap().contains("pending")
}

#[test]
fn a_session_becomes_the_current_one_once_there_is_space() {
    let (_broker, pair) = pending();
    assert!(has_pending(&pair.slave));
    let receiver = receiving_without_space_for_sessions(&pair, "1..2");
    pair.master.send_all(&["--confirm"], "first\n").succeeded();
    assert_waited(&receiver.stderr(), "what was written");
    assert!(!has_pending(&pair.slave));
    stop(receiver).succeeded().wrote(b"first\n");
}

#[test]
fn a_question_after_a_session_is_answered_once_there_is_space() {
    let (_broker, pair) = pending();
    let receiver = receiving_without_space_for_sessions(&pair, "1");
    // It is asked again.
    Process::spawn(pair.master.pair(&["-v", "--if-older", "1h", LINK])).wait().failed(&[0], &["still has it"]);
    assert!(!has_pending(&pair.slave));
    stop(receiver).succeeded();
}

#[test]
fn a_session_that_its_peer_ended_is_deleted_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // A session under which nothing was received leaves nothing to remember.
    pair.carries(&[], b"before\n");
    let receiver = receiving_without_space_for_sessions(&pair, "1..2");
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    let ended = receiver.wait();
    assert_waited(&ended.stderr, "the end of a session");
    assert_eq!(ended.stderr.matches("station ended the session; its keys were deleted").count(), 1, "{}", ended.stderr);
    ended.succeeded();
    Process::spawn(pair.slave.recv(&[LINK])).wait().failed(&[75], &["no session"]);
}

#[test]
fn a_stream_begins_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut expected = Vec::new();
    for args in [&["-v"][..], &["-v", "--spool", "spool"], &["-v", "--confirm"]] {
        let mut sender = sending_without_space(&pair, args, "1..2");
        sender.write("line\n");
        sender.close_stdin();
        let ended = sender.wait();
        assert_waited(&ended.stderr, "what is sent");
        ended.succeeded();
        expected.extend(b"line\n");
        receiver.wait_for_stdout(&expected);
    }
    receiver.stop().succeeded().wrote(&expected);
}

#[test]
fn a_run_that_finds_no_space_in_time_loses_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let full = "the disk with the runtime directory is full";
    let spooled = format!("left in the spool spool: 1 message (5 bytes); {full}");
    let read_none = format!("timed out: nothing was read; {full}");
    for (args, said) in [(&[][..], read_none), (&["--spool", "spool"], spooled)] {
        let mut sender = sending_without_space(&pair, &[args, &["--timeout", "2"]].concat(), "1+");
        sender.write("line\n");
        sender.close_stdin();
        sender.wait().failed(&[75], &[WAITS, &said]);
    }
    let receiver = pair.slave.listen(&["-n", "2"]);
    pair.master.send_all(&["--spool", "spool"], "next\n").succeeded();
    receiver.wait().succeeded().wrote(b"line\nnext\n");
}

#[test]
fn a_stream_ends_under_a_new_session_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    // The first number is taken; the one for the stream under the next session is not at once.
    let mut sender = sending_without_space(&pair, &["-v", "--each"], "2..3");
    sender.write("before\n");
    receiver.wait_for_stdout(b"before\n");
    pair.agree();
    let mut expected = b"before\n".to_vec();
    // A new session is noticed within a second.
    wait_until("the next stream to wait", || {
        if !sender.stderr().contains(WAITS) {
            sender.write("after\n");
            expected.extend(b"after\n");
        }
        sender.stderr().contains(WAITS)
    });
    sender.close_stdin();
    let ended = sender.wait();
    assert_waited(&ended.stderr, "what is sent");
    ended.succeeded();
    receiver.wait_for_stdout(&expected);
    receiver.stop().succeeded().wrote(&expected);
}

/// The receiver lost its sessions, and the disk has no room for the stream that takes what it has not confirmed.
#[test]
fn what_is_not_confirmed_is_resent_under_a_new_session_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = sending_without_space(&pair, &["--confirm", "--each"], "2..4");
    sender.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    receiver.stop().succeeded();
    pair.slave.lose_runtime_files();
    sender.write("two\n");
    sender.wait_for("waiting for sts-recv");
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    sender.wait_for(WAITS);
    sender.wait_for("the other device has lost the session");
    sender.close_stdin();
    let ended = sender.wait().succeeded();
    assert_waited(&ended.stderr, "what is sent");
    assert!(ended.stderr.contains("possibly duplicated: 1 message"), "{}", ended.stderr);
    receiver.stop().succeeded().wrote(b"two\n");
}

#[test]
fn a_run_without_space_and_without_a_broker_names_both() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = sending_without_space(&pair, &["--each", "--timeout", "2"], "2+");
    sender.write("before\n");
    receiver.wait_for_stdout(b"before\n");
    pair.agree();
    receiver.stop().succeeded();
    broker.stop();
    sender.wait_for("waiting for the broker");
    // What is read before the new session is noticed is sealed in the old stream, which is not left before the broker has it.
    sleep(LONGER_THAN_REFRESH);
    sender.write("after\n");
    sender.wait_for(WAITS);
    sender.close_stdin();
    let said =
        ["timed out: unacknowledged", "the disk with the runtime directory is full", "no connection to the broker"];
    sender.wait().failed(&[69], &said);
}

#[test]
fn a_will_is_left_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let sender = sending_without_space(&pair, &["-v", "--will", "it died"], "1..2");
    sender.wait_for(SPACE_AGAIN);
    sender.wait_for_times("connected to", 2);
    end_by(sender, Signal::KILL);
    receiver.wait_for_stdout(b"it died\n");
    receiver.stop().succeeded();
}

/// The messages of the first connection are too long for the broker behind the next one. The first write takes the number of
/// the stream that they are in.
#[test]
fn what_is_too_long_now_is_cut_once_there_is_space() {
    let broker = Broker::with(Options { max_packet_size: Some(4000), ..Options::default() });
    let port = broker.port();
    let input = [&b"first\n"[..], &vec![b'x'; 40_000], b"\nlast\n"].concat();
    for confirm in [&[][..], &["--confirm"]] {
        let pair = pair_in(&broker, "5", "5");
        let relay = Server::start(move |number, stream| match number {
            0 => swallow(stream, 40_000, &[]),
            _ => carry(stream, port),
        });
        let receiver = pair.slave.listen(&[]);
        let through = format!("port={}", relay.port());
        let mut sender = sending_without_space(&pair, &[confirm, &["--each", "-o", &through]].concat(), "2..3");
        sender.write(&input);
        sender.close_stdin();
        let ended = sender.wait();
        assert_waited(&ended.stderr, "what is sent");
        ended.succeeded();
        receiver.wait_for_stdout(&input);
        let ended = receiver.stop().succeeded().wrote(&input);
        assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
    }
}

/// Where a directory takes no new name, the file of that name is not left behind.
#[test]
fn a_spool_takes_input_once_there_is_space_in_its_directory() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.master.send_all(&["--spool", "spool"], "before\n").succeeded();
    let receiver = pair.slave.listen(&["--once"]);
    let tool = pair.master.send(&["--spool", "spool", LINK]);
    let mut sender = without_space_for("fsync", &pair.master, &tool, &pair.master.path().join("spool"), "1..3");
    sender.write("line\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"line\n");
}
