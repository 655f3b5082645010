//! Claim: what an earlier run left with the broker is not reported as lost before the runs after it had the broker for long enough,
//! whatever ends them; and what is lost is reported by the first one with which that is so, however short each of them is, and
//! not later than their sessions are deleted.

use super::*;
use crate::recv::incoming::Supply;

/// Less than a run waits for what an earlier one was told of, and more than one waits that is told itself.
const SHORT: Duration = Duration::from_secs(6);

/// A run with `--once` follows one stream, which has told of two messages of another one. Returns these, and the stream.
fn follow_teller(run: &mut Run<'_>) -> ([bytes::Bytes; 2], Sender) {
    run.follow_one(true);
    let mut left = run.sender(0);
    let messages = [(); 2].map(|()| message(&mut left));
    let mut teller = run.sender(1);
    teller.begin_with(Preamble { ended: vec![told(&left, 2, None)], ..Preamble::default() });
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    (messages, teller)
}

/// A run with `--once` is over. It followed one stream, which told of two messages of another one. Returns these: the run
/// left them with the broker.
fn left_by_once(run: &mut Run<'_>) -> [bytes::Bytes; 2] {
    let (messages, _) = follow_teller(run);
    run.streams.close(run.now).unwrap();
    run.once = false;
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
        run.streams.set_supply(Supply::Stalled, run.now);
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
        run.write_all();
        if times_out {
            assert!(run.streams.next_released(GivenUp::All, run.now).unwrap().is_none());
        }
        run.streams.close(run.now).unwrap();
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
    run.follow_one(true);
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
    run.streams.close(run.now).unwrap();
    all_come(&mut run, &[first]);
    run.now += SHORT;
    run.write_all();
    assert_eq!(run.lost(), 0);
    run.now += SHORT;
    run.write_all();
    assert_eq!(run.lost(), 1);
}

/// How a run ends.
const ENDS: [&str; 3] = ["killed", "stopped", "timed out"];

fn end(run: &mut Run<'_>, how: &str) {
    if how == "timed out" {
        while let Some(Disposition::Deliver(delivery)) = run.streams.next_released(GivenUp::All, run.now).unwrap() {
            run.write(delivery);
        }
    }
    if how != "killed" {
        run.streams.close(run.now).unwrap();
    }
}

/// As those that cron starts.
#[test]
fn runs_that_have_the_broker_for_a_moment_each_report_what_is_lost_together() {
    let report = silent();
    for (how, once) in ENDS.into_iter().flat_map(|how| [false, true].map(|once| (how, once))) {
        let mut run = Run::new(&report);
        let [first, _lost] = left_by_once(&mut run);
        run.once = once;
        for turn in 0..10 {
            run.restart();
            // What comes of it begins the wait anew.
            if turn == 1 {
                let written = run.accept(&first, false);
                run.write(written);
            }
            run.now += SHORT / 2;
            run.write_all();
            end(&mut run, how);
            assert_eq!(run.lost(), u64::from(turn >= 4), "{how}, once: {once}, run {turn}");
        }
    }
}

/// The first message that came after what is lost, and the run may be over.
#[test]
fn runs_in_which_later_messages_come_at_once_report_what_is_lost_after_a_few() {
    let report = silent();
    for (how, once) in ENDS.into_iter().flat_map(|how| [false, true].map(|once| (how, once))) {
        let mut run = Run::new(&report);
        let _lost = left_by_once(&mut run);
        run.once = once;
        for turn in 0..8 {
            run.restart_without_broker();
            for again in 0..2 {
                let mut later = run.sender(2 + turn + 100 * again);
                if once && again > 0 {
                    continue;
                }
                let written = run.accept(&message(&mut later), false);
                run.write(written);
            }
            run.write_all();
            end(&mut run, how);
            assert_eq!(run.lost() > 0, turn >= 3, "{how}, once: {once}, run {turn}");
        }
        assert_eq!(run.lost(), 2);
    }
}

/// A run that is restarted gets again what it did not acknowledge, before anything else.
#[test]
fn what_comes_again_is_no_sign_that_the_broker_has_nothing_more() {
    let report = silent();
    let mut run = Run::new(&report);
    let (messages, mut teller) = follow_teller(&mut run);
    for _ in 0..10 {
        run.restart();
        let written = run.accept(&message(&mut teller), false);
        run.write(written);
    }
    run.once = false;
    all_come(&mut run, &messages);
    assert_eq!(run.lost(), 0);
}

#[test]
fn what_runs_that_follow_one_stream_see_and_leave_is_not_lost() {
    let report = silent();
    let mut run = Run::new(&report);
    let messages = left_by_once(&mut run);
    run.once = true;
    for turn in 0..10 {
        run.restart();
        let mut followed = run.sender(2 + turn);
        let written = run.accept(&message(&mut followed), false);
        run.write(written);
        run.now += SHORT / 2;
        run.write_all();
        assert!(matches!(run.take(&messages[0], false), Disposition::Leave(_)));
        run.now += 2 * SHORT;
        run.write_all();
        run.streams.close(run.now).unwrap();
    }
    assert_eq!(run.lost(), 0);
    run.once = false;
    all_come(&mut run, &messages);
}

/// A later stream that continues the one that the run follows, or another connection, does not end that.
#[test]
fn what_a_run_has_left_is_not_lost_in_it_whatever_comes_after_that() {
    let report = silent();
    let mut run = Run::new(&report);
    let (messages, mut followed) = follow_teller(&mut run);
    run.restart();
    // An earlier run knows its stream, so that it says nothing of what is left.
    let written = run.accept(&message(&mut followed), false);
    run.write(written);
    assert!(messages.iter().all(|message| matches!(run.take(message, false), Disposition::Leave(_))));
    let mut later = continuing(&run, 2, &followed, 2);
    let written = run.accept(&message(&mut later), false);
    run.write(written);
    for _ in 0..2 {
        run.now += 20 * SHORT;
        run.write_all();
        assert_eq!(run.lost(), 0);
        run.streams.disconnected();
        run.streams.subscribed(run.now);
    }
    run.streams.close(run.now).unwrap();
    run.once = false;
    all_come(&mut run, &messages);
    assert_eq!(run.lost(), 0);
}

/// A broker may send no more than is unacknowledged. What comes shows that it could send until then.
#[test]
fn while_something_is_unacknowledged_only_the_time_until_the_last_message_counts() {
    let report = silent();
    for once in [false, true] {
        let mut run = Run::new(&report);
        let messages = left_by_once(&mut run);
        run.once = once;
        run.restart();
        let mut other = run.sender(1);
        other.begin_with(Preamble { ended: vec![told(&run.sender(0), 2, None)], ..Preamble::default() });
        let repeated = message(&mut other);
        for turn in 1..=3 {
            run.streams.set_supply(Supply::Doubtful, run.now);
            run.now += SHORT / 2;
            let _ = run.receive(&repeated);
            run.write_all();
            run.now += 20 * SHORT;
            run.write_all();
            // What is acknowledged says nothing of the time before.
            run.streams.set_supply(Supply::Flowing, run.now);
            run.write_all();
            assert_eq!(run.lost(), 0, "once: {once}, turn {turn}");
        }
        run.streams.set_supply(Supply::Doubtful, run.now);
        run.now += SHORT / 2;
        let _ = run.receive(&repeated);
        run.write_all();
        assert_eq!(run.lost(), 2, "once: {once}");
        drop(messages);
    }
}

/// It may be more than one run can wait for, which would then never wait for others.
#[test]
fn what_cannot_be_reported_is_not_waited_for() {
    let report = silent();
    let (mut run, _) = Run::of_sessions(&report, &[1, 2]);
    let mut confirmed = run.sender(0).ask_for_confirms();
    let written = run.accept(&message(&mut confirmed), false);
    run.write(written);
    let mut teller = run.sender(1);
    teller.begin_with(Preamble { ended: vec![told(&confirmed, 1, None)], ..Preamble::default() });
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    run.restart();
    assert_eq!(run.streams.received.log.state().told().count(), 1);
    assert!(!run.streams.received.lost_ends.involves(run.device.id));
}

/// A run with `--once` of which the first stream is under the newer of two sessions, and tells of two messages of the older one,
/// under which nothing came, or a whole stream.
fn told_of_the_older_session(report: &Reporter, is_used: bool) -> (Run<'_>, Session) {
    let (mut run, sessions) = Run::of_sessions(report, &[1, 2]);
    run.follow_one(true);
    if is_used {
        let mut whole = run.sender(0);
        let buffer = whole.buffer(0);
        let end = whole.seal(&Content::End, None, buffer, &mut StdRng::seed_from_u64(1)).unwrap();
        let written = run.accept(&end, false);
        run.write(written);
        run.restart();
    }
    let absent = run.sender(u32::from(is_used));
    let mut teller = sender(&sessions[1], 0);
    teller.begin_with(Preamble { ended: vec![told(&absent, 2, None)], ..Preamble::default() });
    let buffer = teller.buffer(0);
    let end = teller.seal(&Content::End, None, buffer, &mut StdRng::seed_from_u64(1)).unwrap();
    let written = run.accept(&end, false);
    run.write(written);
    run.streams.update_session_files().unwrap();
    let [_, newer] = <[Session; 2]>::try_from(sessions).ok().unwrap();
    (run, newer)
}

/// Whether the older session is stored.
fn is_stored(run: &mut Run<'_>) -> bool {
    let received = &mut run.streams.received;
    received.sessions.link.refresh(Instant::now()).unwrap();
    received.delete_finished(peer_key(&run.device.own)).unwrap();
    received.sessions.link.refresh(Instant::now()).unwrap();
    received.sessions.link.is_stored(run.device.id)
}

/// It was retired long ago, and all that came under it is complete.
#[test]
fn a_session_stays_until_what_was_told_of_it_is_reported() {
    let report = silent();
    for is_used in [false, true] {
        let (mut run, _) = told_of_the_older_session(&report, is_used);
        assert!(is_stored(&mut run), "used: {is_used}");
        for once in [true, false] {
            run.once = once;
            run.restart();
            assert!(is_stored(&mut run), "used: {is_used}");
            run.now += SHORT;
            run.write_all();
        }
        assert_eq!(run.lost(), 2, "used: {is_used}");
        assert!(!is_stored(&mut run), "used: {is_used}");
    }
}

/// The run may follow one stream, and have been told itself, or the KILL tells it again.
#[test]
fn what_was_told_of_a_session_is_reported_before_a_kill_deletes_it() {
    let report = silent();
    for (restarts, tells_again) in [false, true].into_iter().flat_map(|one| [false, true].map(|other| (one, other))) {
        let (mut run, newer) = told_of_the_older_session(&report, true);
        if restarts {
            run.restart();
        }
        let mut kill = sender(&newer, 1);
        let ended = tells_again.then(|| told(&run.sender(1), 2, None));
        kill.begin_with(Preamble { ended: ended.into_iter().collect(), ..Preamble::default() });
        let buffer = kill.buffer(0);
        let rng = &mut StdRng::seed_from_u64(1);
        let kill = kill.seal(&Content::Kill { next_stream: 2 }, None, buffer, rng).unwrap();
        assert!(matches!(run.take(&kill, false), Disposition::Hold { .. }));
        let now = run.now;
        assert!(run.streams.delete_ended_sessions(&|_| false, now).unwrap().is_empty());
        run.now += 20 * SHORT;
        let late = run.streams.late_sessions(run.now);
        assert!(late.contains(&run.device.id));
        while let Some(Disposition::Deliver(delivery)) =
            run.streams.next_released(GivenUp::Sessions(&late), run.now).unwrap()
        {
            run.write(delivery);
        }
        assert_eq!(run.lost(), 2, "restarts: {restarts}, tells again: {tells_again}");
        let now = run.now;
        assert_eq!(run.streams.delete_ended_sessions(&|_| false, now).unwrap().len(), 1);
    }
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
    run.streams.close(run.now).unwrap();
    assert_eq!(run.lost(), 2);
}
