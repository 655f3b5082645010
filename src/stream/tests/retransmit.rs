//! Claim: what is not confirmed is sent again, when it is due and only then, and as much at a time as the path takes.

use std::time::{Duration, Instant};

use super::*;
use crate::stream::congestion::{INITIAL_PROBE_TIMEOUT, INITIAL_WINDOW};
use crate::stream::retransmit::ROUND_INTERVAL;

const LIMIT: usize = 2 << 20;
/// So many messages fill the first window.
const WINDOW: u8 = 16;
const ROUND_TRIP: Duration = Duration::from_millis(10);

fn message(number: u8) -> Bytes {
    Bytes::from(vec![number; INITIAL_WINDOW / usize::from(WINDOW)])
}

fn filled(now: Instant, count: u8) -> RetransmitQueue {
    let mut queue = RetransmitQueue::new(LIMIT, now);
    (0..count).for_each(|number| queue.push(message(number), 10, now));
    queue
}

fn sent_again(queue: &mut RetransmitQueue, now: Instant) -> Vec<u8> {
    std::iter::from_fn(|| queue.poll(now)).map(|sealed| sealed[0]).collect()
}

#[test]
fn a_confirm_is_cumulative() {
    let now = Instant::now();
    let mut queue = filled(now, 5);
    for ranges in [&[(3, 3)][..], &[(3, 4), (2, 3)]] {
        assert_eq!(queue.sack(ranges, now), Err(Rejected::Unexpected));
    }
    assert!(queue.confirm(3, now) && !queue.confirm(2, now));
    assert_eq!(queue.unconfirmed(), (2, 20));
    assert!(queue.confirm(5, now));
    assert_eq!(queue.deadline(), None);
}

/// In the stream that this one continues, the receiver may have had more than a window.
#[test]
fn a_confirm_above_what_was_sent_is_of_what_was_sent() {
    let now = Instant::now();
    let mut queue = filled(now, 5);
    assert_eq!(queue.sack(&[(2, 4), (4, u32::MAX)], now), Ok(true));
    assert!(queue.confirm(1000, now) && queue.first() == 5);
    queue.push(message(5), 10, now);
    assert!(queue.confirm(u32::MAX, now) && queue.first() == 6);
}

#[test]
fn room_is_bounded_but_one_message_always_fits() {
    let now = Instant::now();
    let mut queue = RetransmitQueue::new(25, now);
    assert!(queue.has_room(1000));
    queue.push(Bytes::from_static(&[0; 10]), 10, now);
    assert!(queue.has_room(15) && !queue.has_room(16));
}

#[test]
fn the_first_window_is_64_kib_and_doubles_with_each_round_trip() {
    let mut now = Instant::now();
    let (mut queue, mut sent) = (RetransmitQueue::new(LIMIT, now), 0);
    for windows in [1, 2, 4, 8] {
        while queue.has_room(INITIAL_WINDOW) {
            queue.push(message(0), 0, now);
            sent += 1;
        }
        assert_eq!(queue.unconfirmed().0, windows * usize::from(WINDOW));
        now += ROUND_TRIP;
        queue.confirm(sent, now);
    }
}

#[test]
fn only_what_is_missing_is_sent_again_and_the_window_is_halved_once() {
    let start = Instant::now();
    let mut queue = filled(start, WINDOW);
    queue.confirm(2, start + ROUND_TRIP);
    let now = start + 2 * ROUND_TRIP;
    assert_eq!(queue.sack(&[(3, 5), (6, 7), (8, 16)], now), Ok(true));
    let late_at = queue.deadline().unwrap();
    assert!(sent_again(&mut queue, now).is_empty(), "it may only be late");
    assert_eq!(sent_again(&mut queue, late_at), [2, 5, 7]);
    assert_eq!(queue.sack(&[(3, 5), (6, 7), (8, 16)], late_at), Ok(false));
    assert!(sent_again(&mut queue, late_at).is_empty());
    let before = queue.window();
    queue.confirm(16, late_at + ROUND_TRIP);
    assert!(before <= INITIAL_WINDOW && queue.window() < before + INITIAL_WINDOW / 16, "no slow start");
}

#[test]
fn what_is_lost_goes_first() {
    let start = Instant::now();
    let mut queue = filled(start, WINDOW);
    queue.sack(&[(1, 9), (10, 16)], start + ROUND_TRIP).unwrap();
    assert!(queue.has_room(message(0).len()), "it may only be late");
    let late_at = queue.deadline().unwrap();
    assert_eq!(queue.poll(late_at).unwrap()[0], 0);
    assert!(!queue.has_room(0));
    assert_eq!(sent_again(&mut queue, late_at), [9]);
    assert!(queue.has_room(message(0).len()));
}

#[test]
fn one_lost_message_goes_at_once_whatever_else_is_on_the_way() {
    let start = Instant::now();
    let mut queue = RetransmitQueue::new(LIMIT, start);
    (0..4).for_each(|number| queue.push(Bytes::from(vec![number; INITIAL_WINDOW]), 0, start));
    queue.sack(&[(1, 2)], start + ROUND_TRIP).unwrap();
    let late_at = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, late_at), [0]);
}

#[test]
fn a_message_that_is_lost_twice_is_sent_a_third_time() {
    let start = Instant::now();
    let mut queue = filled(start, 6);
    queue.sack(&[(1, 6)], start + ROUND_TRIP).unwrap();
    let now = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, now), [0]);
    queue.push(message(6), 10, now);
    queue.sack(&[(1, 7)], now + ROUND_TRIP).unwrap();
    let late_at = queue.deadline().unwrap();
    assert!(late_at > now + ROUND_TRIP && late_at < now + 2 * ROUND_TRIP);
    assert!(sent_again(&mut queue, now + ROUND_TRIP).is_empty());
    assert_eq!(sent_again(&mut queue, late_at), [0]);
}

#[test]
fn what_is_late_is_not_sent_again() {
    let start = Instant::now();
    let mut queue = filled(start, 3);
    let now = start + ROUND_TRIP;
    queue.sack(&[(1, 3)], now).unwrap();
    queue.confirm(3, now + ROUND_TRIP / 16);
    assert!(sent_again(&mut queue, now + ROUND_TRIP).is_empty() && queue.deadline().is_none());
}

#[test]
fn a_receiver_that_holds_nothing_gets_all_again_once_a_round() {
    let now = Instant::now();
    let mut queue = filled(now, 4);
    queue.confirm(1, now);
    queue.confirm(1, now);
    assert_eq!(sent_again(&mut queue, now), [1, 2, 3]);
    queue.confirm(1, now + ROUND_INTERVAL / 4);
    assert!(sent_again(&mut queue, now + ROUND_INTERVAL / 4).is_empty());
    queue.confirm(1, now + ROUND_INTERVAL);
    assert_eq!(sent_again(&mut queue, now + ROUND_INTERVAL), [1, 2, 3]);
}

#[test]
fn a_receiver_that_holds_gets_nothing_again_for_a_repeated_confirm() {
    let now = Instant::now();
    let mut queue = filled(now, 4);
    queue.sack(&[(1, 2)], now).unwrap();
    for _ in 0..2 {
        queue.confirm(2, now);
        assert!(sent_again(&mut queue, now).is_empty());
    }
}

#[test]
fn silence_sends_the_oldest_again_and_the_rest_once_somebody_is_there() {
    let mut now = Instant::now();
    let mut queue = filled(now, 5);
    let mut waits = Vec::new();
    for _ in 0..7 {
        let due = queue.deadline().unwrap();
        waits.push((due - now).as_millis());
        now = due;
        assert_eq!(sent_again(&mut queue, now), [0]);
    }
    assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
    queue.confirm(1, now);
    assert_eq!(sent_again(&mut queue, now), [1, 2, 3, 4]);
    assert_eq!(queue.deadline(), Some(now + 2 * INITIAL_PROBE_TIMEOUT), "no round trip was measured");
}

#[test]
fn what_a_receiver_held_when_it_ended_is_sent_again() {
    let start = Instant::now();
    let mut queue = filled(start, 6);
    queue.sack(&[(1, 6)], start + ROUND_TRIP).unwrap();
    let late_at = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, late_at), [0]);
    let due = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, due), [0]);
    queue.confirm(1, due + 2 * ROUND_TRIP);
    assert_eq!(sent_again(&mut queue, due + 2 * ROUND_TRIP), [1, 2, 3, 4, 5]);
    queue.confirm(6, due + 3 * ROUND_TRIP);
    assert_eq!((queue.unconfirmed(), queue.deadline()), ((0, 0), None));
}

#[test]
fn what_is_confirmed_meanwhile_is_not_sent_again() {
    let now = Instant::now();
    let mut queue = filled(now, 4);
    queue.confirm(0, now);
    assert_eq!(queue.poll(now).unwrap()[0], 0);
    queue.confirm(2, now);
    assert_eq!(sent_again(&mut queue, now), [2, 3]);
}

#[test]
fn of_another_stream_the_path_is_known() {
    let start = Instant::now();
    let mut queue = filled(start, WINDOW);
    queue.confirm(WINDOW.into(), start + ROUND_TRIP);
    queue.push(message(0), 10, start + ROUND_TRIP);
    assert_eq!(queue.take_unconfirmed(start + ROUND_TRIP).count(), 1);
    assert_eq!((queue.first(), queue.unconfirmed()), (0, (0, 0)));
    let mut fits = 0;
    while queue.has_room(message(0).len()) {
        queue.push(message(0), 0, start);
        fits += 1;
    }
    assert_eq!(fits, 2 * usize::from(WINDOW));
}

#[test]
fn it_is_without_data_while_only_messages_without_data_are_not_confirmed() {
    let now = Instant::now();
    let mut queue = filled(now, 3);
    for without_data in 3..5 {
        queue.push(message(without_data), 0, now);
    }
    for (confirmed, expected) in [(0, false), (2, false), (3, true), (4, true), (5, false)] {
        queue.confirm(confirmed, now);
        assert_eq!(queue.is_without_data(), expected, "below {confirmed}");
    }
}

/// A message that is above the last one named is neither there nor gone.
#[test]
fn of_what_is_not_below_the_last_one_in_a_sack_nothing_is_said() {
    let now = Instant::now();
    let mut queue = filled(now, 5);
    assert_eq!(queue.sack(&[(1, 4)], now), Ok(true));
    assert_eq!(queue.sack(&[(1, 3)], now), Ok(false));
    assert!(sent_again(&mut queue, now).is_empty(), "3 is still there");
    assert_eq!(queue.sack(&[(2, 4)], now), Ok(false));
    assert_eq!(sent_again(&mut queue, now), [1], "this one is not");
}

#[test]
fn what_was_taken_for_lost_and_is_named_is_not_sent_again_and_what_is_not_named_is() {
    let start = Instant::now();
    let mut queue = filled(start, 4);
    queue.sack(&[(3, 4)], start + ROUND_TRIP).unwrap();
    let now = queue.deadline().unwrap();
    queue.sack(&[(3, 4)], now).unwrap();
    assert!(!queue.has_room(1), "three are lost");
    queue.sack(&[(1, 2), (3, 4)], now).unwrap();
    assert_eq!(sent_again(&mut queue, now), [0, 2]);
    queue.confirm(4, now);
    assert_eq!(queue.unconfirmed(), (0, 0));
}

/// The receiver's silence is counted from the last news, whatever else it says.
#[test]
fn only_news_put_off_the_next_probe() {
    let start = Instant::now();
    let at = |steps: u32| start + steps * ROUND_TRIP;
    let mut queue = RetransmitQueue::new(LIMIT, start);
    assert_eq!(queue.deadline(), None);
    queue.push(message(0), 10, at(1));
    assert_eq!(queue.deadline(), Some(at(1) + INITIAL_PROBE_TIMEOUT), "it was not silent before");
    (1..5).for_each(|number| queue.push(message(number), 10, at(2)));
    assert_eq!(queue.deadline(), Some(at(1) + INITIAL_PROBE_TIMEOUT), "nor does what is sent say anything");
    assert!(queue.confirm(1, at(3)));
    // A round trip of 20 ms: 20 + 40 + 50 ms.
    let timeout = |since| Some(at(since) + Duration::from_millis(110));
    assert_eq!(queue.deadline(), timeout(3));
    assert_eq!(queue.sack(&[(1, 2)], at(3)), Ok(true));
    assert_eq!(queue.sack(&[(1, 2)], at(4)), Ok(false));
    let before = queue.deadline();
    assert_eq!(queue.sack(&[(1, 2)], at(5)), Ok(false));
    assert!(!queue.confirm(0, at(5)));
    assert_eq!(queue.deadline(), before);
    assert_eq!(queue.sack(&[(1, 3)], at(6)), Ok(true));
    // Round trips of 20, 10 and 40 ms: 21.40625 + 4 * 12.8125 + 50 ms.
    assert_eq!(queue.deadline(), Some(at(6) + Duration::from_nanos(122_656_250)));
    let before = queue.deadline();
    queue.restart_timer(at(7));
    assert!(queue.deadline() > before, "the way was not clear");
    let before = queue.deadline();
    queue.resend_all(at(8));
    assert!(queue.deadline() > before, "nothing has left");
}

/// One that was sent again and of which nothing is heard yet says nothing of those after it, which left before.
#[test]
fn a_loss_is_found_after_a_message_that_was_sent_again() {
    let start = Instant::now();
    let mut queue = filled(start, 4);
    queue.sack(&[(1, 2)], start + ROUND_TRIP).unwrap();
    let now = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, now), [0]);
    queue.sack(&[(1, 2), (3, 4)], now).unwrap();
    let late_at = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, late_at), [2], "long before the next probe");
}

/// After a probe, the receiver says again what it holds. When that arrived is not known then.
#[test]
fn what_is_told_again_after_a_probe_measures_nothing() {
    let start = Instant::now();
    let mut queue = filled(start, 3);
    queue.sack(&[(1, 3)], start + ROUND_TRIP).unwrap();
    let mut now = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, now), [0]);
    now = queue.deadline().unwrap();
    assert_eq!(sent_again(&mut queue, now), [0]);
    now += Duration::from_secs(5);
    assert!(queue.confirm(3, now));
    queue.push(message(3), 10, now);
    assert_eq!(queue.deadline(), Some(now + Duration::from_millis(200)), "twice as after a round trip of 10 ms");
}

#[test]
fn another_stream_begins_with_nothing_of_the_one_before() {
    let now = Instant::now();
    let mut queue = filled(now, 3);
    queue.confirm(1, now);
    queue.restart(now);
    assert_eq!((queue.first(), queue.unconfirmed(), queue.deadline()), (0, (0, 0), None));
    assert!(sent_again(&mut queue, now + Duration::from_secs(60)).is_empty());
    queue.push(message(9), 10, now);
    assert!(queue.confirm(1, now), "it counts from 0");
}

/// What takes a little longer than the timeout arrives right after the probe, as an answer to that would.
#[test]
fn a_row_of_frames_that_take_longer_than_the_timeout_is_not_sent_twice() {
    let usual = Duration::from_millis(10);
    let from_first = (480..600).chain(980..1200).map(|longer| (0, longer));
    for (usual_count, longer) in from_first.chain((95..130).map(|longer| (20, longer))) {
        let mut now = Instant::now();
        let mut queue = RetransmitQueue::new(LIMIT, now);
        let mut again = 0;
        for seq in 0..usual_count + 20 {
            queue.push(message(0), 1, now);
            let arrival = now + if seq < usual_count { usual } else { Duration::from_millis(longer) };
            while let Some(due) = queue.deadline().filter(|due| *due < arrival) {
                again += sent_again(&mut queue, due).len();
            }
            now = arrival;
            assert!(queue.confirm(seq + 1, now));
        }
        assert!(again <= 5, "{again} of 20 frames that take {longer} ms are sent again");
    }
}
