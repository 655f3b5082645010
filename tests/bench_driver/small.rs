//! Costs of a single run: starting, memory, the executable, the overhead of a message, sealing, and waiting idle.

use std::fs;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use sts::crypto::cipher::{Cipher, HEADER_LEN};
use sts::secret::Key;
use sts::suite::Suite;

use crate::Result;
use crate::devices::{Bench, TOPIC};
use crate::process::{Running, filled, output, run};
use crate::relay::Raw;
use crate::stats::real;

/// `echo hi | sts-send`, or the mosquitto client that it is compared to.
pub(crate) enum OneShot {
    Ours,
    Mosquitto,
}

impl OneShot {
    fn command(&self, bench: &Bench) -> Result<Command> {
        let mut command = match self {
            Self::Ours => bench.send(&[]),
            Self::Mosquitto => bench.mosquitto_pub(&["-m", "hi"]),
        };
        command.stdin(filled(b"hi\n")?).stdout(Stdio::null());
        Ok(command)
    }

    /// The time from its start until it exits.
    pub(crate) fn time(&self, bench: &Bench) -> Result<Duration> {
        let mut command = self.command(bench)?;
        let start = Instant::now();
        run(&mut command)?;
        Ok(start.elapsed())
    }

    /// Its peak resident memory in bytes, read from its status repeatedly until it exits.
    pub(crate) fn memory(&self, bench: &Bench) -> Result<u64> {
        let mut process = Running::start(&mut self.command(bench)?)?;
        let mut peak = 0;
        while let Some(now) = process.peak_memory() {
            peak = now;
        }
        process.succeeds()?;
        Ok(peak)
    }
}

/// How often each of four idle programs wakes up in `during`: sts-send, sts-recv, `mosquitto_pub -l`, `mosquitto_sub`.
pub(crate) fn wake_ups(bench: &Bench, during: Duration) -> Result<[u64; 4]> {
    let idle = [
        Running::start(&mut bench.send(&[]))?,
        bench.listen(&[])?,
        Running::start(&mut bench.mosquitto_pub(&["-l"]))?,
        bench.mosquitto_sub(&[])?,
    ];
    thread::sleep(Duration::from_secs(1));
    let count = || idle.iter().map(Running::sleeps).collect::<Result<Vec<_>>>();
    let before = count()?;
    thread::sleep(during);
    let after = count()?;
    Ok(std::array::from_fn(|at| after[at] - before[at]))
}

/// Length in bytes of the executable `tool`, which the release profile strips.
pub(crate) fn size(bench: &Bench, tool: &str) -> Result<u64> {
    Ok(fs::metadata(bench.executable(tool))?.len())
}

/// How many bytes longer a message is than the line in it: the first one of a run, which tells how six earlier runs
/// ended, and any other one.
pub(crate) fn overhead(bench: &Bench) -> Result<[usize; 2]> {
    let line = b"a line that is sealed\n";
    // The stream that is told last is 48 before it.
    for _ in 0..48 {
        run(bench.send(&[]).stdin(filled(line)?))?;
    }
    let mut eavesdropper = Raw::connect(bench.broker.port)?;
    eavesdropper.subscribe(TOPIC)?;
    run(bench.send(&["--each"]).stdin(filled(&line.repeat(2))?))?;
    Ok([eavesdropper.receive()? - line.len(), eavesdropper.receive()? - line.len()])
}

/// Bytes per second that `gcm` seals on one core, in messages of `len` bytes.
pub(crate) fn seal(len: usize, during: Duration) -> f64 {
    let cipher = Cipher::new(Suite::Gcm, &Key::generate(Suite::Gcm.key_len(), |key| key.fill(7)));
    let mut message = BytesMut::zeroed(HEADER_LEN + len);
    message.reserve(HEADER_LEN);
    let mut rng = rand::rng();
    let start = Instant::now();
    let mut sealed = 0_u64;
    while start.elapsed() < during {
        for number in 0..64_u32 {
            message[HEADER_LEN - 4..HEADER_LEN].copy_from_slice(&number.to_be_bytes());
            cipher.seal(black_box(&mut message), &mut rng);
            message.truncate(HEADER_LEN + len);
            sealed += len as u64;
        }
    }
    real(sealed) / start.elapsed().as_secs_f64()
}

/// The same, measured by `openssl speed`; `None` if openssl is not installed.
pub(crate) fn openssl(len: usize) -> Option<f64> {
    let args = ["speed", "-elapsed", "-seconds", "1", "-bytes", &len.to_string(), "-evp", "aes-256-gcm"];
    let text = output(Command::new("openssl").args(args)).ok()?;
    let line = text.lines().find(|line| line.to_ascii_uppercase().starts_with("AES-256-GCM"))?;
    let thousands = line.split_whitespace().last()?.strip_suffix('k')?;
    thousands.parse::<f64>().ok().map(|thousands| thousands * 1000.0)
}
