//! Claim: what a tool relies on is on the disk itself by then, so that a power cut takes nothing away: a record before it is sent
//! or the next one is waited for, a stream's number before it is used, and the state before a segment is removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, wait_until};

const CALLS: &str = "trace=openat,write,pwrite64,fsync,fdatasync,renameat,renameat2,unlinkat,sendto,ppoll";

/// sts-send with a spool, whose system calls go to the file `trace` of its device, each with the paths that it is about.
fn traced(pair: &Pair, args: &[&str]) -> Process {
    let strace = ["strace", "-y", "-o", "trace", "-e", CALLS, "sts-send", "--spool", "spool"];
    Process::spawn(pair.master.shell(&[&strace[..], args, &[LINK]].concat()))
}

/// What a power cut would take away at one moment of a run, and how often each of the promises was tried.
#[derive(Default)]
struct Disk {
    /// Files with bytes that are not synchronized.
    files: BTreeSet<String>,
    /// Directories in which a file was made or renamed since they were synchronized.
    directories: BTreeSet<String>,
    appended: usize,
    sent: usize,
    waited: usize,
    renamed: usize,
    removed: usize,
    told: usize,
}

impl Disk {
    /// Replays the trace of a run from its beginning to its end.
    fn replay(pair: &Pair) -> Self {
        let trace = fs::read_to_string(pair.master.path().join("trace")).unwrap();
        let mut disk = Self::default();
        for line in trace.lines() {
            let failed = line.rsplit_once(" = ").is_none_or(|(_, result)| result.starts_with('-'));
            if let Some((call, arguments)) = line.split_once('(').filter(|_| !failed) {
                disk.call(call, arguments, line);
            }
        }
        assert!(trace.contains("+++ exited with"), "the trace is cut off");
        assert!(
            disk.files.is_empty() && disk.directories.is_empty(),
            "at the end: {:?} {:?}",
            disk.files,
            disk.directories
        );
        disk
    }

    fn call(&mut self, call: &str, arguments: &str, line: &str) {
        let path = path_of(arguments);
        match call {
            "openat" if arguments.contains("O_EXCL") => drop(self.directories.insert(path)),
            "write" if path.ends_with("/bell") => {
                self.told += 1;
                self.assert_records_are_safe(line);
            }
            "write" | "pwrite64" if Path::new(&path).is_absolute() => {
                self.appended += usize::from(is_segment(&path));
                self.files.insert(path);
            }
            "fsync" | "fdatasync" => drop((self.files.remove(&path), self.directories.remove(&path))),
            "renameat" | "renameat2" => {
                self.renamed += 1;
                let from = format!("{path}/{}", name_of(arguments));
                assert!(!self.files.contains(&from), "renamed before it was synchronized: {line}");
                self.directories.insert(path);
            }
            "unlinkat" if is_segment(name_of(arguments)) => {
                self.removed += 1;
                let state = format!("{path}/state");
                assert!(!self.files.contains(&state), "removed before the state was synchronized: {line}");
            }
            "sendto" => {
                self.sent += 1;
                self.assert_records_are_safe(line);
            }
            // Without a time, it only asks whether there is more to read.
            "ppoll" if !arguments.contains("{tv_sec=0, tv_nsec=0}") => {
                self.waited += 1;
                self.assert_records_are_safe(line);
            }
            _ => {}
        }
    }

    fn assert_records_are_safe(&self, line: &str) {
        assert!(self.directories.is_empty(), "{:?} before {line}", self.directories);
        assert!(!self.files.iter().any(|path| is_segment(path)), "{:?} before {line}", self.files);
    }
}

/// The first path that strace found for a descriptor: `7</run/sts>`.
fn path_of(arguments: &str) -> String {
    let (_, path) = arguments.split_once('<').unwrap_or_default();
    path.split_once('>').unwrap_or_default().0.to_owned()
}

/// The first name that is an argument itself.
fn name_of(arguments: &str) -> &str {
    arguments.split('"').nth(1).unwrap_or_default()
}

fn is_segment(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[test]
fn a_run_with_a_spool_synchronizes_what_it_relies_on() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    for args in [&[][..], &["--confirm"], &["--each"]] {
        let pair = Pair::paired(&broker, "gcm");
        let receiver = pair.slave.listen(&[]);
        let mut sender = traced(&pair, args);
        // The first one alone, then enough that a segment is removed while the run goes on, then one at its end.
        let mut expected = Vec::new();
        for lines in [b"one\n".to_vec(), readings(5000), b"the last\n".to_vec()] {
            sender.write(&lines);
            expected.extend(lines);
            receiver.wait_for_stdout(&expected);
        }
        sender.close_stdin();
        sender.wait().succeeded();
        let disk = Disk::replay(&pair);
        assert!(disk.appended > 2 && disk.sent > 2 && disk.waited > 2 && disk.renamed > 0 && disk.removed > 0);
    }
}

#[test]
fn a_run_that_only_appends_to_a_spool_synchronizes_it_before_it_says_so() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    let mut sender = Process::spawn(pair.master.send(&["-v", "--spool", "spool", LINK]));
    sender.write("one\n");
    sender.wait_until_read();
    wait_until("the first run to be there", || pair.master.path().join("spool/bell").exists());
    let mut other = traced(&pair, &["--timeout", "1"]);
    other.write("two\n");
    other.close_stdin();
    other.wait().failed(&[75], &["in the spool"]);
    let disk = Disk::replay(&pair);
    assert!(disk.appended > 0 && disk.told > 0);
}
