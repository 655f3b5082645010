//! Claim: with `--spool`, what sts-send has read is on disk until it is acknowledged, and the next run sends the rest:
//! no byte is lost or duplicated, whatever is killed and whenever.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{SeekFrom, seek};
use rustix::process::Signal;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, M2S, Pair, readings};
use crate::process::{Ended, Process, wait_until};
use crate::sniffer::Sniffer;

const SPOOL: [&str; 2] = ["--spool", "spool"];
const CONFIRM: &str = "--confirm";

pub(crate) fn spooled<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SPOOL[..], more, &[LINK]].concat()
}

/// The bytes of data that wait in a spool: its segments without the headers of their chunks.
fn waiting(spool: &Path) -> usize {
    let files = fs::read_dir(spool).unwrap().map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| path.file_name().unwrap().len() == 16);
    segments.map(|path| usize::try_from(fs::metadata(path).unwrap().len()).unwrap()).sum()
}

#[test]
fn it_carries_what_a_pipe_does_and_leaves_nothing_behind() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    for suite in ["gcm", "cbc", "ecb"] {
        let pair = Pair::paired(&broker, suite);
        for args in
            [&[][..], &["-b"], &["--each"], &[CONFIRM], &[CONFIRM, "--each"], &["-o", "qos=2"], &["-o", "qos=0"]]
        {
            for input in [&b""[..], b"no newline", b"one\ntwo\n", &readings(3000)] {
                pair.carries(&[&SPOOL[..], args].concat(), input);
            }
        }
        assert_eq!(waiting(&pair.master.path().join("spool")), 0);
    }
}

#[test]
fn a_line_of_an_idle_sensor_leaves_at_once() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let mut sender = Process::spawn(pair.master.send(&spooled(&[])));
    for line in ["one\n", "two\n"] {
        let before = receiver.stdout();
        sender.write(line);
        receiver.wait_for_stdout(&[&before, line.as_bytes()].concat());
    }
    sender.write("half a li");
    sender.wait_until_read();
    sender.write("ne\nthe rest");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"one\ntwo\nhalf a line\nthe rest");
}

#[test]
fn what_is_read_while_the_broker_is_away_waits_for_the_next_run() {
    let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    broker.stop();
    let mut all = Vec::new();
    for run in 0..4 {
        let reading = format!("reading {run}, without its newline");
        let ended = pair.master.send_all(&[&SPOOL[..], &["--timeout", "1"]].concat(), reading.as_bytes());
        ended.failed(&[75], &["timed out", "left in the spool", &format!("{} message", run + 1)]);
        all.extend_from_slice(reading.as_bytes());
    }
    // It contains readings in plaintext, so other users must not be able to read it.
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    let spool = pair.master.path().join("spool");
    assert_eq!(mode(&spool), 0o700);
    assert!(fs::read_dir(&spool).unwrap().all(|entry| mode(&entry.unwrap().path()) == 0o600));
    broker.start_again();
    let receiver = pair.slave.listen(&["--once"]);
    let sent = pair.master.send_all(&SPOOL, "the last one\n").succeeded();
    assert!(sent.stderr.contains("4 messages"), "{}", sent.stderr);
    all.extend_from_slice(b"the last one\n");
    receiver.wait().succeeded().wrote(&all);
}

/// A sensor may take longer than the run would wait for the broker.
#[test]
fn a_run_gives_up_only_once_its_input_has_ended() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    let with_timeout = [&SPOOL[..], &["--timeout", "1"]].concat();
    for (session, count) in [(true, "2 messages (10 bytes)"), (false, "4 messages (20 bytes)")] {
        if !session {
            pair.master.lose_runtime_files();
        }
        pair.master.send_all(&with_timeout, "older\n").failed(&[75], &["left in the spool"]);
        let mut sender = Process::spawn(pair.master.send(&spooled(&["--timeout", "1"])));
        sender.wait_for("in the spool from an earlier run");
        // Not a wait for anything: the time that the run would have had.
        thread::sleep(Duration::from_millis(1500));
        sender.write("new\n");
        sender.wait().failed(&[75], &["left in the spool", count]);
    }
}

#[test]
fn a_session_agreed_while_it_waited_is_the_one_that_is_used() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for args in [&[][..], &[CONFIRM]] {
        // Some of the input is sealed under the old session and may have arrived.
        let receiver = pair.slave.listen(&[]);
        let mut sender = Process::spawn(pair.master.send(&spooled(args)));
        sender.write("before\n");
        receiver.wait_for_stdout(b"before\n");
        sender.signal(Signal::KILL);
        sender.wait();
        pair.agree();
        let sent = pair.master.send_all(&[&SPOOL[..], args].concat(), "after\n").succeeded();
        assert!(!sent.stderr.contains("duplicated"), "{}", sent.stderr);
        receiver.wait_for_stdout(b"before\nafter\n");
        receiver.stop().succeeded().wrote(b"before\nafter\n");
    }
}

#[test]
fn a_session_that_is_gone_loses_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // There is no receiver to confirm it: it is sealed, and stays.
    let ended = pair.master.send_all(&[&SPOOL[..], &[CONFIRM, "--timeout", "1"]].concat(), "one\ntwo\n");
    ended.failed(&[75], &["left in the spool"]);
    pair.master.lose_runtime_files();
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    let sent = pair.master.send_all(&[&SPOOL[..], &[CONFIRM]].concat(), "three\n").succeeded();
    assert!(!sent.stderr.contains("duplicated"), "{}", sent.stderr);
    // The first run had come to the end of its input, and may have said so: that of the second one is a stream of its own.
    receiver.stop().succeeded().wrote(b"one\ntwo\nthree\n");
}

#[test]
fn without_a_session_input_waits_for_one() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let ended = pair.master.send_all(&SPOOL, "one\n");
    ended.failed(&[75], &["no session", "left in the spool", "1 message (4 bytes)", "run sts-pair gateway"]);
    let mut sender = Process::spawn(pair.master.send(&spooled(&[CONFIRM])));
    sender.wait_for("meanwhile, input waits in the spool");
    sender.write("two\n");
    sender.wait_until_read();
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    receiver.wait_for_stdout(b"one\ntwo\n");
    sender.write("three\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.stop().succeeded().wrote(b"one\ntwo\nthree\n");
}

#[test]
fn no_timeout_ends_the_wait_for_the_first_session_while_input_may_come() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let mut idle = Process::spawn(pair.master.send(&["--spool", "idle", "--timeout", "1", LINK]));
    let mut busy = Process::spawn(pair.master.send(&spooled(&["--timeout", "1"])));
    idle.wait_for("meanwhile, input waits in the spool");
    busy.write("one\n");
    busy.wait_for("meanwhile, input waits in the spool");
    // Not a wait for anything: the time that the runs would have had.
    thread::sleep(Duration::from_millis(1500));
    assert!(busy.is_running());
    busy.wait().failed(&[75], &["no session", "left in the spool"]);
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    idle.write("two\n");
    idle.close_stdin();
    idle.wait().succeeded();
    receiver.wait_for_stdout(b"two\n");
    receiver.stop().succeeded();
}

/// Runs of sts-send that read one input, each from where the previous one stopped reading.
pub(crate) struct Fed {
    path: PathBuf,
    pub(crate) input: Vec<u8>,
    pub(crate) at: usize,
    /// What each run read.
    parts: Vec<(usize, usize)>,
}

impl Fed {
    pub(crate) fn new(pair: &Pair, input: Vec<u8>) -> Self {
        let path = pair.master.path().join("input");
        fs::write(&path, &input).unwrap();
        Self { path, input, at: 0, parts: Vec::new() }
    }

    /// One run with at most `most` bytes of input; calls `during` while it runs.
    pub(crate) fn run(&mut self, mut command: Command, most: usize, during: impl FnOnce(&Process)) -> Ended {
        fs::write(&self.path, &self.input[self.at..self.input.len().min(self.at.saturating_add(most))]).unwrap();
        let file = File::open(&self.path).unwrap();
        command.stdin(file.try_clone().unwrap()).stdout(Stdio::null()).stderr(Stdio::piped());
        let sender = Process::started(command);
        during(&sender);
        let ended = sender.wait();
        let read = usize::try_from(seek(&file, SeekFrom::Current(0)).unwrap()).unwrap();
        self.parts.push((self.at, self.at + read));
        self.at += read;
        ended
    }

    /// Fails if anything in `got` is missing or duplicated, apart from what each run had read but not yet written to the
    /// spool: at most one read, of `one_read` bytes.
    pub(crate) fn arrived(&self, got: &[u8], one_read: usize) {
        // The places in the output at which each run's part may end.
        let mut ends = BTreeSet::from([0]);
        for (run, (from, to)) in self.parts.iter().enumerate() {
            let part = &self.input[*from..*to];
            let least = part.len().saturating_sub(one_read);
            let reached = |start: &usize| {
                let same = part.iter().zip(&got[*start..]).take_while(|(a, b)| a == b).count();
                *start + least..*start + same + 1
            };
            let next: BTreeSet<usize> = ends.iter().flat_map(reached).collect();
            let place = ends.first().zip(ends.last());
            assert!(!next.is_empty(), "run {run}, bytes {from}-{to}: not what arrived at {place:?} of {}", got.len());
            ends = next;
        }
        assert!(ends.contains(&got.len()), "{} bytes arrived, not one of {:?}", got.len(), ends.last());
    }
}

/// What arrived before a last line, which is sent without the spool.
fn all_of(receiver: Process, pair: &Pair) -> Vec<u8> {
    let last = b"the end\n";
    pair.master.send_all(&[], &last[..]).succeeded();
    wait_until("all of it to arrive", || receiver.stdout().ends_with(last));
    let ended = receiver.stop();
    // A run that was killed right after it reserved its stream number left a stream without messages, and nothing was lost
    // with it.
    assert!(!ended.stderr.contains(" lost"), "{}", ended.stderr);
    ended.stdout[..ended.stdout.len() - last.len()].to_vec()
}

/// Longest message, and so the most that is read at once.
const MESSAGE: usize = 4000;

/// Kills sts-send at longer and longer intervals while it is busy.
fn killed_at_any_instant(args: &[&str]) {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut fed = Fed::new(&pair, readings(60_000));
    let send = || pair.master.send(&spooled(&[args, &["-o", "max_message=4000"]].concat()));
    let mut kills = 0;
    for run in 1..30u64 {
        let ended = fed.run(send(), usize::MAX, |sender| {
            // From the very start, through reading, sealing, publishing, acknowledging and removing.
            thread::sleep(Duration::from_micros(run * run * 271 + 2000));
            sender.signal(Signal::KILL);
        });
        kills += u32::from(ended.status == 128 + 9);
        // Messages that were sealed under a session that retires meanwhile still belong to that session.
        if run % 7 == 0 {
            pair.agree();
        }
    }
    assert!(kills > 10, "{kills}");
    fed.run(send(), usize::MAX, |_| ()).succeeded();
    assert_eq!(fed.at, fed.input.len());
    fed.arrived(&all_of(receiver, &pair), MESSAGE);
}

#[test]
fn killed_at_any_instant_with_confirms() {
    killed_at_any_instant(&[CONFIRM]);
}

#[test]
fn killed_at_any_instant_without_confirms() {
    killed_at_any_instant(&[]);
    killed_at_any_instant(&["--each", "-o", "qos=2"]);
}

/// Kills sts-send before the first, the second, the third of each system call by which it changes anything: either a run
/// that sends, or one `beside` another run that sends.
fn killed_at_each_step(args: &[&str], suite: &str, beside: bool) {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, suite);
    let receiver = pair.slave.listen(&[]);
    let sniffer = Sniffer::start(&broker);
    let mut fed = Fed::new(&pair, readings(3000));
    let mut kills = 0;
    let sender = beside.then(|| Process::spawn(pair.master.send(&spooled(args))));
    wait_until("the other run to send", || !beside || pair.master.path().join("spool/bell").exists());
    for call in [
        "flock",
        "write",
        "pwrite64",
        "fdatasync",
        "fsync",
        "renameat,renameat2",
        "unlinkat",
        "sendto",
        "recvfrom",
        "ppoll",
    ] {
        for when in 1..40 {
            let inject = format!("inject={call}:signal=SIGKILL:when={when}");
            let trace = ["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject].map(str::to_owned);
            let send = pair.master.send(&spooled(args));
            let mut traced = Command::new("strace");
            traced.args(trace).arg(send.get_program()).args(send.get_args()).current_dir(pair.master.path());
            for (name, value) in send.get_envs() {
                match value {
                    Some(value) => traced.env(name, value),
                    None => traced.env_remove(name),
                };
            }
            let ended = fed.run(traced, 222, |_| ());
            if ended.status == if beside { 75 } else { 0 } {
                break;
            }
            assert_eq!(ended.status, 128 + 9, "{}", ended.stderr);
            kills += 1;
        }
    }
    assert!(kills > 10, "{kills}");
    fed.run(pair.master.send(&spooled(args)), 222, |_| ()).failed(&[if beside { 75 } else { 0 }], &[]);
    if let Some(sender) = sender {
        sender.wait().succeeded();
    }
    fed.arrived(&all_of(receiver, &pair), 222);
    // The header leads to key and nonce: what is sent again is the same message, to its last byte.
    let mut messages: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for seen in sniffer.seen().into_iter().filter(|seen| seen.topic == M2S && suite == "gcm") {
        let known = messages.insert(seen.payload[..20].to_vec(), seen.payload.clone());
        assert!(known.is_none_or(|known| known == seen.payload), "one nonce for two messages");
    }
    assert!(messages.len() > 100 || suite != "gcm", "hardly anything was seen");
}

#[test]
fn killed_at_each_step_with_confirms() {
    killed_at_each_step(&[CONFIRM, "--each"], "gcm", false);
}

#[test]
fn killed_at_each_step_without_confirms() {
    killed_at_each_step(&["--each"], "cbc", false);
}

#[test]
fn killed_at_each_step_beside_a_run_that_sends() {
    killed_at_each_step(&["--each"], "cbc", true);
}

#[test]
fn a_broker_that_forgets_everything_loses_nothing() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let input = readings(60_000);
    let args = spooled(&[CONFIRM, "-o", "max_message=4000"]);
    let mut sender = Process::spawn_with(pair.master.send(&args), input.clone());
    for part in 1..=5 {
        let enough = input.len() / 7 * part;
        wait_until("a part to arrive", || receiver.stdout().len() >= enough || !sender.is_running());
        broker.kill();
        broker.start_again();
    }
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&input);
}

#[test]
fn a_full_disk_is_waited_for() {
    let mut broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let spool = pair.master.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        // Without namespaces there is no small disk to test with.
        return;
    }
    broker.stop();
    let tool = pair.master.send(&spooled(&[CONFIRM, "-o", "max_message=4000"]));
    let mut command = Command::new("unshare");
    let script = r#"mount -t tmpfs -o size=300k,mode=700 sts "$0" && exec "$@""#;
    command.args(["-rm", "sh", "-c", script]).arg(&spool).arg(tool.get_program()).args(tool.get_args());
    command.current_dir(pair.master.path());
    command.env("STS_CONFIG_DIR", pair.master.config_dir()).env("STS_RUNTIME_DIR", pair.master.runtime_dir());
    let sender = Process::spawn_with(command, readings(20_000));
    sender.wait_for("the disk is full");
    sender.wait_until_blocked();
    broker.start_again();
    let sent = sender.wait().succeeded();
    assert!(sent.stderr.contains("space on the disk again"), "{}", sent.stderr);
    receiver.wait().succeeded().wrote(&readings(20_000));
}

/// As in a device with a few blocks of memory for it: what is read at once is longer than all of the disk.
#[test]
fn a_disk_that_is_smaller_than_a_message_takes_shorter_ones() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let spool = pair.master.path().join("spool");
    fs::create_dir(&spool).unwrap();
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        // Without namespaces there is no small disk to test with.
        return;
    }
    for options in [&[][..], &["--each"], &["--binary"]] {
        let receiver = pair.slave.listen(&["--once"]);
        let tool = pair.master.send(&spooled(options));
        let mut command = Command::new("unshare");
        let script = r#"mount -t tmpfs -o size=64k,mode=700 sts "$0" && exec "$@""#;
        command.args(["-rm", "sh", "-c", script]).arg(&spool).arg(tool.get_program()).args(tool.get_args());
        command.current_dir(pair.master.path());
        command.env("STS_CONFIG_DIR", pair.master.config_dir()).env("STS_RUNTIME_DIR", pair.master.runtime_dir());
        // The first line is longer than half of what is read at once.
        let line = |len: usize| [&vec![b'x'; len - 1][..], b"\n"].concat();
        let input = [line(38_000), line(20_000), readings(1_000)].concat();
        Process::spawn_with(command, input.clone()).wait().succeeded();
        receiver.wait().succeeded().wrote(&input);
    }
}

/// Runs sts-send with an empty spool, which an earlier run made if `made`, on a disk of its own that is full until a file
/// `room` exists; `None` if there are no namespaces, and so no disk.
fn on_a_full_disk(pair: &Pair, args: &[&str], made: bool) -> Option<Process> {
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return None;
    }
    let spool = pair.master.path().join("spool");
    fs::create_dir_all(&spool).unwrap();
    let tool = pair.master.send(&spooled(args));
    let script = r#"
        mount -t tmpfs -o size=200k,mode=700 sts "$0" || exit 99
        if $MADE; then "$@" </dev/null || exit 99; fi
        cat /dev/zero >"$0/filler" 2>/dev/null
        (while kill -0 $$ && ! test -e room; do sleep 0.05; done; rm "$0/filler") </dev/null >/dev/null 2>&1 &
        exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script]).arg(&spool).arg(tool.get_program()).args(tool.get_args());
    command.current_dir(pair.master.path());
    command.env("STS_CONFIG_DIR", pair.master.config_dir()).env("STS_RUNTIME_DIR", pair.master.runtime_dir());
    command.env("MADE", made.to_string());
    Some(Process::spawn(command))
}

#[test]
fn a_disk_that_is_full_from_the_start_is_waited_for() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let room = pair.master.path().join("room");
    let lost = ["4 bytes not written to the spool, since the disk is full"];
    for (args, signal) in [(&["--timeout", "1"][..], None), (&[], Some(Signal::TERM)), (&[], None)] {
        let Some(mut sender) = on_a_full_disk(&pair, args, true) else { return };
        sender.write("one\n");
        sender.wait_for("the disk is full");
        match signal {
            Some(signal) => sender.signal(signal),
            None if args.is_empty() => fs::write(&room, "").unwrap(),
            None => {}
        }
        if !room.exists() {
            let ended = sender.wait().failed(&[65], &lost);
            assert_eq!(ended.stderr.matches("disk is full; waiting").count(), 1, "{}", ended.stderr);
            continue;
        }
        sender.wait_for("space on the disk again");
        sender.close_stdin();
        sender.wait().succeeded();
    }
    receiver.wait_for_stdout(b"one\n");
    receiver.stop().succeeded().wrote(b"one\n");
}

/// Unlike with a full disk, waiting does not help against such a limit.
#[test]
fn a_limit_on_the_size_of_files_ends_a_run_and_is_named() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let tool = pair.master.send(&spooled(&["-o", "port=1"]));
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -f 32; exec "$0" "$@""#]).arg(tool.get_program()).args(tool.get_args());
    command.current_dir(pair.master.path());
    command.env("STS_CONFIG_DIR", pair.master.config_dir()).env("STS_RUNTIME_DIR", pair.master.runtime_dir());
    let ended = Process::spawn_with(command, readings(20_000)).wait();
    ended.failed(
        &[65],
        &[
            "cannot write",
            "File too large",
            "not written to the spool, since the spool cannot be written",
            "hint: ",
            "ulimit -f",
        ],
    );
}

/// The disk has no room even for an empty spool.
#[test]
fn a_spool_on_a_disk_that_is_full_already_is_waited_for() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    for (args, signal) in [(&["--timeout", "1"][..], None), (&[], Some(Signal::TERM)), (&[], None)] {
        let Some(mut sender) = on_a_full_disk(&pair, args, false) else { return };
        sender.write("one\n");
        sender.wait_for("the disk is full; waiting for space to make the spool");
        match signal {
            Some(signal) => sender.signal(signal),
            None if args.is_empty() => fs::write(pair.master.path().join("room"), "").unwrap(),
            None => {}
        }
        if signal.is_some() || !args.is_empty() {
            // Standard input was not read.
            let ended = sender.wait().failed(&[75], &["the disk is full; nothing was lost"]);
            assert_eq!(ended.stderr.matches("disk is full; waiting").count(), 1, "{}", ended.stderr);
            continue;
        }
        sender.wait_for("space on the disk again");
        sender.close_stdin();
        sender.wait().succeeded();
    }
    receiver.wait_for_stdout(b"one\n");
    receiver.stop().succeeded().wrote(b"one\n");
}

#[test]
fn a_full_spool_slows_the_writer_down_and_memory_stays_bounded() {
    let mut broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    broker.stop();
    let input = readings(40_000);
    let max = 2 << 20;
    let args = ["--spool-max", "2M", CONFIRM, "--each"];
    let sender = Process::spawn_with(pair.master.send(&spooled(&args)), input.clone());
    sender.wait_until_blocked();
    let spool = pair.master.path().join("spool");
    assert!((max / 2..=max + (1 << 20)).contains(&waiting(&spool)), "{}", waiting(&spool));
    assert!(sender.memory() < 24 << 20, "{} bytes", sender.memory());
    broker.start_again();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&input);
    assert_eq!(waiting(&spool), 0);
}

#[test]
fn a_spool_has_one_link_and_one_way_to_confirm() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&spooled(&[])));
    sender.write("mine\n");
    receiver.wait_for_stdout(b"mine\n");
    sender.close_stdin();
    sender.wait().succeeded();
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null"];
    pair.master.send_all(&[&SPOOL[..], &plain].concat(), "plain\n").failed(&[78], &["belongs to another"]);
    pair.master.send_all(&[&SPOOL[..], &["--spool-max", "1k"]].concat(), "").failed(&[64], &["--spool-max"]);
    pair.master.send_all(&["--spool-max", "1M"], "").failed(&[64], &["--spool"]);
    receiver.stop();
    let nobody = [&SPOOL[..], &[CONFIRM, "--timeout", "1"]].concat();
    pair.master.send_all(&nobody, "waits\n").failed(&[75], &["left in the spool"]);
    pair.master.send_all(&SPOOL, "").failed(&[64], &["--confirm"]);
    fs::set_permissions(pair.master.path().join("spool"), fs::Permissions::from_mode(0o750)).unwrap();
    pair.master.send_all(&nobody, "").failed(&[77], &["chmod 700"]);
}

#[test]
fn what_is_too_long_for_the_broker_is_cut_anew_once_max_message_is_lower() {
    let options = Options { max_packet_size: Some(5000), queue: Queue::Unlimited, ..Options::default() };
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null"];
    // Without encryption, a receiver treats each message as a line, unless -b is given.
    let bytes = [&plain[..], &["-b"]].concat();
    for (args, spool) in [(&["--each"][..], "gcm"), (&["--each", CONFIRM], "confirm"), (&bytes, "plain")] {
        let broker = Broker::with(options);
        let pair = Pair::paired(&broker, "gcm");
        let long = [&b"short\n"[..], &vec![b'x'; 9000], b"\n"].concat();
        let send = |more: &[&str], input: &[u8]| {
            let args = [&["--spool", spool], args, more].concat();
            pair.master.send_all(&args, input)
        };
        let receiver = pair.slave.listen(if spool == "plain" { &bytes } else { &[] });
        send(&[], &long).failed(&[75], &["did not accept a message", "left in the spool", "lower `max_message`"]);
        let ended = send(&["-o", "max_message=4000"], b"last\n").succeeded();
        assert!(
            ended.stderr.contains("cut into smaller ones") && ended.stderr.contains("possibly duplicated"),
            "{}",
            ended.stderr
        );
        receiver.wait_for_stdout(&[&long[..], b"last\n"].concat());
        receiver.stop();
    }
}

#[test]
fn a_quiet_run_says_nothing_of_an_outage_until_it_is_long() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    let quiet_for = |seconds: &str, input: &[u8]| {
        let args = [&SPOOL[..], &["-q", "--timeout", seconds, "--spool-max", "8k", "-o", "max_message=1000"]].concat();
        let ended = pair.master.send_all(&args, input);
        assert_eq!(ended.status, 75, "{}", ended.stderr);
        ended.stderr
    };
    let quiet = |input: &[u8]| quiet_for("1", input);
    let waiting = pair.master.path().join("spool/waiting");
    let older = |key: &str| {
        let text = fs::read_to_string(&waiting).unwrap();
        let aged = |line: &str| match line.split_once(" = ") {
            Some((name, time)) if name == key => format!("{key} = {}\n", time.parse::<u64>().unwrap() - 24 * 60 * 60),
            _ => format!("{line}\n"),
        };
        fs::write(&waiting, text.lines().map(aged).collect::<String>()).unwrap();
    };
    assert_eq!([quiet(b"one\n"), quiet(b"two\n")], ["", ""]);
    older("since");
    let said = quiet(b"three\n");
    assert!(said.contains("warning") && said.contains("3 messages (14 bytes)") && said.contains("a day"), "{said}");
    assert_eq!(quiet(b"four\n"), "", "once a day");
    older("warned");
    // All of it is to be read, on a busy machine, too.
    assert!(quiet_for("10", &readings(60)).contains("half full"));
    assert_eq!(quiet(b""), "");
    // Without -q, each run is reported.
    let loud = pair.master.send_all(&[&SPOOL[..], &["--timeout", "1"]].concat(), "");
    loud.failed(&[75], &["timed out", "left in the spool", "hint"]);
    broker.start_again();
    pair.master.send_all(&[&SPOOL[..], &["-q"]].concat(), "").succeeded();
    assert!(!waiting.exists());
    pair.master.lose_runtime_files();
    assert_eq!(quiet(b"without a session\n"), "");
}

#[test]
fn a_run_that_has_no_more_than_an_end_to_deliver_gives_up_in_time() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let waits = |more: &[&str]| pair.master.send_all(&[&SPOOL[..], &["--timeout", "1"], more].concat(), "");
    broker.stop();
    for more in [&[][..], &[CONFIRM]] {
        waits(more).succeeded();
    }
    broker.start_again();
    let receiver = pair.slave.listen(&["--once"]);
    pair.master.send_all(&SPOOL, "line\n").succeeded();
    receiver.wait().succeeded().wrote(b"line\n");
}

#[test]
fn a_signal_leaves_in_the_spool_what_cannot_be_delivered() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    for signals in 1..=2 {
        let mut sender = Process::spawn(pair.master.send(&spooled(&[])));
        let before = receiver.stdout();
        sender.write("before\n");
        receiver.wait_for_stdout(&[&before[..], b"before\n"].concat());
        sender.wait_until_acknowledged(7);
        broker.pause();
        sender.write("after\nhalf");
        sender.wait_until_read();
        sender.signal(Signal::TERM);
        sender.wait_for("stopping");
        if signals == 2 {
            sender.signal(Signal::TERM);
        }
        let what = if signals == 1 { "stopped by a signal" } else { "stopped by a second signal" };
        sender.wait().failed(&[75], &[what, "left in the spool", "2 messages (10 bytes)"]);
        broker.resume();
        pair.master.send_all(&SPOOL, "").succeeded();
        receiver.wait_for_stdout(&[&before[..], b"before\nafter\nhalf"].concat());
    }
    receiver.stop().wrote(b"before\nafter\nhalfbefore\nafter\nhalf");
}

#[test]
fn without_encryption_it_is_at_least_once() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null"];
    broker.stop();
    let args = [&SPOOL[..], &plain].concat();
    pair.master
        .send_all(&[&args[..], &["--timeout", "1"]].concat(), "one\ntwo\n")
        .failed(&[75], &["left in the spool"]);
    broker.start_again();
    let receiver = pair.slave.listen(&[&plain[..], &["-n", "3"]].concat());
    pair.master.send_all(&args, "three\n").succeeded();
    receiver.wait().succeeded().wrote(b"one\ntwo\nthree\n");
}

#[test]
fn a_write_that_a_power_cut_tore_is_cut_off() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    let waits = [&SPOOL[..], &["--each", "--timeout", "1"]].concat();
    pair.master.send_all(&waits, "one\ntwo\nthree\n").failed(&[75], &["3 messages"]);
    let files = fs::read_dir(pair.master.path().join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.into_iter().find(|path| path.file_name().unwrap().len() == 16).unwrap();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 3]).unwrap();
    broker.start_again();
    let receiver = pair.slave.listen(&["--once"]);
    let sent = pair.master.send_all(&SPOOL, "four\n").succeeded();
    assert!(sent.stderr.contains("unfinished write"), "{}", sent.stderr);
    receiver.wait().succeeded().wrote(b"one\ntwo\nfour\n");
}
