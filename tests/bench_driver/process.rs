//! The programs that are measured: started, read, and ended in any case, by their process ids.

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{Result, say};

/// Time limit for anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Time limit for a step that [`say`] announces.
const LONGEST_STEP: Duration = Duration::from_secs(180);

/// What an interrupted benchmark has to clean up.
static REMAINS: Mutex<Remains> = Mutex::new(Remains { running: Vec::new(), dir: None });

struct Remains {
    running: Vec<Pid>,
    dir: Option<PathBuf>,
}

fn remains() -> MutexGuard<'static, Remains> {
    REMAINS.lock().expect("nobody panics while holding it")
}

/// From now on, a signal or a step that takes too long ends the benchmark and every process that it started, and
/// removes `dir`.
pub(crate) fn clean_up_on_signals(dir: PathBuf) -> Result<()> {
    let (mut received, sent) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, sent.try_clone()?)?;
    }
    received.set_read_timeout(Some(Duration::from_secs(1)))?;
    remains().dir = Some(dir);
    thread::spawn(move || {
        let mut waited = received.read_exact(&mut [0]);
        while waited.is_err() && crate::said_ago() < LONGEST_STEP {
            waited = received.read_exact(&mut [0]);
        }
        if waited.is_err() {
            say("bench: this step takes too long: giving up");
        }
        // Held until the process exits, so that no more processes are started.
        let remains = remains();
        for pid in &remains.running {
            let _ = kill_process(*pid, Signal::KILL);
        }
        if let Some(dir) = &remains.dir {
            let _ = fs::remove_dir_all(dir);
        }
        std::process::exit(if waited.is_ok() { 130 } else { 1 });
    });
    Ok(())
}

/// A running program; killed when dropped.
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    name: String,
    /// Reads the rest of stderr, after a line of it was waited for.
    listener: Option<JoinHandle<String>>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut remains = remains();
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let pid = Pid::from_child(&child);
        remains.running.push(pid);
        Ok(Self { child, pid, name, listener: None })
    }

    pub(crate) fn stdin(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().ok_or_else(|| format!("{}: no stdin", self.name).into())
    }

    pub(crate) fn stdout(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().ok_or_else(|| format!("{}: no stdout", self.name).into())
    }

    /// Waits until stderr, which must be piped, has a line with `needle`; a thread reads the rest.
    pub(crate) fn wait_for_stderr(&mut self, needle: &str) -> Result<()> {
        let mut stderr = self.child.stderr.take().ok_or("stderr is not piped")?;
        let mut text = String::new();
        let mut chunk = [0; 1024];
        while !text.contains(needle) {
            match stderr.read(&mut chunk)? {
                0 => return Err(format!("{} ended: {text}", self.name).into()),
                count => text.push_str(&String::from_utf8_lossy(&chunk[..count])),
            }
        }
        self.listener = Some(thread::spawn(move || {
            let mut rest = Vec::new();
            let _ = stderr.read_to_end(&mut rest);
            String::from_utf8_lossy(&rest).into_owned()
        }));
        Ok(())
    }

    /// Waits until it exits.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus> {
        self.wait_for_end();
        self.reap()
    }

    /// Whether it has exited.
    pub(crate) fn has_ended(&self) -> Result<bool> {
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(self.pid), how)?.is_some())
    }

    /// Waits until it exits, which must be with status 0.
    pub(crate) fn succeeds(&mut self) -> Result<()> {
        let status = self.wait()?;
        if status.success() {
            return Ok(());
        }
        let said = self.listener.take().and_then(|listener| listener.join().ok()).unwrap_or_default();
        Err(format!("{}: {status} {said}", self.name).into())
    }

    /// Ends it with SIGTERM, as a service manager does.
    pub(crate) fn terminate(mut self) -> Result<()> {
        kill_process(self.pid, Signal::TERM)?;
        self.wait().map(drop)
    }

    /// Its peak resident memory up to now, in bytes; `None` once it has exited.
    pub(crate) fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        kib.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
    }

    /// CPU time of its first thread up to now; also after it has exited, until it is waited for. No other thread of the
    /// tools does any work.
    pub(crate) fn processor(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.pid))?;
        let nanoseconds = text.split_whitespace().next().ok_or("no times in /proc")?;
        Ok(Duration::from_nanos(nanoseconds.parse()?))
    }

    /// CPU time of all its threads, including those that have ended; with a resolution of 10 ms.
    pub(crate) fn processor_of_all(&self) -> Result<Duration> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The fields after the name, which may contain anything; utime is the 14th field, proc(5).
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks = fields.map(str::parse::<u64>).sum::<std::result::Result<u64, _>>()?;
        Ok(Duration::from_millis(10 * ticks))
    }

    /// Waits until it exits, without reaping it.
    pub(crate) fn wait_for_end(&self) {
        // Until it is reaped, no other process gets its id.
        while waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            .is_err_and(|e| e == rustix::io::Errno::INTR)
        {}
    }

    /// Stops it, or continues it.
    pub(crate) fn stop(&self, stopped: bool) -> Result<()> {
        Ok(kill_process(self.pid, if stopped { Signal::STOP } else { Signal::CONT })?)
    }

    /// How often its threads have gone to sleep up to now, which is how often they were woken up.
    pub(crate) fn sleeps(&self) -> Result<u64> {
        let mut sleeps = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            sleeps += count.ok_or("no count of context switches in /proc")?.trim().parse::<u64>()?;
        }
        Ok(sleeps)
    }

    /// Removes its id from the list; from then on, another process may get the id.
    fn reap(&mut self) -> Result<ExitStatus> {
        let mut remains = remains();
        remains.running.retain(|pid| *pid != self.pid);
        Ok(self.child.wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // If it was reaped, its id may belong to another process.
        if remains().running.contains(&self.pid) {
            let _ = kill_process(self.pid, Signal::KILL);
            let _ = self.reap();
        }
    }
}

/// Runs a program, which must exit with status 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    Running::start(command)?.succeeds()
}

/// What a program prints on stdout and then on stderr; it must exit with status 0.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start {name}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Waits until `done` returns true.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            return Err(format!("timed out waiting for {what}").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// A stdin that already contains `input` and its end, so that the reader never waits.
pub(crate) fn filled(input: &[u8]) -> Result<Stdio> {
    let (read, write) = io::pipe()?;
    rustix::io::write(write.as_fd(), input)?;
    Ok(read.into())
}
