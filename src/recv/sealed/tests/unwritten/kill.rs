//! Claim: what a killed run knew of a message that it did not write is found again by the next one: what is lost before
//! the message, and which streams are over with it.

use super::*;

/// Longer than what is missing may be on its way.
const LONG: Duration = Duration::from_secs(15);

/// Accepts the first message of a stream, writes one of another stream, and kills the run. Returns the message as the next
/// run accepts it.
fn killed(run: &mut Run<'_>, came: &bytes::Bytes) -> Delivery {
    let _waiting = run.accept(came, true);
    let mut other = run.sender(9);
    let written = run.accept(&message(&mut other), true);
    run.write(written);
    run.restart();
    run.accept(came, true)
}

#[test]
fn a_gap_is_reported_again_after_a_kill_and_counted_once() {
    let report = silent();
    for continues in [false, true] {
        let mut run = Run::new(&report);
        let mut origin = run.sender(0);
        let mut sender = if continues { continuing(&run, 1, &origin, 4) } else { run.sender(1) };
        if continues {
            let written = run.accept(&message(&mut origin), false);
            run.write(written);
        } else {
            let _lost: Vec<_> = (0..3).map(|_| message(&mut sender)).collect();
        }
        let repeated = killed(&mut run, &message(&mut sender));
        assert_eq!(run.lost(), 0, "continues: {continues}");
        assert!(repeated.completion.follows_gap(), "continues: {continues}");
        run.write(repeated);
        assert_eq!(run.lost(), 3, "continues: {continues}");
    }
}

#[test]
fn a_stream_that_another_one_continues_is_over_after_a_kill_too() {
    let report = silent();
    // Without its first message, it may continue any older one.
    for is_headless in [false, true] {
        let mut run = Run::new(&report);
        let mut origin = run.sender(0);
        let written = run.accept(&message(&mut origin), false);
        run.write(written);
        let withheld = message(&mut origin);
        let mut sender = if is_headless { headless(&run, 1, &origin, 1) } else { continuing(&run, 1, &origin, 1) };
        let repeated = killed(&mut run, &message(&mut sender));
        run.write(repeated);
        let is_accepted = matches!(run.take(&withheld, true), Disposition::Deliver(_));
        assert!(!is_accepted, "headless: {is_headless}");
    }
}

#[test]
fn what_an_older_stream_carried_is_not_accepted_again_after_a_kill() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut origin = run.sender(0);
    for _ in 0..2 {
        let written = run.accept(&message(&mut origin), false);
        run.write(written);
    }
    let mut sender = continuing(&run, 1, &origin, 1);
    let repeated = killed(&mut run, &message(&mut sender));
    assert!(repeated.data.is_empty(), "the origin carried it");
    run.write(repeated);
    assert_eq!(run.accept(&message(&mut sender), true).data, b"data"[..]);
}

/// A sender tells it again only when it begins other streams.
#[test]
fn a_lost_end_that_a_run_was_told_of_is_reported_by_the_next_one() {
    let report = silent();
    for is_reported in [false, true] {
        let mut run = Run::new(&report);
        let mut cut = run.sender(0);
        let written = run.accept(&message(&mut cut), false);
        run.write(written);
        let absent = run.sender(1);
        let mut teller = run.sender(2);
        teller.begin_with(Preamble { ended: vec![told(&cut, 5, None), told(&absent, 2, None)], ..Preamble::default() });
        let written = run.accept(&message(&mut teller), false);
        run.write(written);
        if is_reported {
            // What is reported is not written down before standard output took what came before it.
            run.now += LONG;
            let _reported = run.next().unwrap();
        }
        run.restart();
        assert!(run.next().is_none(), "it may still come");
        run.now += LONG;
        run.write_all();
        assert_eq!(run.lost(), 4 + 2, "reported: {is_reported}");
        run.restart();
        run.now += LONG;
        assert!(run.next().is_none(), "once");
    }
}

#[test]
fn what_comes_after_a_kill_of_a_stream_whose_end_was_told_is_not_lost() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut late = run.sender(0);
    let came: Vec<_> = (0..3).map(|_| message(&mut late)).collect();
    let mut teller = run.sender(1);
    teller.begin_with(Preamble { ended: vec![told(&late, 3, None)], ..Preamble::default() });
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    run.restart();
    for message in &came[..2] {
        let written = run.accept(message, false);
        run.write(written);
    }
    run.now += LONG;
    run.write_all();
    assert_eq!(run.lost(), 1);
}

/// The killed run wrote down where the telling stream begins, and not what that told: found again, it is no newer carrier.
#[test]
fn what_a_killed_run_reported_of_a_stream_without_its_first_message_is_not_reported_again_by_position() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut origin = run.sender(0);
    let written = run.accept(&message(&mut origin), false);
    run.write(written);
    // Its only message with a position is given up, and its last one is accepted.
    let mut late = headless(&run, 1, &origin, 1);
    let buffer = late.buffer(0);
    let named = StreamId { session: run.device.id, number: 2 };
    let last = late.seal(&Content::Continued(named), None, buffer, &mut StdRng::seed_from_u64(1)).unwrap();
    let written = run.accept(&last, true);
    assert!(written.completion.follows_gap());
    run.write(written);
    let mut teller = run.sender(2);
    let continues = Some(Continues { origin: origin.origin(), position: 2 });
    teller.begin_with(Preamble { ended: vec![told(&late, 1, late.continues())], continues, ..Preamble::default() });
    let telling = message(&mut teller);
    let _waiting = run.accept(&telling, true);
    let mut other = run.sender(9);
    let written = run.accept(&message(&mut other), true);
    run.write(written);
    run.restart();
    let repeated = run.accept(&telling, true);
    run.write(repeated);
    run.write_all();
    assert_eq!(run.lost(), 1);
}

/// A broker may lose what it keeps for a receiver, as if it ends at the same time. The sender need not tell it again.
#[test]
fn what_was_here_and_not_written_is_reported_if_the_broker_loses_it_after_a_kill() {
    let report = silent();
    for written in 0..=3 {
        let mut run = Run::new(&report);
        let mut whole = run.sender(0);
        let mut messages = vec![message(&mut whole), message(&mut whole)];
        let buffer = whole.buffer(0);
        messages.push(whole.seal(&Content::End, None, buffer, &mut StdRng::seed_from_u64(1)).unwrap());
        for (number, message) in messages.iter().enumerate() {
            let accepted = run.accept(message, false);
            if number < written {
                run.write(accepted);
            }
        }
        let mut teller = run.sender(1);
        teller.begin_with(Preamble { ended: vec![told(&whole, 3, None)], ..Preamble::default() });
        let telling = run.accept(&message(&mut teller), false);
        run.write(telling);
        run.restart();
        run.now += LONG;
        run.write_all();
        assert_eq!(run.lost(), 3 - u64::try_from(written).unwrap());
        assert_eq!(run.streams.received.log.state().told().count(), 0);
    }
}

/// A run that follows one stream leaves the others to the next run, and so does one that ends before what came is written.
#[test]
fn what_a_run_was_told_of_other_streams_than_its_own_is_left_to_the_next_one() {
    let report = silent();
    let mut run = Run::new(&report);
    run.streams.received.admissions = Admissions::new(true);
    let absent = run.sender(0);
    let mut teller = run.sender(1);
    teller.begin_with(Preamble { ended: vec![told(&absent, 2, None)], ..Preamble::default() });
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    run.now += LONG;
    assert!(run.next().is_none());
    run.restart();
    run.now += LONG;
    run.write_all();
    assert_eq!(run.lost(), 2);
}

#[test]
fn that_two_devices_use_a_session_is_not_forgotten() {
    let report = silent();
    let mut run = Run::new(&report);
    let mut ours = run.sender(0);
    let written = run.accept(&message(&mut ours), false);
    run.write(written);
    let mut teller = run.sender(1);
    let theirs = EndedStream { salt: [1; 8], ..told(&ours, 5, None) };
    teller.begin_with(Preamble { ended: vec![theirs], ..Preamble::default() });
    let written = run.accept(&message(&mut teller), false);
    run.write(written);
    run.restart();
    assert!(run.streams.received.sessions.receiver.streams(run.device.id).unwrap().is_copied());
    assert_eq!(run.lost(), 0, "what the other device sent is not missing of this stream");
}
