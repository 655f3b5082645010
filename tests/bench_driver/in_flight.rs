//! What one more message in flight costs: one that waits for its acknowledgement, or one that waits for its receiver.

use std::io::Write;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::devices::{Bench, Device, LINK};
use crate::fleet::Fleet;
use crate::flow::Sink;
use crate::process::{Running, wait_until};
use crate::report::{Growth, Report};
use crate::stats::{Unit, real};
use crate::{Result, say};

/// Short enough for ten thousand of them in the window of sts-send, 1 MiB.
const LINE: &[u8] = b"x\n";
const RUNS: usize = 7;
/// Longer than the last message that was read takes to be sealed.
const SETTLED: Duration = Duration::from_millis(50);

/// What one run found.
struct Found {
    /// Bytes, at most.
    memory: u64,
    wall: Duration,
    processor: Duration,
}

/// Measures both, at each of these numbers.
pub(crate) fn measure(bench: &Bench, counts: &[u32], report: &mut Report) -> Result<()> {
    let site = bench.elsewhere("in-flight")?;
    let fleet = Fleet::new(&site)?;
    fleet.trust_each_other()?;
    fleet.link(LINK)?;
    for (what, tool, run) in [
        ("unacknowledged", "sts-send", unacknowledged as fn(&Bench, usize) -> Result<Found>),
        ("queued by the broker", "sts-recv", queued),
    ] {
        let [mut memory, mut wall, mut processor] = [const { Vec::new() }; 3];
        for &count in counts.iter().filter(|count| what == "unacknowledged" || **count <= bench.broker.queue) {
            say(&format!("{count} messages {what}"));
            let found: Vec<Found> = (0..RUNS).map(|_| run(&site, usize::try_from(count)?)).collect::<Result<_>>()?;
            let each = |of: Duration| of.as_secs_f64() / f64::from(count);
            memory.push((count, found.iter().map(|found| real(found.memory)).collect()));
            wall.push((count, found.iter().map(|found| each(found.wall)).collect()));
            processor.push((count, found.iter().map(|found| each(found.processor)).collect()));
        }
        report.growth(&format!("{what}: {tool}, resident"), Unit::Bytes, &memory, Growth::Linear);
        report.growth(&format!("{what}: a message"), Unit::Seconds, &wall, Growth::Flat);
        report.growth(&format!("{what}: the same, processor of {tool}"), Unit::Seconds, &processor, Growth::Flat);
    }
    site.remove()
}

/// The broker stands still while sts-send reads `count` lines, and then takes and acknowledges all of them.
fn unacknowledged(site: &Bench, count: usize) -> Result<Found> {
    let mut sender = Running::start(site.send(&["-v", "--each"]).stdout(Stdio::null()).stderr(Stdio::piped()))?;
    sender.wait_for_stderr("connected to")?;
    let before = sender.processor()?;
    site.broker.stop(true)?;
    let mut stdin = sender.stdin()?;
    stdin.write_all(&LINE.repeat(count))?;
    wait_until("sts-send to read", || Ok(rustix::io::ioctl_fionread(&stdin)? == 0))?;
    thread::sleep(SETTLED);
    let memory = sender.peak_memory().ok_or("sts-send has ended without an acknowledgement")?;
    // Until here: how many acknowledgements one wake-up brings is the scheduler's doing.
    let processor = sender.processor()?.saturating_sub(before);
    drop(stdin);
    let start = Instant::now();
    site.broker.stop(false)?;
    sender.wait_for_end();
    let found = Found { memory, wall: start.elapsed(), processor };
    sender.succeeds()?;
    Ok(found)
}

/// `count` messages wait in the broker for a client that is away; then sts-recv starts, and takes all of them.
fn queued(site: &Bench, count: usize) -> Result<Found> {
    let client = ["-o", "clientid=in-flight"];
    site.listen(&client)?.terminate()?;
    let lines = LINE.repeat(count);
    let mut sender = Running::start(&mut site.send(&["--each"]))?;
    sender.stdin()?.write_all(&lines)?;
    sender.succeeds()?;
    let start = Instant::now();
    let mut receive = site.tool(Device::Gateway, "sts-recv", &[&client[..], &["--once"]].concat());
    let mut receiver = Running::start(&mut receive)?;
    let sink = Sink::read(receiver.stdout()?, start);
    let mut memory = 0;
    while !receiver.has_ended()? {
        memory = receiver.peak_memory().unwrap_or(memory);
        thread::sleep(Duration::from_micros(200));
    }
    let found = Found { memory, wall: start.elapsed(), processor: receiver.processor()? };
    receiver.succeeds()?;
    wait_until("every line", || Ok(sink.lines() == count as u64))?;
    Ok(found)
}
