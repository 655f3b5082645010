//! One line at a time: written to the sender's stdin, then read from the receiver's stdout.

use std::io::{Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::time::{Duration, Instant};

use crate::Result;
use crate::devices::Bench;
use crate::process::Running;

/// Lines that are sent before the first one that is measured.
const WARM_UP: usize = 50;

/// A sender and a receiver, and the pipes to them.
pub(crate) struct Way {
    stdin: ChildStdin,
    stdout: ChildStdout,
    processes: [Running; 2],
    passed: u32,
}

impl Way {
    /// Through sts-send and sts-recv.
    pub(crate) fn ours(bench: &Bench, qos: &str) -> Result<Self> {
        let qos = ["-o", &format!("qos={qos}")];
        let receiver = bench.listen(&qos)?;
        Self::new(Running::start(&mut bench.send(&qos))?, receiver)
    }

    /// Through `mosquitto_pub -l` and `mosquitto_sub`.
    pub(crate) fn mosquitto(bench: &Bench, qos: &str) -> Result<Self> {
        let receiver = bench.mosquitto_sub(&["-q", qos])?;
        Self::new(Running::start(&mut bench.mosquitto_pub(&["-l", "-q", qos]))?, receiver)
    }

    fn new(mut sender: Running, mut receiver: Running) -> Result<Self> {
        let (stdin, stdout) = (sender.stdin()?, receiver.stdout()?);
        let mut way = Self { stdin, stdout, processes: [sender, receiver], passed: 0 };
        for _ in 0..WARM_UP {
            way.pass()?;
        }
        Ok(way)
    }

    /// Sends one line, and returns how long it took to arrive.
    pub(crate) fn pass(&mut self) -> Result<Duration> {
        // Each line is different, so that an older one that arrives late is not taken for this one.
        self.passed += 1;
        let line =
            format!("{{\"seq\":{:>13},\"device\":\"station-07\",\"celsius\":21.25,\"humid\":0.481}}\n", self.passed);
        let mut came = Vec::with_capacity(4 * line.len());
        let mut buffer = [0; 1024];
        let start = Instant::now();
        self.stdin.write_all(line.as_bytes())?;
        while came.len() < line.len() {
            match self.stdout.read(&mut buffer)? {
                0 => return Err("the receiver exited".into()),
                count => came.extend_from_slice(&buffer[..count]),
            }
        }
        let took = start.elapsed();
        if came != line.as_bytes() {
            let came = String::from_utf8_lossy(&came);
            return Err(format!("the receiver wrote a different line: {}", came.escape_debug()).into());
        }
        Ok(took)
    }

    /// Ends both programs.
    pub(crate) fn end(self) -> Result<()> {
        drop(self.stdin);
        let [mut sender, receiver] = self.processes;
        sender.succeeds()?;
        receiver.terminate()
    }
}
