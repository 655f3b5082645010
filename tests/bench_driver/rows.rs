//! The figures one by one: runs alternate with those that they are compared to, so that noise affects both alike.

use std::time::Duration;

use crate::at_once::Masters;
use crate::confirmed;
use crate::devices::Bench;
use crate::flow::{self, Input};
use crate::growth::{self, Extent};
use crate::latency::Way;
use crate::plot::{Chart, Series, Whose};
use crate::relay::{flood, relay};
use crate::report::{Bar, Report};
use crate::small::{self, OneShot};
use crate::stats::{Unit, median, percentile, real};
use crate::tls;
use crate::under_flood::{self, Forged};
use crate::{Result, say};

const MOSQUITTO: &str = "mosquitto";
/// Length of the broker's opaque payloads: that of the longest messages of sts-send.
const PAYLOAD: usize = 64 << 10;

/// How much to measure.
struct Amounts {
    runs: usize,
    /// Bytes of the long stream.
    long: u64,
    long_runs: usize,
    /// Bytes for each line length.
    sweep: u64,
    sweep_runs: usize,
    blocks: usize,
    lines_a_block: usize,
    starts: usize,
    pairings: usize,
    /// Masters that pair at once.
    masters: usize,
    flooded_pairings: usize,
    idle: Duration,
}

impl Amounts {
    fn new(quick: bool) -> Self {
        if quick {
            Self {
                runs: 3,
                long: 1 << 28,
                long_runs: 1,
                sweep: 16_000_000,
                sweep_runs: 1,
                blocks: 3,
                lines_a_block: 300,
                starts: 50,
                pairings: 5,
                masters: 32,
                flooded_pairings: 5,
                idle: Duration::from_secs(3),
            }
        } else {
            Self {
                runs: 7,
                long: 1_000_000_000,
                long_runs: 5,
                sweep: 64_000_000,
                sweep_runs: 3,
                blocks: 7,
                lines_a_block: 1000,
                starts: 300,
                pairings: 25,
                masters: 64,
                flooded_pairings: 10,
                idle: Duration::from_secs(10),
            }
        }
    }
}

/// Measures everything; returns the plots with the names of their files.
pub(crate) fn measure(bench: &Bench, quick: bool, report: &mut Report) -> Result<[(&'static str, Chart); 2]> {
    let amounts = Amounts::new(quick);
    lines(bench, &amounts, report)?;
    megabytes(bench, &amounts, report)?;
    each(bench, &amounts, report)?;
    confirmed::measure(bench, amounts.runs, report)?;
    let latency = latencies(bench, &amounts, report)?;
    one_shot(bench, &amounts, report)?;
    idle(bench, &amounts, report)?;
    over_tls(bench, &amounts, report)?;
    pairings(bench, &amounts, report)?;
    sizes(bench, report)?;
    cipher(report);
    report.tested(
        "of 1,000,000 lines: lost or repeated, with the broker killed 100 times",
        "tests/end_to_end/confirm.rs",
    );
    report.tested(
        "forged, altered, replayed or reflected messages accepted",
        "tests/end_to_end/eavesdropping.rs, src/stream/tests",
    );
    let throughput = sweep(bench, &amounts, report)?;
    growth::measure(bench, &Extent::new(quick), report)?;
    Ok([("throughput.svg", throughput), ("latency.svg", latency)])
}

fn lines(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    say("200,000 lines of 74 bytes, stdin to stdout");
    let input = Input::readings(200_000);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..amounts.runs {
        ours.push(flow::ours(bench, &[], &input)?.lines_per_second());
        peers.push(flow::mosquitto(bench, "0", &input)?.lines_per_second());
    }
    let peer = Some(("mosquitto_pub -l -q 0 to mosquitto_sub", &*peers));
    let what = "200,000 JSON lines, stdin to stdout, encrypted, QoS 1";
    report.row(what, Unit::LinesPerSecond, &ours, peer, Bar::Times(20.0));
    Ok(())
}

fn megabytes(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    let size = match amounts.long / 1_000_000 {
        1000 => "1 GB".to_owned(),
        megabytes => format!("{megabytes} MB"),
    };
    say(&format!("{size} of JSON lines, stdin to stdout"));
    let input = Input::readings(amounts.long / 74);
    let count = usize::try_from(amounts.long)? / PAYLOAD;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    let mut memory = [Vec::new(), Vec::new()];
    for _ in 0..amounts.long_runs {
        let flow = flow::ours(bench, &[], &input)?;
        ours.push(flow.bytes_per_second());
        for (peaks, peak) in memory.iter_mut().zip(flow.memory) {
            peaks.push(real(peak));
        }
        limit.push(real((count * PAYLOAD) as u64) / relay(bench.broker.port, count, PAYLOAD)?.as_secs_f64());
    }
    let peer = Some(("the broker, passing on opaque payloads of 64 KiB", &*limit));
    let what = format!("{size} of JSON lines, stdin to stdout, encrypted, QoS 1");
    report.row(&what, Unit::BytesPerSecond, &ours, peer, Bar::Times(0.5));
    for (tool, peaks) in ["sts-send", "sts-recv"].into_iter().zip(&memory) {
        // The limit is a promise never to exceed it, so the median would say nothing.
        let most = [percentile(peaks, 1.0)];
        let what = format!("resident memory of {tool}, {size} of JSON lines");
        report.row(&what, Unit::Bytes, &most, None, Bar::AtMost(16e6));
    }
    Ok(())
}

fn each(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    const LINES: u64 = 200_000;
    say("one message per line, QoS 0, sender only");
    let input = Input::readings(LINES);
    let [_, overhead] = small::overhead(bench)?;
    let sealed = usize::try_from(input.len() / LINES)? + overhead;
    let (mut ours, mut peers) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let mut limit = Vec::new();
    let rate = |time: Duration| real(LINES) / time.as_secs_f64();
    for _ in 0..amounts.runs {
        let own = flow::sender_alone(bench, &mut bench.send(&["--each", "-o", "qos=0"]), &input)?;
        let other = flow::sender_alone(bench, &mut bench.mosquitto_pub(&["-l", "-q", "0"]), &input)?;
        for (runs, alone) in [(&mut ours, own), (&mut peers, other)] {
            runs[0].push(rate(alone.processor));
            runs[1].push(rate(alone.took));
        }
        limit.push(rate(flood(bench.broker.port, usize::try_from(LINES)?, sealed)?));
    }
    let peer = |at: usize| ("mosquitto_pub -l", &*peers[at]);
    let what = "--each, QoS 0, lines per second of the sender's CPU time";
    report.row(what, Unit::LinesPerSecond, &ours[0], Some(peer(0)), Bar::Times(2.0));
    let what = "--each, QoS 0, until the broker has them";
    report.row(what, Unit::LinesPerSecond, &ours[1], Some(peer(1)), Bar::None);
    let broker = Some(("the most that the broker accepts", &*limit));
    report.row(&format!("{what}, against its limit"), Unit::LinesPerSecond, &ours[1], broker, Bar::None);
    Ok(())
}

fn latencies(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<Chart> {
    let parts = [0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999];
    let mut series = Vec::new();
    for qos in ["1", "0"] {
        say(&format!("one line at a time, QoS {qos}"));
        let mut ways = [Way::ours(bench, qos)?, Way::mosquitto(bench, qos)?];
        let mut blocks = [Vec::new(), Vec::new()];
        for _ in 0..amounts.blocks {
            for (way, blocks) in ways.iter_mut().zip(&mut blocks) {
                let block: Result<Vec<_>> =
                    (0..amounts.lines_a_block).map(|_| way.pass().map(|took| took.as_secs_f64())).collect();
                blocks.push(block?);
            }
        }
        for way in ways {
            way.end()?;
        }
        let [ours, peers] = &blocks;
        for (name, part) in [("median", 0.5), ("p99", 0.99)] {
            let of = |blocks: &[Vec<f64>]| blocks.iter().map(|block| percentile(block, part)).collect::<Vec<_>>();
            let peer = of(peers);
            let peer = Some(("mosquitto_pub -l to mosquitto_sub", &*peer));
            report.row(
                &format!("latency of a line, QoS {qos}: {name}"),
                Unit::Seconds,
                &of(ours),
                peer,
                Bar::AtMostTimes(1.2),
            );
        }
        for (who, whose, blocks) in [("sts", Whose::Ours, ours), (MOSQUITTO, Whose::Peers, peers)] {
            let all = blocks.concat();
            let points = parts.map(|part| (1.0 / (1.0 - part), percentile(&all, part) * 1e6)).to_vec();
            for (part, (_, micros)) in parts.iter().zip(&points) {
                let at = format!("QoS {qos}, {:.1} %", part * 100.0);
                report.runs("latency", &at, who, Unit::Seconds, &[micros / 1e6]);
            }
            series.push(Series { name: format!("{who}, QoS {qos}"), whose, dashed: qos == "0", points });
        }
    }
    let ticks = parts.map(|part| (1.0 / (1.0 - part), format!("{}", part * 100.0))).to_vec();
    let title = "Latency of a line, stdin to stdout: lower is better";
    Ok(Chart { title, x: "percentile", y: "microseconds", ticks, series })
}

fn one_shot(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    say("one line per process");
    let both = [OneShot::Ours, OneShot::Mosquitto];
    let (mut times, mut memory) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for turn in 0..amounts.starts {
        for (at, one) in both.iter().enumerate() {
            times[at].push(one.time(bench)?.as_secs_f64());
            // Reading its memory while it runs makes it slower, so these are separate runs.
            if turn % 2 == 0 {
                memory[at].push(real(one.memory(bench)?));
            }
        }
    }
    let [ours, peers] = &times;
    let peer = "mosquitto_pub -m hi";
    report.row("echo hi | sts-send: wall time", Unit::Seconds, ours, Some((peer, peers)), Bar::AtMostTimes(1.5));
    // On a busy machine, the last reading may come before the peak, so the largest value is the most accurate.
    let [ours, peers] = memory.map(|runs| [percentile(&runs, 1.0)]);
    report.row("echo hi | sts-send: resident memory", Unit::Bytes, &ours, Some((peer, &peers)), Bar::AtMostTimes(1.0));
    Ok(())
}

fn idle(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    let seconds = amounts.idle.as_secs();
    say(&format!("nothing to do, {seconds} s"));
    let [send, recv, publish, subscribe] = small::wake_ups(bench, amounts.idle)?.map(|count| [real(count)]);
    for (tool, ours, peer, peers) in
        [("sts-send", send, "mosquitto_pub -l", publish), ("sts-recv", recv, "mosquitto_sub", subscribe)]
    {
        let what = format!("wake-ups in {seconds} s with nothing to do: {tool}");
        report.row(&what, Unit::Count, &ours, Some((peer, &peers)), Bar::AtMost(0.0));
    }
    Ok(())
}

/// The same as over TCP, beside mosquitto's clients over TLS.
fn over_tls(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    let secure = &bench.over_tls();
    say("200,000 lines of 74 bytes over TLS");
    let input = Input::readings(200_000);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..amounts.runs {
        ours.push(flow::ours(secure, &[], &input)?.lines_per_second());
        peers.push(flow::mosquitto(secure, "0", &input)?.lines_per_second());
    }
    let peer = Some(("mosquitto_pub -l -q 0 to mosquitto_sub, TLS", &*peers));
    report.row("200,000 JSON lines over TLS, QoS 1", Unit::LinesPerSecond, &ours, peer, Bar::Times(20.0));

    say("one line at a time over TLS, QoS 1");
    let mut ways = [Way::ours(secure, "1")?, Way::mosquitto(secure, "1")?];
    let mut medians = [Vec::new(), Vec::new()];
    for _ in 0..amounts.blocks {
        for (way, medians) in ways.iter_mut().zip(&mut medians) {
            let block: Result<Vec<_>> =
                (0..amounts.lines_a_block).map(|_| way.pass().map(|took| took.as_secs_f64())).collect();
            medians.push(median(&block?));
        }
    }
    for way in ways {
        way.end()?;
    }
    let [ours, peers] = &medians;
    let peer = Some(("mosquitto_pub -l to mosquitto_sub, TLS", &**peers));
    report.row("latency of a line over TLS, QoS 1: median", Unit::Seconds, ours, peer, Bar::AtMostTimes(1.2));

    say("one line per process over TLS");
    let both = [OneShot::Ours, OneShot::Mosquitto];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..amounts.starts {
        for (one, times) in both.iter().zip(&mut times) {
            times.push(one.time(secure)?.as_secs_f64());
        }
    }
    let [ours, peers] = &times;
    let peer = Some(("mosquitto_pub -m hi, TLS", &**peers));
    report.row("echo hi | sts-send over TLS: wall time", Unit::Seconds, ours, peer, Bar::AtMostTimes(0.7));
    wire(bench, secure, report)
}

/// Lines of two bytes in one run, of which each is a message.
const LINES_ON_THE_WIRE: usize = 1000;

/// What a line costs on the wire.
fn wire(bench: &Bench, secure: &Bench, report: &mut Report) -> Result<()> {
    let one_shot = |bench, args, runs| tls::bytes_of_runs(bench, args, b"hi\n", runs);
    let [plain] = one_shot(bench, &[], 1)?[..] else { return Err("one run, one count".into()) };
    let [full, resumed] = one_shot(secure, &[], 2)?[..] else { return Err("two runs, two counts".into()) };
    for (what, bytes) in [("TCP", plain), ("TLS, full handshake", full), ("TLS, resumed", resumed)] {
        let what = format!("bytes in both directions of echo hi | sts-send: {what}");
        report.row(&what, Unit::Octets, &[real(bytes)], None, Bar::None);
    }
    // After the first message, an alias stands for the topic.
    let input = b"hi\n".repeat(LINES_ON_THE_WIRE);
    for (what, version) in [("MQTT 3.1.1", "mqtt_version=4"), ("MQTT 5, topic alias", "mqtt_version=5")] {
        let bytes = tls::bytes_of_runs(bench, &["--each", "-o", version], &input, 1)?;
        let per_line: Vec<_> = bytes.into_iter().map(|bytes| real(bytes) / real(LINES_ON_THE_WIRE as u64)).collect();
        let what = format!("bytes in both directions per line of sts-send --each: {what}");
        report.row(&what, Unit::Octets, &per_line, None, Bar::None);
    }
    Ok(())
}

/// Measures pairings, and nothing else.
pub(crate) fn measure_pairings(bench: &Bench, quick: bool, report: &mut Report) -> Result<()> {
    pairings(bench, &Amounts::new(quick), report)
}

fn pairings(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    pairing(bench, amounts, report)?;
    at_once(bench, amounts, report)?;
    under_flood(bench, amounts, report)
}

/// What a pairing costs a slave that serves a fleet.
fn at_once(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    let count = amounts.masters;
    say(&format!("{count} masters that pair at once"));
    let masters = Masters::new(bench, count)?;
    let took: Result<Vec<_>> = (0..amounts.runs).map(|_| masters.pair_all().map(|took| took.as_secs_f64())).collect();
    let what = format!("processor of sts-pair --serve per pairing, {count} at once");
    report.row(&what, Unit::Seconds, &took?, None, Bar::AtMost(0.0015));
    Ok(())
}

fn under_flood(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    for (forged, name) in Forged::all() {
        say(&format!("pairing under 10,000 forged {name} per second"));
        let took = under_flood::pairings(bench, forged, amounts.flooded_pairings)?;
        // The limit is a promise never to exceed it, so the median would say nothing.
        let most = [percentile(&took, 1.0)];
        let what = format!("pairing under 10,000 forged {name} per second");
        report.row(&what, Unit::Seconds, &most, None, Bar::AtMost(2.0));
    }
    Ok(())
}

fn pairing(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<()> {
    say("pairing");
    let took: Result<Vec<_>> = (0..amounts.pairings).map(|_| bench.pair().map(|took| took.as_secs_f64())).collect();
    report.row("pairing, both ends", Unit::Seconds, &took?, None, Bar::AtMost(0.060));
    Ok(())
}

fn sizes(bench: &Bench, report: &mut Report) -> Result<()> {
    for tool in ["sts-pair", "sts-send", "sts-recv"] {
        let size = [real(small::size(bench, tool)?)];
        report.row(&format!("executable: {tool}"), Unit::Bytes, &size, None, Bar::AtMost(3e6));
    }
    let [first, other] = small::overhead(bench)?.map(|bytes| [real(bytes as u64)]);
    report.row("overhead per message, gcm", Unit::Octets, &other, None, Bar::AtMost(37.0));
    // How six earlier runs ended, at most 128 streams before, takes 2 + 3 + 6 * 10 bytes.
    let of_first = "overhead of the first message of a run, gcm";
    report.row(of_first, Unit::Octets, &first, None, Bar::AtMost(37.0 + 65.0));
    Ok(())
}

fn cipher(report: &mut Report) {
    const RUNS: usize = 3;
    say("the cipher only");
    for (len, size) in [(64, "64 bytes"), (1024, "1 KiB"), (65_536, "64 KiB")] {
        let (mut ours, mut openssl) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ours.push(small::seal(len, Duration::from_secs(1)));
            openssl.extend(small::openssl(len));
        }
        let peer = (!openssl.is_empty()).then_some(("openssl speed", &openssl[..]));
        report.row(&format!("sealing on one core, {size} per message"), Unit::BytesPerSecond, &ours, peer, Bar::None);
    }
}

fn sweep(bench: &Bench, amounts: &Amounts, report: &mut Report) -> Result<Chart> {
    /// With more lines than this, mosquitto's clients only take longer; the figure does not change.
    const ENOUGH: u64 = 100_000;
    let lengths = [16, 64, 256, 1024, 4096, 16_384, 65_536_usize];
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for len in lengths {
        say(&format!("lines of {len} bytes"));
        let of_ours = Input::of_length(len, amounts.sweep);
        let of_peers = Input::of_length(len, amounts.sweep.min(ENOUGH * len as u64));
        let (mut own, mut others) = (Vec::new(), Vec::new());
        for _ in 0..amounts.sweep_runs {
            own.push(flow::ours(bench, &[], &of_ours)?.bytes_per_second());
            others.push(flow::mosquitto(bench, "0", &of_peers)?.bytes_per_second());
        }
        for (who, runs, points) in [("sts", &own, &mut ours), (MOSQUITTO, &others, &mut peers)] {
            report.runs("throughput", &format!("lines of {len} bytes"), who, Unit::BytesPerSecond, runs);
            points.push((real(len as u64), median(runs) / 1e6));
        }
    }
    let series = vec![
        Series { name: "sts, QoS 1".to_owned(), whose: Whose::Ours, dashed: false, points: ours },
        Series { name: "mosquitto, QoS 0".to_owned(), whose: Whose::Peers, dashed: false, points: peers },
    ];
    let name = |len: usize| if len < 1024 { format!("{len} B") } else { format!("{} KiB", len / 1024) };
    let ticks = lengths.map(|len| (real(len as u64), name(len))).to_vec();
    let title = "Throughput, stdin to stdout: higher is better";
    Ok(Chart { title, x: "length of a line", y: "MB/s", ticks, series })
}
