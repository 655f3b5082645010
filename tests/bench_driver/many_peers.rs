//! A gateway with a hundred thousand devices, compared to the same gateway with one.

use std::time::Instant;

use crate::devices::{Bench, Device, LINK};
use crate::fleet::Fleet;
use crate::growth::{of_one_stream, start_times};
use crate::process::{Running, filled, run, wait_until};
use crate::report::{Bar, Report};
use crate::stats::{Unit, percentile};
use crate::{Result, say};

const DEVICES: u32 = 100_000;
const DEVICES_IF_QUICK: u32 = 10_000;
/// Runs of each figure. Those that are compared alternate.
const RUNS: u32 = 9;

/// A gateway with one device, and one with many.
struct Sites {
    one: Bench,
    many: Bench,
    count: u32,
}

/// Measures everything, with fewer devices if `quick`.
pub(crate) fn measure(bench: &Bench, quick: bool, report: &mut Report) -> Result<()> {
    let count = if quick { DEVICES_IF_QUICK } else { DEVICES };
    let sites = Sites { one: bench.elsewhere("one-peer")?, many: bench.elsewhere("many-peers")?, count };
    say(&format!("{count} devices"));
    Fleet::new(&sites.one)?.devices(LINK, 1)?;
    let fleet = Fleet::new(&sites.many)?;
    fleet.devices(LINK, count)?;
    sends(&sites, report)?;
    receives(&sites, report)?;
    status(&sites, report)?;
    changes(&sites, &fleet, report)?;
    sites.one.remove()?;
    sites.many.remove()
}

impl Sites {
    /// The times of both, measured alternately: those with many devices first.
    fn times(&self, mut what: impl FnMut(&Bench) -> Result<()>) -> Result<[Vec<f64>; 2]> {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            for (site, times) in [&self.many, &self.one].into_iter().zip(&mut times) {
                let start = Instant::now();
                what(site)?;
                times.push(start.elapsed().as_secs_f64());
            }
        }
        Ok(times)
    }

    fn named(&self, what: &str) -> String {
        format!("{} peers: {what}", self.count)
    }
}

fn sends(sites: &Sites, report: &mut Report) -> Result<()> {
    let send = |site: &Bench| run(site.tool(Device::Gateway, "sts-send", &["--to", "s0"]).stdin(filled(b"hi\n")?));
    // The first run reads all peers, and leaves an index of them to the others.
    let start = Instant::now();
    send(&sites.many)?;
    let first = [start.elapsed().as_secs_f64()];
    let [many, one] = sites.times(send)?;
    let what = sites.named("echo hi | sts-send --to one of them");
    report.row(&what, Unit::Seconds, &many, Some(("with 1 peer", &one)), Bar::AtMostTimes(1.5));
    report.row(&(what + ", first of all"), Unit::Seconds, &first, None, Bar::None);
    Ok(())
}

fn receives(sites: &Sites, report: &mut Report) -> Result<()> {
    let [many, one] = [&sites.many, &sites.one].map(|site| start_times(site, 5));
    let what = sites.named("sts-recv starts");
    report.row(&what, Unit::Seconds, &many?, Some(("with 1 peer", &one?)), Bar::AtMost(1.0));
    let (many, memory) = of_one_stream(&sites.many)?;
    let (one, memory_of_one) = of_one_stream(&sites.one)?;
    let what = sites.named("resident memory of sts-recv");
    report.row(&what, Unit::Bytes, &memory, Some(("with 1 peer", &memory_of_one)), Bar::AtMost(150e6));
    // The shortest of the runs: other load on the machine can only add to it.
    let [many, one] = [many, one].map(|runs| [percentile(&runs, 0.0)]);
    let what = sites.named("sts-recv receives a message, CPU time, least");
    report.row(&what, Unit::Seconds, &many, Some(("with 1 peer", &one)), Bar::AtMostTimes(1.3));
    Ok(())
}

fn status(sites: &Sites, report: &mut Report) -> Result<()> {
    let [many, one] = sites.times(|site| {
        let mut command = site.bare(Device::Gateway, "sts-pair");
        crate::process::output(command.args(["--status", "--json"])).map(drop)
    })?;
    let what = sites.named("sts-pair --status --json");
    report.row(&what, Unit::Seconds, &many, Some(("with 1 peer", &one)), Bar::AtMost(2.0));
    Ok(())
}

/// Keys that are trusted, then forgotten.
fn changes(sites: &Sites, fleet: &Fleet<'_>, report: &mut Report) -> Result<()> {
    let pair = |site: &Bench, args: &[&str], input: &[u8]| {
        let mut command = site.bare(Device::Gateway, "sts-pair");
        run(command.arg("-q").args(args).stdin(filled(input)?))
    };
    let keys: Result<Vec<_>> = (0..RUNS).map(|_| fleet.newcomer()).collect();
    let keys = keys?;
    let mut numbers = 0..;
    let [many, one] = sites.times(|site| {
        let number = numbers.next().unwrap_or_default();
        pair(site, &["--trust", &format!("new{}", number / 2)], keys[number / 2].as_bytes())
    })?;
    let what = sites.named("sts-pair --trust one more");
    report.row(&what, Unit::Seconds, &many, Some(("with 1 peer", &one)), Bar::AtMost(0.05));
    let mut numbers = 0..;
    let [many, one] = sites.times(|site| {
        let number = numbers.next().unwrap_or_default();
        pair(site, &["--forget", &format!("new{}", number / 2)], b"")
    })?;
    let what = sites.named("sts-pair --forget one");
    report.row(&what, Unit::Seconds, &many, Some(("with 1 peer", &one)), Bar::None);
    notices(sites, &keys, pair, report)
}

/// What a running sts-recv spends on noticing that a key was forgotten, before it receives the next message.
fn notices(
    sites: &Sites,
    keys: &[String],
    pair: impl Fn(&Bench, &[&str], &[u8]) -> Result<()>,
    report: &mut Report,
) -> Result<()> {
    let mut spent = [Vec::new(), Vec::new()];
    for (site, spent) in [&sites.many, &sites.one].into_iter().zip(&mut spent) {
        for key in keys.iter().take(3) {
            pair(site, &["--trust", "leaves"], key.as_bytes())?;
            let mut receiver: Running = site.listen(&[])?;
            let sink = crate::flow::Sink::read(receiver.stdout()?, Instant::now());
            let before = receiver.processor()?;
            pair(site, &["--forget", "leaves"], b"")?;
            run(site.send(&[]).stdin(filled(b"after\n")?))?;
            wait_until("the line", || Ok(sink.lines() == 1))?;
            spent.push(receiver.processor()?.saturating_sub(before).as_secs_f64());
            receiver.terminate()?;
        }
    }
    let [many, one] = spent;
    let what = sites.named("sts-recv notices a --forget, CPU time");
    report.row(&what, Unit::Seconds, &many, Some(("with 1 peer", &one)), Bar::AtMost(0.05));
    Ok(())
}
