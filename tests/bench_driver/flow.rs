//! Lines from stdin to stdout as fast as possible, through sts-send and sts-recv and through mosquitto's clients.

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

/// If no line arrives for this long after the sender has exited, the rest is lost.
const QUIET: Duration = Duration::from_secs(1);

/// A number of equal lines.
#[derive(Clone)]
pub(crate) struct Input {
    /// Some lines, to be written repeatedly.
    block: Arc<Vec<u8>>,
    line: u64,
    pub(crate) lines: u64,
}

impl Input {
    /// JSON lines as a sensor prints them, 74 bytes each including the newline.
    pub(crate) fn readings(lines: u64) -> Self {
        let reading = r#"{"seq":            1,"device":"station-07","celsius":21.25,"humid":0.481}"#;
        Self::repeat(format!("{reading}\n").as_bytes(), lines)
    }

    /// About `bytes` bytes, in lines of `len` bytes including the newline.
    pub(crate) fn of_length(len: usize, bytes: u64) -> Self {
        let mut line = vec![b'x'; len];
        line[len - 1] = b'\n';
        Self::repeat(&line, (bytes / line.len() as u64).max(1))
    }

    fn repeat(line: &[u8], lines: u64) -> Self {
        Self { block: Arc::new(line.repeat((128 << 10) / line.len())), line: line.len() as u64, lines }
    }

    /// The total length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.line * self.lines
    }

    /// Writes all lines, then closes `stdin`.
    fn write(&self, mut stdin: ChildStdin) -> JoinHandle<()> {
        let input = self.clone();
        thread::spawn(move || {
            let mut left = usize::try_from(input.len()).expect("a file fits into memory's addresses");
            while left > 0 {
                let part = &input.block[..left.min(input.block.len())];
                // If the reader has exited, the number of lines that arrived will show it.
                if stdin.write_all(part).is_err() {
                    break;
                }
                left -= part.len();
            }
        })
    }
}

/// What arrived at the other end.
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    /// From the start of the sender to the last byte of the receiver's output.
    pub(crate) took: Duration,
    pub(crate) lines: u64,
    pub(crate) bytes: u64,
    /// Peak resident memory of each end, in bytes.
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

/// Counts what is read from a receiver's stdout.
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

    /// Waits until all of `input` has arrived, or until `sender` has exited and nothing has arrived for a while.
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

/// The number of newlines, summed in bytes first so that the compiler can vectorize it.
fn newlines(bytes: &[u8]) -> u64 {
    let count = |part: &[u8]| part.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    bytes.chunks(255).map(|part| u64::from(count(part))).sum()
}

/// Through sts-send with these options and sts-recv; everything must arrive.
pub(crate) fn ours(bench: &Bench, args: &[&str], input: &Input) -> Result<Flow> {
    bench.begin_anew()?;
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

/// Through `mosquitto_pub -l` and `mosquitto_sub`, which may lose lines.
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

/// What a sender needed for all of its input, without a subscriber.
pub(crate) struct Alone {
    /// From its start until the broker has everything.
    pub(crate) took: Duration,
    /// Its own CPU time, of all threads.
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
