//! Claim: sts-send with a spool, sts-recv and the broker can each be killed with SIGKILL at any time and any number of
//! times; the output is the input, in order and once.
//!
//! This takes eight seconds by default; `STS_SOAK=60 cargo test --test end_to_end soak` takes a minute.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{LINK, Pair, readings};
use crate::process::Process;
use crate::spool::{Fed, spooled};

/// Longest message, and so the most that a killed sts-send had read but not yet written to its spool.
const MESSAGE: usize = 4000;
/// The most that a killed sts-recv had written but not recorded: one write to a pipe, and the message in which it ended.
const ONE_WRITE: usize = 65_536 + MESSAGE;

/// Sleeps for up to `most` milliseconds, more often few than many.
fn a_while(rng: &mut StdRng, most: f64) {
    let part = rng.random_range(0.0..1.0_f64).powi(2);
    thread::sleep(Duration::from_secs_f64(part * most / 1000.0));
}

/// Appends the output of one run of sts-recv to that of the runs before it. It may begin with bytes that are already there,
/// from the last write of a run that was killed; and if it was killed early itself, it may consist of nothing else.
fn put_behind(all: &mut Vec<u8>, output: &[u8]) {
    let fits = |at: &usize| all[*at..].starts_with(output) || output.starts_with(&all[*at..]);
    let at = (all.len().saturating_sub(ONE_WRITE)..=all.len()).find(fits).expect("its end has nothing to differ from");
    if all.len() - at < output.len() {
        all.truncate(at);
        all.extend_from_slice(output);
    }
}

#[test]
fn everything_is_killed_at_random() {
    let seconds = std::env::var("STS_SOAK").map_or(8, |seconds| seconds.parse().unwrap());
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let (stop_broker, stop_receiver) = (AtomicBool::new(false), AtomicBool::new(false));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut fed = Fed::new(&pair, readings(50_000 * usize::try_from(seconds).unwrap()));
    let (mut kills, mut most) = (0, 0);
    let got = thread::scope(|scope| {
        let brokers = scope.spawn(|| {
            let mut rng = StdRng::seed_from_u64(1);
            while !stop_broker.load(Ordering::Relaxed) {
                a_while(&mut rng, 2000.0);
                broker.kill();
                a_while(&mut rng, 300.0);
                broker.start_again();
            }
        });
        let receivers = scope.spawn(|| {
            let mut rng = StdRng::seed_from_u64(2);
            let mut all = Vec::new();
            while !stop_receiver.load(Ordering::Relaxed) {
                let mut command = pair.slave.recv(&[LINK]);
                command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
                let receiver = Process::started(command);
                a_while(&mut rng, 2500.0);
                receiver.signal(Signal::KILL);
                put_behind(&mut all, &receiver.wait().stdout);
            }
            let rest = Process::spawn(pair.slave.recv(&["--timeout", "3", LINK])).wait().succeeded();
            put_behind(&mut all, &rest.stdout);
            all
        });
        let mut rng = StdRng::seed_from_u64(3);
        let send = || pair.master.send(&spooled(&["--confirm", "-o", "max_message=4000"]));
        while Instant::now() < until && fed.at < fed.input.len() {
            let ended = fed.run(send(), usize::MAX, |sender| {
                a_while(&mut rng, 1500.0);
                most = most.max(sender.memory());
                sender.signal(Signal::KILL);
            });
            kills += u32::from(ended.status == 128 + 9);
        }
        stop_broker.store(true, Ordering::Relaxed);
        brokers.join().unwrap();
        fed.run(send(), usize::MAX, |_| ()).succeeded();
        stop_receiver.store(true, Ordering::Relaxed);
        receivers.join().unwrap()
    });
    assert_eq!(fed.at, fed.input.len());
    assert!(kills > 3, "{kills}");
    assert!(most < 32 << 20, "{most} bytes of memory");
    fed.arrived(&got, MESSAGE);
}
