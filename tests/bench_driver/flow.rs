//! Lines from stdin to stdout, as fast as they go, through ours and through the peers.

use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Result;
use crate::devices::Bench;
use crate::process::Running;
use crate::stats::real;

/// After so long without a line the peers have delivered what they deliver.
const QUIET: Duration = Duration::from_secs(1);

/// Equal lines, so many of them.
#[derive(Clone)]
pub(crate) struct Input {
    /// Some lines, to be written again and again.
    block: Arc<Vec<u8>>,
    line: u64,
    pub(crate) lines: u64,
}

impl Input {
    /// JSON lines as a sensor writes them, 74 bytes each with their newline.
    pub(crate) fn readings(lines: u64) -> Self {
        let reading = r#"{"seq":            1,"device":"station-07","celsius":21.25,"humid":0.481}"#;
        Self::repeat(format!("{reading}\n").as_bytes(), lines)
    }

    /// About `bytes` bytes of lines of `len` bytes, newline included.
    pub(crate) fn of_length(len: usize, bytes: u64) -> Self {
        let mut line = vec![b'x'; len];
        line[len - 1] = b'\n';
        Self::repeat(&line, (bytes / line.len() as u64).max(1))
    }

    fn repeat(line: &[u8], lines: u64) -> Self {
        Self { block: Arc::new(line.repeat((128 << 10) / line.len())), line: line.len() as u64, lines }
    }

    /// All of it, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.line * self.lines
    }

    /// Writes all of it, and closes.
    fn write(&self, mut stdin: ChildStdin) -> JoinHandle<()> {
        let input = self.clone();
        thread::spawn(move || {
            let mut left = usize::try_from(input.len()).expect("a file fits into memory's addresses");
            while left > 0 {
                let part = &input.block[..left.min(input.block.len())];
                // A reader that has gone shows by what it delivered.
                if stdin.write_all(part).is_err() {
                    break;
                }
                left -= part.len();
            }
        })
    }
}

/// What came out at the other end.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    /// From the start of the sender to the last byte out of the receiver.
    pub(crate) took: Duration,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// The most that each end had resident, in bytes.
    pub(crate) memory: [u64; 2],
}

impl Flow {
    pub(crate) fn lines_per_second(&self) -> f64 {
        real(self.lines) / self.took.as_secs_f64()
    }

    pub(crate) fn bytes_per_second(&self) -> f64 {
        real(self.bytes) / self.took.as_secs_f64()
    }
}

/// What was read of a receiver's stdout.
pub(crate) struct Sink {
    counts: Arc<Counts>,
    start: Instant,
}

#[derive(Default)]
struct Counts {
    lines: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds from the start to the last read.
    last: AtomicU64,
}

impl Sink {
    pub(crate) fn read(mut stdout: ChildStdout, start: Instant) -> Self {
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                let at = u64::try_from(start.elapsed().as_nanos()).expect("580 years are enough");
                let lines = newlines(&buffer[..count]);
                shared.last.store(at, Ordering::Relaxed);
                shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
                shared.lines.fetch_add(lines, Ordering::Release);
            }
        });
        Self { counts, start }
    }

    pub(crate) fn lines(&self) -> u64 {
        self.counts.lines.load(Ordering::Acquire)
    }

    /// Watches until all of `input` came, or nothing has come for a while since `sender` ended.
    fn wait(&self, input: &Input, sender: &Running, receiver: &Running) -> Result<Flow> {
        let mut memory = [0; 2];
        let mut quiet = Instant::now();
        let mut before = 0;
        while self.counts.bytes.load(Ordering::Relaxed) < input.len() || self.lines() < input.lines {
            for (peak, process) in memory.iter_mut().zip([sender, receiver]) {
                *peak = process.peak_memory().unwrap_or(*peak);
            }
            let lines = self.lines();
            if lines != before || !sender.has_ended()? {
                (before, quiet) = (lines, Instant::now());
            } else if quiet.elapsed() > QUIET {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        for (peak, process) in memory.iter_mut().zip([sender, receiver]) {
            *peak = process.peak_memory().unwrap_or(*peak);
        }
        let took = Duration::from_nanos(self.counts.last.load(Ordering::Relaxed));
        let bytes = self.counts.bytes.load(Ordering::Relaxed);
        Ok(Flow { took, lines: self.lines(), bytes, memory })
    }
}

/// How many newlines there are, counted in bytes first: a sum that the compiler makes vectors of.
fn newlines(bytes: &[u8]) -> u64 {
    let count = |part: &[u8]| part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes.chunks(255).map(|part| u64::from(count(part))).sum()
}

/// Through sts-send, with these options, and sts-recv; everything must arrive.
pub(crate) fn ours(bench: &Bench, args: &[&str], input: &Input) -> Result<Flow> {
    let mut receiver = bench.listen(&["--once"])?;
    let stdout = receiver.stdout()?;
    let (flow, mut sender) = through(&mut bench.send(args), stdout, &receiver, input)?;
    sender.succeeds()?;
    receiver.succeeds()?;
    if (flow.lines, flow.bytes) != (input.lines, input.len()) {
        return Err(format!("{} of {} lines arrived", flow.lines, input.lines).into());
    }
    Ok(flow)
}

/// Through `mosquitto_pub -l` and `mosquitto_sub`; what arrives, arrives.
pub(crate) fn mosquitto(bench: &Bench, qos: &str, input: &Input) -> Result<Flow> {
    let mut receiver = bench.mosquitto_sub(&["-q", qos])?;
    let stdout = receiver.stdout()?;
    let (flow, mut sender) = through(&mut bench.mosquitto_pub(&["-l", "-q", qos]), stdout, &receiver, input)?;
    sender.wait()?;
    receiver.terminate()?;
    Ok(flow)
}

fn through(sender: &mut Command, stdout: ChildStdout, receiver: &Running, input: &Input) -> Result<(Flow, Running)> {
    let sink = Sink::read(stdout, Instant::now());
    let mut sender = Running::start(sender)?;
    let writer = input.write(sender.stdin()?);
    let mut flow = sink.wait(input, &sender, receiver)?;
    writer.join().map_err(|_| "the writer panicked")?;
    debug_assert!(flow.took <= sink.start.elapsed());
    if flow.lines == 0 {
        flow.took = Duration::MAX;
    }
    Ok((flow, sender))
}

/// What a sender took for all of its input, with nobody subscribed.
pub(crate) struct Alone {
    /// From its start until the broker had it.
    pub(crate) took: Duration,
    /// Of its own, all threads together.
    pub(crate) processor: Duration,
}

pub(crate) fn sender_alone(bench: &Bench, command: &mut Command, input: &Input) -> Result<Alone> {
    let start = Instant::now();
    let mut sender = Running::start(command.stdout(Stdio::null()))?;
    let writer = input.write(sender.stdin()?);
    sender.wait_for_end();
    let processor = sender.processor_of_all()?;
    sender.succeeds()?;
    bench.broker.wait_until_alone()?;
    let took = start.elapsed();
    writer.join().map_err(|_| "the writer panicked")?;
    Ok(Alone { took, processor })
}
