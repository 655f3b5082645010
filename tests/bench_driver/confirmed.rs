//! What `--confirm` costs: with the broker of the other figures, and with one that queues 64 KiB and drops the rest.

use std::fs;

use crate::Result;
use crate::broker::{Broker, Queue};
use crate::devices::Bench;
use crate::flow::{self, Input};
use crate::report::{Bar, Report};
use crate::say;
use crate::stats::Unit;

const LINES: u64 = 200_000;

/// Measures each figure in so many runs.
pub(crate) fn measure(bench: &Bench, runs: usize, report: &mut Report) -> Result<()> {
    say("200,000 lines of 74 bytes with --confirm");
    let dir = bench.dir().join("small-queue");
    fs::create_dir_all(&dir)?;
    let small = bench.on(Broker::start(&dir, Queue::Small)?);
    let input = Input::readings(LINES);
    let (mut without, mut unlimited, mut limited) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        for (bench, args, took) in [
            (bench, &[][..], &mut without),
            (bench, &["--confirm"], &mut unlimited),
            (&small, &["--confirm"], &mut limited),
        ] {
            took.push(flow::ours(bench, args, &input)?.took.as_secs_f64());
        }
    }
    let peer = Some(("without --confirm", &*without));
    report.row("200,000 JSON lines with --confirm: time", Unit::Seconds, &unlimited, peer, Bar::None);
    let what = "200,000 JSON lines with --confirm, the broker queues 64 KiB: time";
    let peer = Some(("through the broker of the other figures", &*unlimited));
    report.row(what, Unit::Seconds, &limited, peer, Bar::AtMostTimes(3.0));
    Ok(())
}
