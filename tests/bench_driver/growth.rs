//! How the cost grows with the number of peers, links, streams and messages in flight.
//!
//! Each is measured at 1, 10, 100 and so on, up to 10,000. Totals may grow in proportion to the number, but not faster;
//! the cost of a message may not grow at all.

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

/// Runs of a measurement that takes more than a few milliseconds.
const FEW: usize = 5;

/// Messages that arrive at once: few enough to fit into a pipe and a socket.
const TOGETHER: usize = 900;

/// Up to which numbers to measure, and how often.
pub(crate) struct Extent {
    counts: &'static [u32],
    /// Runs of a measurement that takes a few milliseconds.
    runs: usize,
    /// Lines over which the cost of one is averaged.
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

/// Measures everything.
pub(crate) fn measure(bench: &Bench, extent: &Extent, report: &mut Report) -> Result<()> {
    peers(bench, extent, report)?;
    links(bench, extent, report)?;
    streams(bench, extent, report, "ended", "streams received before")?;
    streams(bench, extent, report, "open", "streams left open")?;
    crate::in_flight::measure(bench, extent.counts, report)
}

/// Peers that have a session on one link of the receiver.
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
    report.growth("N peers on a link: sts-recv starts", Unit::Seconds, &starts, Growth::Linear);
    report.growth("N peers on a link: resident memory of sts-recv", Unit::Bytes, &memory, Growth::Linear);
    report.growth("N peers on a link: a message from one of them, wall time", Unit::Seconds, &wall, Growth::Flat);
    let what = "N peers on a link: sts-recv receives a message from one of them, CPU time";
    report.growth(what, Unit::Seconds, &processor, Growth::Flat);
    report.growth("N peers on a link: echo hi | sts-send --to one of them", Unit::Seconds, &sends, Growth::Linear);
    Ok(())
}

/// Links that have a session each, in the same two directories.
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
    report.growth("N links: echo hi | sts-send on one of them", Unit::Seconds, &sends, Growth::Linear);
    report.growth("N links: sts-recv starts on one of them", Unit::Seconds, &starts, Growth::Linear);
    Ok(())
}

/// Streams of one session that were received before; if more than 1,024 are open, the receiver closes the longest idle.
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
        // Only the last ones arrive when there are nearly as many streams as are to be measured.
        news.push((count, costs.split_off(costs.len().saturating_sub(FEW))));
        before = count;

        starts.push((count, start_times(&site, extent.runs)?));
        let state = site.runtime_dir(Device::Gateway).join(format!("{LINK}@recv"));
        sizes.push((count, vec![real(fs::metadata(state)?.len())]));
        let (costs, peaks) = of_one_stream(&site)?;
        processor.push((count, costs));
        memory.push((count, peaks));
    }
    report.growth(&format!("N {what}: size of the receive state"), Unit::Octets, &sizes, Growth::Linear);
    report.growth(&format!("N {what}: sts-recv starts"), Unit::Seconds, &starts, Growth::Linear);
    report.growth(&format!("N {what}: resident memory of sts-recv"), Unit::Bytes, &memory, Growth::Linear);
    // Beyond 1,024, each new one closes another, which is reported on standard error.
    let growth = if name == "open" { Growth::FlatTo(1000) } else { Growth::Flat };
    report.growth(&format!("N {what}: sts-recv receives one more stream, CPU time"), Unit::Seconds, &news, growth);
    let per_message = format!("N {what}: sts-recv receives a message, CPU time");
    report.growth(&per_message, Unit::Seconds, &processor, Growth::Flat);
    site.remove()
}

/// The only message of a new stream, which it ends or leaves open.
fn one_line(fleet: &Fleet, session: &Session, ends: bool) -> Result<Bytes> {
    let cache = fleet.cache(Device::Station, LINK)?;
    let taken = cache.reserve_stream(&fleet.gateway(), &session.id)?;
    let mut sender = Sender::new(session, taken, rand::random(), 1 << 16)?;
    let mut buffer = sender.buffer(2);
    buffer.put_slice(b"x\n");
    let rng = &mut rand::rng();
    Ok(if ends { sender.end(buffer, rng)? } else { sender.data(buffer, rng)? })
}

/// Times from the start of sts-recv until it is subscribed.
pub(crate) fn start_times(site: &Bench, runs: usize) -> Result<Vec<f64>> {
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

/// CPU time of sts-recv per message of one stream, and its peak memory, in each of a few runs.
pub(crate) fn of_one_stream(site: &Bench) -> Result<(Vec<f64>, Vec<f64>)> {
    let lines = b"{\"device\":\"station-07\",\"celsius\":21.25}\n".repeat(TOGETHER);
    let one = |_| at_once(site, TOGETHER, || run(site.send(&["--each"]).stdin(filled(&lines)?)));
    (0..FEW).map(one).collect()
}

/// CPU time of sts-recv per message, if `count` arrive at once, and its peak memory.
///
/// It is stopped while `publish` sends them to the broker, which passes all of them on at QoS 0. Otherwise the cost
/// would depend on how many messages it finds at each wake-up, which the scheduler decides.
fn at_once(site: &Bench, count: usize, publish: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let mut receiver = site.listen(&["-o", "qos=0"])?;
    let sink = Sink::read(receiver.stdout()?, Instant::now());
    receiver.stop(true)?;
    publish()?;
    let before = receiver.processor()?;
    receiver.stop(false)?;
    wait_until("all lines", || Ok(sink.lines() == count as u64))?;
    let took = receiver.processor()?.saturating_sub(before);
    let memory = receiver.peak_memory().ok_or("sts-recv has ended")?;
    receiver.terminate()?;
    Ok((took.as_secs_f64() / real(count as u64), real(memory)))
}
