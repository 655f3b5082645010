//! Claim: whenever sts-send or sts-recv is killed, at most one message is damaged: the old program's messages are read,
//! and so are ours, except for the first block of one of them. Whenever sts-pair is killed, the session is the old or the new one,
//! the new one works if the old program has it, and the next run pairs.
//!
//! strace kills a tool as it makes a system call, each of those that can come between two steps in turn.

use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::Link;
use super::old_program::{OldProgram, Role};
use crate::broker::Broker;
use crate::device::LINK;
use crate::process::{Process, wait_until};

/// The system calls of the steps: locks, the session file, the spool, and the connection.
const CALLS: &str = "flock,openat,write,pwrite64,fsync,fdatasync,renameat,renameat2,unlinkat,sendto";
/// More than any run makes.
const MAX_CALLS: usize = 400;
const KILLED: i32 = 128 + 9;

/// A tool that is killed as it makes the call of this number.
fn killed_at(link: &Link, number: usize, tool: &[&str]) -> Command {
    let (trace, inject) = (format!("trace={CALLS}"), format!("inject={CALLS}:signal=KILL:when={number}"));
    let strace = ["strace", "-o", "/dev/null", "-e", &trace, "-e", &inject];
    link.device.shell(&[&strace[..], tool, &[LINK]].concat())
}

/// The calls from the first one on before which a run has done anything that counts: those that load the program come before it.
const FIRST_CALL: usize = 12;

/// What the old program displayed from the message of this number on, once it has displayed `last`.
fn displayed_since(old: &OldProgram, begin: usize, last: &str) -> Vec<Vec<u8>> {
    old.wait(last, |seen| seen.displayed[begin..].iter().any(|text| text == last.as_bytes()));
    old.seen().displayed.split_off(begin)
}

/// Kills sts-send at each of its calls. Returns how many runs were killed.
fn kill_senders(link: &mut Link, options: &[&str]) -> usize {
    let old = link.paired();
    let receiver = link.receiver(&[]);
    let (mut begin, mut printed) = (0, String::new());
    for number in FIRST_CALL..MAX_CALLS {
        let (killed, next, last) = (format!("killed {number}"), format!("next {number}"), format!("last {number}"));
        let sender = killed_at(link, number, &[&["sts-send"], options].concat());
        let ended = Process::spawn_with(sender, format!("{killed}\n")).wait();
        link.device.send_all(options, format!("{next}\n{last}\n")).succeeded();
        let displayed = displayed_since(&old, begin, &last);
        begin += displayed.len();
        let garbled =
            displayed.iter().filter(|text| ![&killed, &next, &last].iter().any(|own| own.as_bytes() == **text));
        assert!(garbled.count() <= 1, "{number}: {displayed:?}");
        assert!((2..=4).contains(&displayed.len()), "{number}: {displayed:?}");
        old.send(&format!("answer {number}"));
        printed.extend([&format!("answer {number}"), "\n"]);
        receiver.wait_for_stdout(printed.as_bytes());
        if ended.status != KILLED {
            ended.succeeded();
            return number - FIRST_CALL;
        }
    }
    panic!("a run makes more than {MAX_CALLS} calls");
}

#[test]
fn a_sender_that_is_killed_costs_at_most_one_garbled_message() {
    let broker = Broker::start();
    thread::scope(|scope| {
        for (role, options) in [(Role::Slave, &[][..]), (Role::Master, &["--spool", "spool"])] {
            let port = broker.port();
            scope.spawn(move || assert!(kill_senders(&mut Link::new(port, role, true, 30), options) > 5));
        }
    });
}

#[test]
fn a_receiver_that_is_killed_costs_at_most_one_damaged_message() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 31);
    let old = link.paired();
    let mut begin = 0;
    for number in FIRST_CALL..MAX_CALLS {
        let mut killed = Process::spawn(killed_at(&link, number, &["sts-recv", "-v", "-n", "1"]));
        let (first, next, last) = (format!("first {number}"), format!("next {number}"), format!("last {number}"));
        // It may be killed before.
        wait_until("sts-recv to listen or to be killed", || {
            killed.stderr().contains("listening on") || !killed.is_running()
        });
        old.send(&first);
        let ended = killed.wait();
        // The old program's messages: at most the one after the one that was lost.
        let receiver = link.receiver(&[]);
        old.send(&next);
        old.send(&last);
        wait_until("the last text", || receiver.stdout().ends_with(format!("{last}\n").as_bytes()));
        let ended_after = receiver.stop();
        let text = ended_after.text();
        // If the other one was killed before it was subscribed, the first text may come here.
        let text = text.strip_prefix(&format!("{first}\n")).unwrap_or(text);
        let text = text.strip_prefix(&format!("{next}\n")).unwrap_or(text);
        assert_eq!(text, format!("{last}\n"), "{number}: {}{}", ended.stderr, ended_after.stderr);
        // Ours: what came last is what both continue from.
        let ours = format!("ours {number}");
        link.device.send_all(&[], format!("{ours}\n")).succeeded();
        let displayed = displayed_since(&old, begin, &ours);
        begin += displayed.len();
        assert_eq!(displayed, [ours.into_bytes()]);
        if ended.status != KILLED {
            ended.succeeded().wrote(format!("{first}\n").as_bytes());
            assert!(number > FIRST_CALL + 5);
            return;
        }
    }
    panic!("a run makes more than {MAX_CALLS} calls");
}

/// How many texts were sent under the current session: there is one.
fn sent_under_current(link: &Link) -> u64 {
    let status = Process::spawn(link.device.pair(&["--status", "--json"])).wait().succeeded();
    let sessions: Vec<Value> = status.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let current: Vec<_> = sessions.iter().filter(|session| session["standing"] == "current").collect();
    assert_eq!(current.len(), 1, "{}", status.text());
    current[0]["messages_sent"].as_u64().unwrap()
}

/// A text in each direction.
fn talk(link: &Link, old: &OldProgram) {
    old.wait("encryption on", |seen| seen.is_on);
    let receiver = link.receiver(&["-n", "1"]);
    old.send("from the old program");
    receiver.wait().succeeded().wrote(b"from the old program\n");
    link.device.send_all(&[], "from here\n").succeeded();
    old.wait("a text", |seen| seen.displayed == [b"from here".to_vec()]);
}

/// Pairs, and is killed at the call of this number; returns the old program if it was started, and whether sts-pair was killed.
fn killed_pairing(link: &mut Link, number: usize) -> (Option<OldProgram>, bool) {
    link.old.seed += 1 << 40;
    let start = || OldProgram::start(link.old.clone());
    let mut old = if link.old.role == Role::Slave { Some(start()) } else { None };
    let mut pairing = Process::spawn(killed_at(link, number, &["sts-pair", "-v"]));
    if old.is_none() {
        wait_until("sts-pair to listen or to be killed", || {
            pairing.stderr().contains("listening on") || !pairing.is_running()
        });
        old = pairing.is_running().then(start);
    }
    let is_killed = pairing.wait().status == KILLED;
    (old, is_killed)
}

/// Kills sts-pair at every fourth of its calls. Returns how often it was killed, and how often the old program had the
/// session by then.
fn kill_pairings(link: &mut Link, first: usize) -> (usize, usize) {
    let old = link.paired();
    talk(link, &old);
    old.switch_off();
    let (mut killed, mut agreed) = (0, 0);
    for number in (first..MAX_CALLS).step_by(4) {
        assert_eq!(sent_under_current(link), 1);
        let (old, is_killed) = killed_pairing(link, number);
        // What was sent may still be on its way to it.
        thread::sleep(Duration::from_millis(300));
        assert!(sent_under_current(link) <= 1, "the old session, or the new one");
        if let Some(old) = &old {
            if old.seen().is_agreed {
                agreed += usize::from(is_killed);
                talk(link, old);
            }
            old.switch_off();
        }
        if !is_killed {
            return (killed, agreed);
        }
        killed += 1;
        let old = link.paired();
        talk(link, &old);
        old.switch_off();
    }
    panic!("a run makes more than {MAX_CALLS} calls");
}

#[test]
fn a_pairing_that_is_killed_leaves_the_old_session_or_the_new_one() {
    let broker = Broker::start();
    for role in [Role::Master, Role::Slave] {
        let (port, results) = (broker.port(), Mutex::new((0, 0)));
        thread::scope(|scope| {
            for first in FIRST_CALL..FIRST_CALL + 4 {
                let results = &results;
                scope.spawn(move || {
                    let (killed, agreed) = kill_pairings(&mut Link::new(port, role, first % 2 == 0, 32), first);
                    let mut results = results.lock().unwrap();
                    *results = (results.0 + killed, results.1 + agreed);
                });
            }
        });
        let (killed, agreed) = results.into_inner().unwrap();
        assert!(killed > 10 && agreed > 1, "{role:?}: killed {killed} times, and {agreed} times after an agreement");
    }
}
