//! Claim: a full disk costs time and nothing else: sts-recv writes nothing that it could not record as written.

use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::broker::Broker;
use crate::device::{Device, LINK, Pair, readings};
use crate::process::{Ended, Process, wait_until};

/// sts-recv whose record of what it wrote finds no space at these writes.
fn receiving_without_space(pair: &Pair, writes: &str) -> Process {
    without_space(&pair.slave, "gateway@recv", writes)
}

/// sts-recv that finds no space in this file of its runtime directory at these writes, as strace(1) counts them.
pub(crate) fn without_space(device: &Device, file: &str, writes: &str) -> Process {
    let recv = device.recv(&["-v", LINK]);
    let record = device.runtime_dir().join(file);
    let inject = format!("inject=write:error=ENOSPC:when={writes}");
    let mut traced = Command::new("strace");
    traced.args(["-o", "/dev/null", "-e", "trace=write", "-e", &inject, "-P"]).arg(record);
    traced.arg(recv.get_program()).args(recv.get_args()).current_dir(device.path());
    for (name, value) in recv.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    let receiver = Process::spawn(traced);
    receiver.wait_for("listening on");
    receiver
}

/// Stops the tool that strace runs, which blocks the signal itself.
pub(crate) fn stop(traced: Process) -> Ended {
    let tool = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", traced.id())).unwrap();
    kill_process(Pid::from_raw(tool.trim().parse().unwrap()).expect("it runs"), Signal::TERM).unwrap();
    traced.wait()
}

#[test]
fn what_was_written_is_recorded_once_there_is_space() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = receiving_without_space(&pair, "2..3");
    let input = readings(20);
    pair.master.send_all(&["--each", "--confirm"], input.clone()).succeeded();
    let said = receiver.stderr();
    assert_eq!(said.matches("the disk is full; waiting for space to record what was written").count(), 1, "{said}");
    assert_eq!(said.matches("there is space on the disk again").count(), 1, "{said}");
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
