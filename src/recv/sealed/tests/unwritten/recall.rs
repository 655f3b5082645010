//! Claim: what an earlier run left with the broker is not reported as lost before a run had the broker for long enough, whatever
//! ends that run; and what is lost is reported by the next one that has it for so long.

use super::*;

/// Less than a run waits for what an earlier one was told of, and more than one waits that is told itself.
const SHORT: Duration = Duration::from_secs(6);

/// A run with `--once` is over. It followed one stream, which told of two messages of another one. Returns these: the run
/// left them with the broker.
fn left_by_once(run: &mut Run<'_>) -> [bytes::Bytes; 2] {
    run.streams.received.admissions = Admissions::new(true);
    let mut left = run.sender(0);
    let messages = [(); 2].map(|()| message(&mut left));
    let mut teller = run.sender(1);
    teller.begin_with(Preamble { ended: vec![told(&left, 2, None)], ..Preamble::default() });
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    run.streams.close().unwrap();
    messages
}

/// The next run gets these messages, and writes them.
fn all_come(run: &mut Run<'_>, messages: &[bytes::Bytes]) {
    run.restart();
    for message in messages {
        let written = run.accept(message, false);
        assert_eq!(written.data, b"data"[..]);
        run.write(written);
    }
}

#[test]
fn a_run_that_never_reaches_the_broker_reports_nothing_of_what_an_earlier_one_left_there() {
    reports_nothing_of_what_was_left(|run| {
        run.restart_without_broker();
        run.streams.set_stalled(true, run.now);
        run.now += 100 * SHORT;
        assert!(run.next().is_none() && run.streams.received.lost_ends.deadline().is_none());
    });
}

#[test]
fn a_run_that_has_the_broker_for_a_moment_reports_nothing_of_what_an_earlier_one_left_there() {
    reports_nothing_of_what_was_left(|run| {
        run.restart();
        run.now += SHORT;
    });
}

/// Whether a run that begins and goes on like this times out or is stopped.
fn reports_nothing_of_what_was_left(begin: impl Fn(&mut Run<'_>)) {
    let report = silent();
    for times_out in [false, true] {
        let mut run = Run::new(&report);
        let messages = left_by_once(&mut run);
        begin(&mut run);
        assert!(run.next().is_none());
        if times_out {
            assert!(run.streams.next_released(GivenUp::All, run.now).unwrap().is_none());
        }
        run.streams.close().unwrap();
        assert_eq!(run.lost(), 0, "times out: {times_out}");
        all_come(&mut run, &messages);
    }
}

#[test]
fn what_comes_slowly_of_what_an_earlier_run_left_is_waited_for() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut origin = run.sender(0);
    let mut left = continuing(&run, 1, &origin, 3);
    let mut messages: Vec<_> = (0..3).map(|_| message(&mut origin)).collect();
    messages.extend((0..3).map(|_| message(&mut left)));
    let mut teller = run.sender(2);
    let ended = [&origin, &left].map(|ended| told(ended, 3, ended.continues())).to_vec();
    teller.begin_with(Preamble { ended, ..Preamble::default() });
    run.streams.received.admissions = Admissions::new(true);
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    run.restart();
    for message in &messages {
        run.now += SHORT;
        run.write_all();
        let written = run.accept(message, false);
        assert_eq!(written.data, b"data"[..]);
        run.write(written);
    }
    assert_eq!(run.lost(), 0);
}

#[test]
fn what_is_lost_is_reported_by_the_next_run_that_has_the_broker_for_long_enough() {
    let report = silent();
    let mut run = Run::new(&report);
    let [first, _lost] = left_by_once(&mut run);
    run.restart_without_broker();
    run.streams.close().unwrap();
    all_come(&mut run, &[first]);
    run.now += SHORT;
    assert!(run.next().is_none());
    run.now += SHORT;
    run.write_all();
    assert_eq!(run.lost(), 1);
}

/// A run that is told itself gets what the broker has before it is told.
#[test]
fn a_run_that_ends_when_it_is_told_reports_what_is_lost() {
    let report = silent();
    let mut run = Run::new(&report);
    let absent = run.sender(0);
    let mut teller = run.sender(1);
    teller.begin_with(Preamble { ended: vec![told(&absent, 2, None)], ..Preamble::default() });
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    run.streams.close().unwrap();
    assert_eq!(run.lost(), 2);
}
