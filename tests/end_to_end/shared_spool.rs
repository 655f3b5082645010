//! Claim: any number of runs may use a spool at the same time. One sends, and what the others read is sent in the order in
//! which it arrived: nothing is lost or duplicated, whichever run is killed and whenever.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, M2S, Pair, S2M};
use crate::process::{Process, wait_until};
use crate::sniffer::Sniffer;
use crate::spool::spooled;

const CONFIRM: &str = "--confirm";
/// The error of a run that leaves its input to another one.
const SAFE: &str = "all input is in the spool";

#[test]
fn a_run_ends_once_its_input_is_safe_and_another_one_sends_it() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    for args in [&[][..], &[CONFIRM]] {
        let before = receiver.stdout();
        let mut sender = Process::spawn(pair.master.send(&spooled(args)));
        sender.write("one\n");
        receiver.wait_for_stdout(&[&before, &b"one\n"[..]].concat());
        // The sending run is idle, and is woken.
        let other = Process::spawn_with(pair.master.send(&spooled(args)), "two\nhalf");
        other.wait().failed(&[75], &[SAFE, "another sts-send"]);
        receiver.wait_for_stdout(&[&before, &b"one\ntwo\nhalf"[..]].concat());
        let quiet = Process::spawn_with(pair.master.send(&spooled(&[args, &["-q"]].concat())), "three\n");
        assert_eq!(quiet.wait().failed(&[75], &[]).stderr, "");
        sender.write("four\n");
        sender.close_stdin();
        sender.wait().succeeded();
        receiver.wait_for_stdout(&[&before, &b"one\ntwo\nhalfthree\nfour\n"[..]].concat());
    }
    receiver.stop().succeeded();
}

#[test]
fn runs_that_overlap_in_an_outage_all_keep_their_input() {
    let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    // The broker queues what arrives while the receiver is away.
    pair.slave.listen(&[]).stop();
    broker.stop();
    let mut first = Process::spawn(pair.master.send(&spooled(&["-v"])));
    first.write("0\n");
    first.wait_for("waiting for the broker");
    let mut expected = b"0\n".to_vec();
    for run in 1..4 {
        let line = format!("{run}\n");
        Process::spawn_with(pair.master.send(&spooled(&[])), line.as_bytes()).wait().failed(&[75], &[SAFE]);
        expected.extend_from_slice(line.as_bytes());
    }
    // An incomplete line does not hold up other runs, and is sent after what was complete before it.
    first.write("5, bef");
    first.wait_until_read();
    Process::spawn_with(pair.master.send(&spooled(&[])), "4\n").wait().failed(&[75], &[SAFE]);
    first.write("ore it is whole\n");
    first.close_stdin();
    broker.start_again();
    // What is queued for it by then may be all of it, and come before the answer to its subscription.
    let receiver = Process::spawn(pair.slave.recv(&["--once", LINK]));
    first.wait().succeeded();
    expected.extend_from_slice(b"4\n5, before it is whole\n");
    receiver.wait().succeeded().wrote(&expected);
}

#[test]
fn a_run_takes_the_place_of_one_that_died() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let first = Process::spawn(pair.master.send(&spooled(&[])));
    wait_until("the first run to have the spool", || pair.master.path().join("spool/bell").exists());
    let mut second = Process::spawn(pair.master.send(&spooled(&[])));
    second.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    first.signal(Signal::KILL);
    first.wait();
    second.write("two\n");
    receiver.wait_for_stdout(b"one\ntwo\n");
    second.close_stdin();
    second.wait().succeeded();
    receiver.stop();
}

/// First byte of a sealed message, `sts-protocol(7)`, "Header".
const ENC: u8 = 0x27;

/// The session tags of all sealed messages so far, in order.
fn session_tags(sniffer: &Sniffer) -> Vec<Vec<u8>> {
    sniffer.seen_of_type(M2S, ENC).iter().map(|payload| payload[1..4].to_vec()).collect()
}

#[test]
fn a_run_that_waited_knows_the_session_that_the_other_one_moved_to() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    let mut first = Process::spawn(pair.master.send(&spooled(&[CONFIRM])));
    first.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    let mut second = Process::spawn(pair.master.send(&spooled(&[CONFIRM])));
    second.write("two\n");
    receiver.wait_for_stdout(b"one\ntwo\n");
    let mut expected = b"one\ntwo\n".to_vec();
    pair.agree();
    let old = session_tags(&sniffer)[0].clone();
    while session_tags(&sniffer).iter().all(|tag| *tag == old) {
        first.write("more\n");
        expected.extend_from_slice(b"more\n");
        receiver.wait_for_stdout(&expected);
    }
    // Sent under the new session, and nobody confirms it before the other run takes over.
    receiver.signal(Signal::STOP);
    let before = session_tags(&sniffer).len();
    first.write("last\n");
    wait_until("the last line to be sent", || session_tags(&sniffer).len() > before);
    first.signal(Signal::KILL);
    first.wait();
    let before = session_tags(&sniffer).len();
    wait_until("the other run to send it", || session_tags(&sniffer).len() > before);
    receiver.signal(Signal::CONT);
    second.close_stdin();
    let ended = second.wait().succeeded();
    assert!(!ended.stderr.contains("duplicated"), "{}", ended.stderr);
    expected.extend_from_slice(b"last\n");
    receiver.wait_for_stdout(&expected);
    receiver.stop().succeeded().wrote(&expected);
}

#[test]
fn a_run_that_waited_finds_the_first_session() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // The broker keeps for it what is sent as soon as there is a session again.
    pair.slave.listen(&[]).stop();
    pair.master.lose_runtime_files();
    let mut first = Process::spawn(pair.master.send(&spooled(&[])));
    first.write("one\n");
    first.wait_for("meanwhile, input waits in the spool");
    let mut second = Process::spawn(pair.master.send(&spooled(&[])));
    second.write("two\n");
    let segment = pair.master.path().join("spool/0000000000000000");
    wait_until("both lines to be in the spool", || {
        std::fs::read(&segment).is_ok_and(|bytes| bytes.windows(4).any(|piece| piece == b"two\n"))
    });
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    receiver.wait_for_stdout(b"one\ntwo\n");
    // The first thing that it does is to take over, with its input at its end.
    second.signal(Signal::STOP);
    first.signal(Signal::KILL);
    first.wait();
    second.write("three\n");
    second.close_stdin();
    second.signal(Signal::CONT);
    second.wait().succeeded();
    receiver.wait_for_stdout(b"one\ntwo\nthree\n");
    receiver.stop().succeeded();
}

#[test]
fn a_run_that_is_told_to_stop_leaves_the_rest_to_another_one() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut first = Process::spawn(pair.master.send(&spooled(&[])));
    first.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    // More than this test can send, so that the spool is rarely empty.
    let mut feed = Command::new("seq").arg("100000000").stdout(Stdio::piped()).spawn().unwrap();
    let mut second = pair.master.send(&spooled(&["--each", "-o", "max_message=1000"]));
    second.stdin(feed.stdout.take().unwrap()).stderr(Stdio::piped());
    let second = Process::started(second);
    let sent = |more: usize| {
        let before = receiver.written();
        wait_until("more to arrive", || receiver.written() > before + more);
    };
    sent(100);
    first.stop().succeeded();
    sent(10_000);
    second.signal(Signal::KILL);
    second.wait();
    feed.kill().unwrap();
    feed.wait().unwrap();
    receiver.stop();
}

#[test]
fn without_a_session_several_runs_fill_the_spool() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // The broker keeps for it what is sent as soon as there is a session again.
    pair.slave.listen(&[]).stop();
    pair.master.lose_runtime_files();
    let mut first = Process::spawn(pair.master.send(&spooled(&[])));
    first.write("one\n");
    first.wait_for("meanwhile, input waits in the spool");
    Process::spawn_with(pair.master.send(&spooled(&[])), "two\n").wait().failed(&[75], &[SAFE]);
    pair.agree();
    let receiver = pair.slave.listen(&["--once"]);
    first.close_stdin();
    first.wait().succeeded();
    receiver.wait().succeeded().wrote(b"one\ntwo\n");
}

#[test]
fn a_run_that_cannot_write_says_what_is_lost() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut first = Process::spawn(pair.master.send(&spooled(&[])));
    first.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    // It holds the lock for appending, and cannot react to the request to release it.
    first.signal(Signal::STOP);
    let ended = Process::spawn_with(pair.master.send(&spooled(&["--timeout", "1"])), "two\n").wait();
    ended.failed(&[65], &["timed out", "not written to the spool", "4 bytes"]);
    let mut stopped = Process::spawn(pair.master.send(&spooled(&[])));
    stopped.write("three\n");
    stopped.wait_until_read();
    stopped.signal(Signal::TERM);
    stopped.wait().failed(&[65], &["stopped by a signal", "not written to the spool", "6 bytes"]);
    first.signal(Signal::CONT);
    first.close_stdin();
    first.wait().succeeded();
}

/// The numbered lines of one run.
fn lines(run: usize) -> String {
    (0..300).fold(String::new(), |mut text, line| {
        writeln!(text, "{run} {line} {}", "x".repeat(line % 60)).unwrap();
        text
    })
}

#[test]
fn runs_that_are_killed_lose_and_repeat_nothing_of_others() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    for (round, args) in
        [&["--each", "-o", "max_message=1000"][..], &[CONFIRM, "-o", "max_message=1000"]].iter().enumerate()
    {
        let receiver = pair.slave.listen(&[]);
        let mut complete = Vec::new();
        for wave in 0..6 {
            let runs: Vec<_> = (0..5).map(|index| 1000 * round + 10 * wave + index).collect();
            let started = |run: &usize| Process::spawn_with(pair.master.send(&spooled(args)), lines(*run));
            let mut running: Vec<_> = runs.iter().map(started).collect();
            // In each wave one run is killed, each time after a different delay.
            let victim = running.remove(wave % 5);
            thread::sleep(Duration::from_millis(wave as u64 * 7));
            victim.signal(Signal::KILL);
            let killed = victim.wait().status != 0;
            for (run, process) in running.into_iter().zip(runs.iter().enumerate().filter(|(at, _)| *at != wave % 5)) {
                run.wait().failed(&[0, 75], &[]);
                complete.push(*process.1);
            }
            if !killed {
                complete.push(runs[wave % 5]);
            }
        }
        let last = format!("the end of {round}\n");
        Process::spawn_with(pair.master.send(&spooled(args)), last.as_bytes()).wait().succeeded();
        wait_until("all of it to arrive", || receiver.stdout().ends_with(last.as_bytes()));
        let ended = receiver.stop();
        let text = ended.text();
        for wave in 0..6 {
            for run in (0..5).map(|index| 1000 * round + 10 * wave + index) {
                let prefix = format!("{run} ");
                let got: String = text.split_inclusive('\n').filter(|line| line.starts_with(&prefix)).collect();
                let all = lines(run);
                assert!(all.starts_with(&got), "run {run} of {round}: lines are missing, repeated or out of order");
                assert!(got == all || !complete.contains(&run), "run {run} of {round}: {} of {}", got.len(), all.len());
            }
        }
    }
}

/// A file system without named pipes, say on a memory card.
#[test]
fn a_spool_without_a_bell_is_shared() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let send = pair.master.send(&spooled(&[]));
    let mut traced = Command::new("strace");
    traced.args(["-o", "/dev/null", "-e", "trace=mknodat", "-e", "inject=mknodat:error=EPERM"]);
    traced.arg(send.get_program()).args(send.get_args()).current_dir(pair.master.path());
    for (name, value) in send.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        traced.env(name, value);
    }
    let mut first = Process::spawn(traced);
    first.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    assert!(!pair.master.path().join("spool/bell").exists());
    Process::spawn_with(pair.master.send(&spooled(&["--timeout", "30"])), "two\n").wait().failed(&[75], &[SAFE]);
    receiver.wait_for_stdout(b"one\ntwo\n");
    first.close_stdin();
    first.wait().succeeded();
    receiver.stop().succeeded();
}

/// A run that sends, and that shares its spool, of which one line has arrived.
fn sharing(pair: &Pair, receiver: &Process, args: &[&str]) -> Process {
    let sender = Process::spawn(pair.master.send(&spooled(args)));
    wait_until("the run to have the spool", || pair.master.path().join("spool/bell").exists());
    let before = receiver.stdout();
    Process::spawn_with(pair.master.send(&spooled(args)), "other\n").wait().failed(&[75], &[SAFE]);
    receiver.wait_for_stdout(&[&before, &b"other\n"[..]].concat());
    sender
}

#[test]
fn a_run_that_cannot_append_can_be_stopped() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = sharing(&pair, &receiver, &[]);
    let lock = std::fs::File::open(pair.master.path().join("spool/append")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    sender.write("own\n");
    sender.wait_until_read();
    sender.stop().failed(&[65], &["stopped by a signal", "another sts-send keeps it locked", "4 bytes"]);
    // Nor can one that is to take its place.
    let mut next = Process::spawn(pair.master.send(&spooled(&[])));
    next.write("next\n");
    next.wait_until_read();
    next.stop().failed(&[65], &["stopped by a signal", "another sts-send keeps it locked", "5 bytes"]);
    receiver.stop();
}

#[test]
fn a_run_that_is_stopped_leaves_none_of_its_own_input() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    let mut sender = sharing(&pair, &receiver, &[CONFIRM]);
    sniffer.wait_for_type(S2M, ENC, 1);
    receiver.signal(Signal::STOP);
    let lock = std::fs::File::open(pair.master.path().join("spool/append")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    sender.write("own\n");
    sender.wait_until_read();
    sender.signal(Signal::TERM);
    sender.wait_for("then stopping");
    // Its input gets into the spool only now, and nobody confirms it.
    drop(lock);
    sender.wait().failed(&[75], &["left in the spool"]);
    receiver.signal(Signal::CONT);
    receiver.stop();
}

#[test]
fn what_a_run_has_read_while_it_waited_is_kept_when_it_fails() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    // Waiting for a session, with the beginning of a line.
    let mut sender = Process::spawn(pair.master.send(&spooled(&[])));
    sender.wait_for("meanwhile, input waits in the spool");
    sender.write("half ");
    sender.wait_until_read();
    let known = pair.master.config_dir().join("known_peers");
    let trusted = std::fs::read(&known).unwrap();
    std::fs::write(&known, "nonsense\n").unwrap();
    sender.wait().failed(&[78], &["known_peers", "left in the spool", "1 message (5 bytes)"]);
    std::fs::write(&known, trusted).unwrap();
    pair.agree();
    // Waiting for another run, which sends in another way.
    let receiver = pair.slave.listen(&[]);
    let mut first = Process::spawn(pair.master.send(&spooled(&[])));
    receiver.wait_for_stdout(b"half ");
    let mut second = Process::spawn(pair.master.send(&spooled(&[CONFIRM])));
    second.write("a line\nand half");
    receiver.wait_for_stdout(b"half a line\n");
    second.wait_until_read();
    first.write("x\n");
    receiver.wait_for_stdout(b"half a line\nx\n");
    first.signal(Signal::KILL);
    first.wait();
    second.wait().failed(&[64], &["--confirm", "left in the spool"]);
    pair.master.send_all(&["--spool", "spool"], "").succeeded();
    receiver.wait_for_stdout(b"half a line\nx\nand half");
    receiver.stop();
}
