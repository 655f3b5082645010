//! What one more costs: one more peer, one more link, one more stream, one more message in flight.
//!
//! Each is measured at 1, 10, 100 and so on, up to ten thousand. Sums may grow with the number, never faster; what a
//! message costs may not grow at all.

use std::fs;
use std::time::Instant;

use bytes::{BufMut, Bytes};
use sts::session::Session;
use sts::stream::Sender;

use crate::devices::{Bench, Device, LINK};
use crate::fleet::Fleet;
use crate::flow::{self, Input, Sink};
use crate::process::{Running, filled, run, wait_until};
use crate::relay::Raw;
use crate::report::{Growth, Report};
use crate::stats::{Unit, real};
use crate::{Result, say};

/// Runs of what takes longer than some milliseconds.
const FEW: usize = 5;

/// Messages that come at once: few enough for a pipe and for a socket.
const TOGETHER: usize = 900;

/// How far, and how often.
pub(crate) struct Extent {
    counts: &'static [u32],
    /// Runs of what takes some milliseconds.
    runs: usize,
    /// Lines of which the cost of one is taken.
    lines: u64,
}

/// The runs of one figure at each number.
type Figure = Vec<(u32, Vec<f64>)>;

impl Extent {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            Self { counts: &[1, 10, 100, 1000], runs: 5, lines: 5000 }
        } else {
            Self { counts: &[1, 10, 100, 1000, 10_000], runs: 15, lines: 20_000 }
        }
    }
}

/// Measures all of it.
pub(crate) fn measure(bench: &Bench, extent: &Extent, report: &mut Report) -> Result<()> {
    peers(bench, extent, report)?;
    links(bench, extent, report)?;
    streams(bench, extent, report, "ended", "streams that ended")?;
    streams(bench, extent, report, "open", "streams left open")?;
    crate::in_flight::measure(bench, extent.counts, report)
}

/// Peers with a session on one link of the receiver.
fn peers(bench: &Bench, extent: &Extent, report: &mut Report) -> Result<()> {
    let [mut starts, mut memory, mut wall, mut processor, mut sends] = [const { Figure::new() }; 5];
    for &count in extent.counts {
        say(&format!("{count} peers"));
        let site = bench.elsewhere(&format!("peers-{count}"))?;
        Fleet::new(&site)?.devices(LINK, count)?;
        starts.push((count, start_times(&site, extent.runs)?));
        let flow = |_| flow::ours(&site, &["--each"], &Input::readings(extent.lines));
        let flows: Result<Vec<_>> = (0..FEW).map(flow).collect();
        wall.push((count, flows?.iter().map(|flow| flow.took.as_secs_f64() / real(flow.lines)).collect()));
        let (costs, peaks) = of_one_stream(&site)?;
        processor.push((count, costs));
        memory.push((count, peaks));
        let to_one = || site.tool(Device::Gateway, "sts-send", &["--to", "s0"]);
        sends.push((count, times(extent.runs, || run(to_one().stdin(filled(b"hi\n")?)))?));
        site.remove()?;
    }
    report.growth("peers: sts-recv starts", Unit::Seconds, &starts, Growth::Linear);
    report.growth("peers: sts-recv, resident", Unit::Bytes, &memory, Growth::Linear);
    report.growth("peers: a message of one of them", Unit::Seconds, &wall, Growth::Flat);
    report.growth("peers: the same, processor of sts-recv", Unit::Seconds, &processor, Growth::Flat);
    report.growth("peers: echo hi | sts-send --to one of them", Unit::Seconds, &sends, Growth::Linear);
    Ok(())
}

/// Links with a session each, in the same two directories.
fn links(bench: &Bench, extent: &Extent, report: &mut Report) -> Result<()> {
    let [mut sends, mut starts] = [const { Figure::new() }; 2];
    for &count in extent.counts {
        say(&format!("{count} links"));
        let site = bench.elsewhere(&format!("links-{count}"))?;
        let fleet = Fleet::new(&site)?;
        fleet.trust_each_other()?;
        fleet.link(LINK)?;
        for number in 1..count {
            fleet.link(&format!("link{number}"))?;
        }
        sends.push((count, times(extent.runs, || run(site.send(&[]).stdin(filled(b"hi\n")?)))?));
        starts.push((count, start_times(&site, extent.runs)?));
        site.remove()?;
    }
    report.growth("links: echo hi | sts-send on one of them", Unit::Seconds, &sends, Growth::Linear);
    report.growth("links: sts-recv starts on one of them", Unit::Seconds, &starts, Growth::Linear);
    Ok(())
}

/// Streams of one session, received before; past 1,024 that are open the receiver closes the longest idle.
fn streams(bench: &Bench, extent: &Extent, report: &mut Report, name: &str, what: &str) -> Result<()> {
    let site = bench.elsewhere(name)?;
    let fleet = Fleet::new(&site)?;
    fleet.trust_each_other()?;
    let session = fleet.link(LINK)?;
    let [mut sizes, mut starts, mut memory, mut news, mut processor] = [const { Figure::new() }; 5];
    let mut before = 0;
    for &count in extent.counts {
        say(&format!("{count} {what}"));
        let new = usize::try_from(count - before)?;
        let messages: Result<Vec<_>> = (0..new).map(|_| one_line(&fleet, &session, name == "ended")).collect();
        let mut costs = Vec::new();
        for messages in messages?.chunks(TOGETHER) {
            let mut raw = Raw::connect(site.broker.port)?;
            let (cost, _) = at_once(&site, messages.len(), || raw.publish(&session.topics.master_to_slave, messages))?;
            costs.push(cost);
        }
        // Only the last ones come when nearly so many were there before.
        news.push((count, costs.split_off(costs.len().saturating_sub(FEW))));
        before = count;

        starts.push((count, start_times(&site, extent.runs)?));
        let state = site.runtime_dir(Device::Gateway).join(format!("{LINK}@recv"));
        sizes.push((count, vec![real(fs::metadata(state)?.len())]));
        let (costs, peaks) = of_one_stream(&site)?;
        processor.push((count, costs));
        memory.push((count, peaks));
    }
    report.growth(&format!("{what}: receive state"), Unit::Octets, &sizes, Growth::Linear);
    report.growth(&format!("{what}: sts-recv starts"), Unit::Seconds, &starts, Growth::Linear);
    report.growth(&format!("{what}: sts-recv, resident"), Unit::Bytes, &memory, Growth::Linear);
    // Past 1,024 each new one closes another, of which a line on standard error tells.
    let growth = if name == "open" { Growth::FlatTo(1000) } else { Growth::Flat };
    report.growth(&format!("{what}: one more, processor of sts-recv"), Unit::Seconds, &news, growth);
    report.growth(&format!("{what}: a message, processor of sts-recv"), Unit::Seconds, &processor, Growth::Flat);
    site.remove()
}

/// The only message of a stream of its own, which it ends or leaves open.
fn one_line(fleet: &Fleet, session: &Session, ends: bool) -> Result<Bytes> {
    let cache = fleet.cache(Device::Station, LINK)?;
    let taken = cache.reserve_stream(&fleet.gateway(), &session.id)?;
    let mut sender = Sender::new(session, taken, rand::random(), 1 << 16)?;
    let mut buffer = sender.buffer(2);
    buffer.put_slice(b"x\n");
    let rng = &mut rand::rng();
    Ok(if ends { sender.end(buffer, rng)? } else { sender.data(buffer, rng)? })
}

/// From the start of sts-recv until it listens.
fn start_times(site: &Bench, runs: usize) -> Result<Vec<f64>> {
    let mut starts = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        let receiver: Running = site.listen(&[])?;
        starts.push(start.elapsed().as_secs_f64());
        receiver.terminate()?;
    }
    Ok(starts)
}

fn times(runs: usize, mut what: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    let time = |_| {
        let start = Instant::now();
        what().map(|()| start.elapsed().as_secs_f64())
    };
    (0..runs).map(time).collect()
}

/// The processor time of sts-recv for a message of a stream, and its memory, some times.
fn of_one_stream(site: &Bench) -> Result<(Vec<f64>, Vec<f64>)> {
    let lines = b"{\"device\":\"station-07\",\"celsius\":21.25}\n".repeat(TOGETHER);
    let one = |_| at_once(site, TOGETHER, || run(site.send(&["--each"]).stdin(filled(&lines)?)));
    (0..FEW).map(one).collect()
}

/// The processor time that sts-recv takes a message where `count` come at once, and its memory.
///
/// It stands still while `publish` brings them to the broker, which passes all of them on at QoS 0: else the scheduler
/// decides how many it finds each time it wakes up, and that decides what they cost.
fn at_once(site: &Bench, count: usize, publish: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let mut receiver = site.listen(&["-o", "qos=0"])?;
    let sink = Sink::read(receiver.stdout()?, Instant::now());
    receiver.stop(true)?;
    publish()?;
    let before = receiver.processor()?;
    receiver.stop(false)?;
    wait_until("every line", || Ok(sink.lines() == count as u64))?;
    let took = receiver.processor()?.saturating_sub(before);
    let memory = receiver.peak_memory().ok_or("sts-recv has ended")?;
    receiver.terminate()?;
    Ok((took.as_secs_f64() / real(count as u64), real(memory)))
}
