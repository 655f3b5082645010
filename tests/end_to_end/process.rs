//! A running tool. Its output is captured as it arrives, every wait has a deadline, and it is killed when dropped.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long any wait may take before the test fails: debug builds on a busy machine are slow.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

/// Returns once `condition` holds. If it does not hold by the deadline, fails the test and names `what` it waited for.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Captured,
    stderr: Captured,
    feeder: Option<JoinHandle<()>>,
}

/// How a tool ended: its exit status (128 + n for signal n), and all that it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts `command` with an open stdin, and captures its outputs.
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self::started(command)
    }

    /// Starts `command` with these bytes as the whole of its stdin.
    pub(crate) fn spawn_with(command: Command, input: impl Into<Vec<u8>>) -> Self {
        let input = input.into();
        let mut process = Self::spawn(command);
        let mut stdin = process.stdin.take().expect("stdin was just opened");
        // If the tool ends early, writing fails; the tool's exit status says more than that error.
        process.feeder = Some(thread::spawn(move || drop(stdin.write_all(&input))));
        process
    }

    /// Starts `command` with the stdio that it already has, and captures those outputs that are pipes.
    pub(crate) fn started(mut command: Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        Self {
            stdin: child.stdin.take(),
            stdout: child.stdout.take().map(Captured::from_reader).unwrap_or_default(),
            stderr: child.stderr.take().map(Captured::from_reader).unwrap_or_default(),
            name,
            child,
            feeder: None,
        }
    }

    /// Writes to the tool's stdin, which stays open.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stdin.as_mut().expect("stdin is open").write_all(bytes.as_ref()).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits until the tool has read all that was written to its stdin.
    pub(crate) fn wait_until_read(&self) {
        let stdin = self.stdin.as_ref().expect("stdin is open").as_fd();
        wait_until(&format!("{} to read its stdin", self.name), || rustix::io::ioctl_fionread(stdin).unwrap() == 0);
    }

    /// Waits until the tool has not read its input for a while: the pipe is full, and its processor time does not increase.
    pub(crate) fn wait_until_blocked(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        let ticks = || -> Vec<String> {
            let text = std::fs::read_to_string(&stat).unwrap();
            // proc(5): utime and stime are fields 14 and 15; field 2 may contain blanks, but ends with `)`.
            let fields = text.rsplit(')').next().expect("rsplit has a first part").split_whitespace();
            fields.skip(11).take(2).map(str::to_owned).collect()
        };
        let (mut last, mut since) = (ticks(), Instant::now());
        wait_until(&format!("{} to stop reading", self.name), || {
            let now = ticks();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_millis(500)
        });
        assert!(self.feeder.as_ref().is_some_and(|feeder| !feeder.is_finished()), "{} read everything", self.name);
    }

    /// Waits until this sts-send, which has published something already, knows of all these `bytes` that the broker has
    /// acknowledged them. A receiver may have them before.
    pub(crate) fn wait_until_acknowledged(&self, bytes: usize) {
        let said = format!("sts-send: {bytes}B, ");
        wait_until(&format!("{} to say {said:?}", self.name), || {
            self.signal(Signal::USR1);
            self.stderr().contains(&said)
        });
    }

    /// Resident memory in bytes, from proc(5).
    pub(crate) fn memory(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until `needle` is on stderr.
    pub(crate) fn wait_for(&self, needle: &str) {
        self.wait_for_times(needle, 1);
    }

    /// Waits until `needle` is on stderr at least `times` times.
    pub(crate) fn wait_for_times(&self, needle: &str, times: usize) {
        let found = self.poll(|process| process.stderr.text().matches(needle).count() >= times);
        assert!(found, "{}: no {needle:?} ({times} times) in:\n{}", self.name, self.stderr.text());
    }

    /// Waits until stdout begins with `expected`, and fails as soon as it differs.
    pub(crate) fn wait_for_stdout(&self, expected: &[u8]) {
        let arrived = self.poll(|process| {
            let stdout = process.stdout.bytes();
            assert_same(&stdout, &expected[..stdout.len().min(expected.len())], &process.stderr.text());
            stdout.len() >= expected.len()
        });
        let got = self.stdout.bytes().len();
        assert!(arrived, "{}: {got} of {} bytes, stderr:\n{}", self.name, expected.len(), self.stderr.text());
    }

    /// Waits until stdout is `expected`; false if the program has ended without that.
    pub(crate) fn says(&self, expected: &[u8]) -> bool {
        self.poll(|process| process.stdout.bytes() == expected)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What is on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// How many bytes are on stdout so far.
    pub(crate) fn written(&self) -> usize {
        self.stdout.bytes.lock().unwrap().len()
    }

    pub(crate) fn stdout(&self) -> Vec<u8> {
        self.stdout.bytes()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the tool to end by itself. After the deadline, kills it and fails the test with its stderr.
    pub(crate) fn wait(mut self) -> Ended {
        self.stdin = None;
        let deadline = Instant::now() + DEADLINE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "{}: did not end; stderr:\n{}", self.name, self.stderr.text());
            thread::sleep(Duration::from_millis(5));
        };
        self.stdout.finish();
        self.stderr.finish();
        if let Some(feeder) = self.feeder.take() {
            feeder.join().unwrap();
        }
        let status = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("it has ended");
        Ended { status, stdout: self.stdout.bytes(), stderr: self.stderr.text() }
    }

    /// Ends a tool that would otherwise run for ever, with SIGTERM.
    pub(crate) fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Whether `condition` held before the deadline; checks once more after the tool has ended.
    fn poll(&self, condition: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let finished = self.stdout.is_finished() && self.stderr.is_finished();
            if condition(self) {
                return true;
            }
            if finished || Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "stderr:\n{}", self.stderr);
        self
    }

    /// Checks that it ended with one of these statuses and that each of these texts is on stderr.
    #[track_caller]
    pub(crate) fn failed(self, statuses: &[i32], said: &[&str]) -> Self {
        assert!(statuses.contains(&self.status), "status {} not in {statuses:?}; {}", self.status, self.stderr);
        for text in said {
            assert!(self.stderr.contains(text), "no {text:?} in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn wrote(self, expected: &[u8]) -> Self {
        assert_same(&self.stdout, expected, &self.stderr);
        self
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("this tool writes text")
    }
}

/// Like `assert_eq`, without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(got: &[u8], expected: &[u8], stderr: &str) {
    if got != expected {
        let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let near = |bytes: &[u8]| bytes[at..bytes.len().min(at + 80)].escape_ascii().to_string();
        panic!(
            "{} bytes, not {}; first difference at {at}:\n got {}\nwant {}\nstderr:\n{stderr}",
            got.len(),
            expected.len(),
            near(got),
            near(expected)
        );
    }
}

/// The bytes of one of a tool's outputs so far, and the thread that reads it to its end.
#[derive(Default)]
struct Captured {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn from_reader(mut from: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { bytes, reader: Some(reader) }
    }

    fn bytes(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }

    fn is_finished(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}
