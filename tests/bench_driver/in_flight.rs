//! How the cost grows with the number of messages that wait for their acknowledgement, or for their receiver.

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

/// Short enough for 10,000 of them to fit into sts-send's in-flight limit, 1 MiB.
const LINE: &[u8] = b"x\n";
const RUNS: usize = 7;
/// Longer than sts-send needs to seal the last message that it has read.
const SETTLED: Duration = Duration::from_millis(50);

/// The results of one run.
struct Found {
    /// Peak resident memory, in bytes.
    memory: u64,
    wall: Duration,
    processor: Duration,
}

/// Measures both at each of these numbers.
pub(crate) fn measure(bench: &Bench, counts: &[u32], report: &mut Report) -> Result<()> {
    let site = bench.elsewhere("in-flight")?;
    let fleet = Fleet::new(&site)?;
    fleet.trust_each_other()?;
    fleet.link(LINK)?;
    for (what, tool, run) in [
        ("messages unacknowledged", "sts-send", unacknowledged as fn(&Bench, usize) -> Result<Found>),
        ("messages queued for sts-recv", "sts-recv", queued),
    ] {
        let [mut memory, mut wall, mut processor] = [const { Vec::new() }; 3];
        for &count in counts.iter().filter(|count| tool == "sts-send" || **count <= bench.broker.queue.messages()) {
            say(&format!("{count} {what}"));
            let found: Vec<Found> = (0..RUNS).map(|_| run(&site, usize::try_from(count)?)).collect::<Result<_>>()?;
            let each = |of: Duration| of.as_secs_f64() / f64::from(count);
            memory.push((count, found.iter().map(|found| real(found.memory)).collect()));
            wall.push((count, found.iter().map(|found| each(found.wall)).collect()));
            processor.push((count, found.iter().map(|found| each(found.processor)).collect()));
        }
        report.growth(&format!("N {what}: resident memory of {tool}"), Unit::Bytes, &memory, Growth::Linear);
        report.growth(&format!("N {what}: wall time per message"), Unit::Seconds, &wall, Growth::Flat);
        let per_message = format!("N {what}: CPU time of {tool} per message");
        report.growth(&per_message, Unit::Seconds, &processor, Growth::Flat);
    }
    site.remove()
}

/// The broker is stopped while sts-send reads `count` lines; then it reads and acknowledges all of them.
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
    // Not later: the scheduler decides how many acknowledgements arrive per wake-up.
    let processor = sender.processor()?.saturating_sub(before);
    drop(stdin);
    let start = Instant::now();
    site.broker.stop(false)?;
    sender.wait_for_end();
    let found = Found { memory, wall: start.elapsed(), processor };
    sender.succeeds()?;
    Ok(found)
}

/// `count` messages are queued by the broker for sts-recv, which then starts and receives all of them.
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
    // Its exit status may be about what earlier rows sent to nobody.
    receiver.wait()?;
    wait_until("all lines", || Ok(sink.lines() == count as u64))?;
    Ok(found)
}
