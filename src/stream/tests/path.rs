//! Claim: how long is waited and how much may be on the way is as RFC 9002 has it, but for what the head of `congestion` lists.

use std::time::{Duration, Instant};

use crate::stream::congestion::{
    Arrivals, Fate, INITIAL_PROBE_TIMEOUT, INITIAL_WINDOW, MAX_PROBE_TIMEOUT, Path, Transmission,
};

const LIMIT: usize = 2 << 20;
/// A segment is at most this long.
const SEGMENT: usize = 4 << 10;

fn arrivals(of: &[(Transmission, usize)]) -> Arrivals {
    let mut arrivals = Arrivals::default();
    for &(transmission, len) in of {
        arrivals.add(transmission, len);
    }
    arrivals
}

/// What leaves now arrives after `round_trip`.
fn measure(path: &mut Path, start: Instant, round_trip: Duration) -> Transmission {
    let sent = path.transmit(SEGMENT, start, false);
    path.arrived(&arrivals(&[(sent, SEGMENT)]), start + round_trip);
    sent
}

/// A path with a window of `size`, above the threshold of slow start, on which frames of `len` bytes are sent.
fn past_slow_start(size: usize, len: usize) -> Path {
    let (mut path, now) = (Path::new(LIMIT), Instant::now());
    let sent = path.transmit(len, now, false);
    // The first window is doubled as often as needed, then halved.
    while path.window() < 2 * size {
        let missing = 2 * size - path.window();
        path.grow(&arrivals(&[(sent, missing)]), path.window());
    }
    while path.window() > size {
        let sent = path.transmit(len, now, false);
        path.lost(sent.number);
    }
    assert_eq!(path.window(), size);
    path
}

/// By how much the window grows for so many bytes that arrive while it is full.
fn growth(path: &mut Path, len: usize, arrived: usize) -> usize {
    let before = path.window();
    let sent = path.transmit(len, Instant::now(), false);
    path.grow(&arrivals(&[(sent, arrived)]), before);
    path.window() - before
}

/// RFC 9002, section 5.3 and 6.2.1, in numbers: 100 + 4 * 50, and 112.5 + 4 * 62.5; and the delay of the confirm.
#[test]
fn the_timeout_follows_the_round_trip_and_how_it_varies() {
    let (mut path, now) = (Path::new(LIMIT), Instant::now());
    assert_eq!(path.probe_timeout(), INITIAL_PROBE_TIMEOUT);
    for (round_trip, timeout) in [(100_000, 350_000), (200_000, 412_500), (112_500, 112_500 + 4 * 46_875 + 50_000)] {
        measure(&mut path, now, Duration::from_micros(round_trip));
        assert_eq!(path.probe_timeout(), Duration::from_micros(timeout));
    }
    // One that varies no more: a millisecond is the least.
    for _ in 0..100 {
        measure(&mut path, now, Duration::from_millis(200));
    }
    assert_eq!(path.probe_timeout().as_millis(), 200 + 50 + 1 - 1);
    assert!(path.probe_timeout() > Duration::from_millis(250));
}

#[test]
fn the_timeout_has_bounds_and_doubles_with_each_probe() {
    let (mut path, now) = (Path::new(LIMIT), Instant::now());
    measure(&mut path, now, Duration::from_millis(1));
    let mut waits = Vec::new();
    for _ in 0..12 {
        waits.push(u64::try_from(path.probe_timeout().as_millis()).unwrap());
        path.probe();
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
    (0..100).for_each(|_| path.probe());
    assert_eq!(path.probe_timeout(), MAX_PROBE_TIMEOUT);
    let [once, again] = [false, true].map(|is_repeat| path.transmit(1, now, is_repeat));
    path.arrived(&arrivals(&[]), now);
    assert_eq!(path.probe_timeout(), MAX_PROBE_TIMEOUT, "nothing arrived");
    path.arrived(&arrivals(&[(again, 1)]), now + Duration::from_secs(9));
    assert_eq!(path.probe_timeout(), MAX_PROBE_TIMEOUT, "the first one may have taken that long");
    path.arrived(&arrivals(&[(once, 1)]), now + Duration::from_secs(9));
    assert_eq!(path.probe_timeout(), Duration::from_millis(100), "what was sent before measures nothing");
    for (answered_after, timeout) in [(12, 100), (13, 200)] {
        path.probe();
        let probe = path.transmit(1, now, true);
        path.arrived(&arrivals(&[(probe, 1)]), now + Duration::from_millis(answered_after));
        assert_eq!(path.probe_timeout(), Duration::from_millis(timeout), "an eighth of 100 ms is at once");
    }
}

/// RFC 9002, section 6.1.2: nine eighths of the longer one of the usual and the latest round trip, at least a millisecond.
#[test]
fn a_frame_is_lost_if_it_is_later_than_those_sent_after_it_by_an_eighth_of_a_round_trip() {
    let now = Instant::now();
    // The second round trip makes the usual one 80 - 5 = 75 ms, or 80 + 20 = 100 ms, of which the latest is less or more.
    for (round_trips, late) in [
        (&[80][..], Duration::from_millis(90)),
        (&[80, 40], Duration::from_micros(75_000 * 9 / 8)),
        (&[80, 240], Duration::from_millis(270)),
        (&[0], Duration::from_millis(1)),
    ] {
        let mut path = Path::new(LIMIT);
        let sent = path.transmit(1, now, false);
        assert_eq!(path.fate(sent, now + Duration::from_secs(60)), Fate::Unknown, "nothing arrived");
        let mut newest = sent;
        for round_trip in round_trips {
            newest = measure(&mut path, now, Duration::from_millis(*round_trip));
        }
        assert_eq!(path.fate(sent, now), Fate::LateAt(now + late), "{round_trips:?}");
        assert_eq!(path.fate(sent, now + late), Fate::Lost, "{round_trips:?}");
        for transmission in [newest, path.transmit(1, now, false)] {
            assert_eq!(path.fate(transmission, now + Duration::from_secs(60)), Fate::Unknown, "none after it arrived");
        }
    }
    let mut unmeasured = Path::new(LIMIT);
    let [sent, again] = [false, true].map(|is_repeat| unmeasured.transmit(1, now, is_repeat));
    unmeasured.arrived(&arrivals(&[(again, 1)]), now + Duration::from_millis(10));
    assert_eq!(unmeasured.fate(sent, now), Fate::LateAt(now + INITIAL_PROBE_TIMEOUT));
}

/// Karn's rule, and RFC 5682: where a frame that was sent once came with one that was sent again, the first one counts.
#[test]
fn what_was_sent_once_counts_where_both_arrived() {
    let (mut path, start) = (Path::new(LIMIT), Instant::now());
    let [old, new] = [0, 40].map(|at| path.transmit(1, start + Duration::from_millis(at), false));
    let [between, repeat] = [41, 50].map(|at| path.transmit(1, start + Duration::from_millis(at), at == 50));
    let arrived = arrivals(&[(new, 10), (repeat, 20), (old, 30)]);
    assert_eq!(arrived.bytes(), 60);
    path.arrived(&arrived, start + Duration::from_millis(140));
    assert_eq!(path.probe_timeout(), Duration::from_millis(350), "100 ms, as of the newest that was sent once");
    assert_eq!(path.fate(between, start + Duration::from_secs(9)), Fate::Unknown, "the repeat proves nothing");
    // What an older one tells later takes nothing back.
    path.arrived(&arrivals(&[(old, 1)]), start + Duration::from_millis(141));
    assert_eq!(path.fate(old, start + Duration::from_secs(9)), Fate::Lost);
}

/// RFC 9002, section 5.1: the receiver may have had it for long, and could not say so.
#[test]
fn what_is_reported_after_what_was_sent_later_measures_nothing() {
    let (mut path, start) = (Path::new(LIMIT), Instant::now());
    let sent = [(); 3].map(|()| path.transmit(1, start, false));
    let repeat = path.transmit(1, start, true);
    path.arrived(&arrivals(&[(sent[1], 1)]), start + Duration::from_millis(100));
    assert_eq!(path.probe_timeout(), Duration::from_millis(350));
    path.arrived(&arrivals(&[(sent[0], 1)]), start + Duration::from_secs(9));
    assert_eq!(path.probe_timeout(), Duration::from_millis(350));
    path.arrived(&arrivals(&[(repeat, 1)]), start + Duration::from_secs(9));
    path.arrived(&arrivals(&[(sent[2], 1)]), start + Duration::from_secs(9));
    assert_eq!(path.probe_timeout(), Duration::from_millis(350), "after one that was sent again, too");
}

#[test]
fn the_window_begins_with_64_kib_and_ends_at_the_limit() {
    let now = Instant::now();
    assert_eq!((Path::new(LIMIT).window(), Path::new(1000).window()), (INITIAL_WINDOW, 1000));
    let path = Path::new(1000);
    assert!(path.allows(0, 5000), "one frame always");
    assert!(path.allows(900, 100) && !path.allows(900, 101) && path.allows(1000, 0));
    let mut path = Path::new(3 * INITIAL_WINDOW);
    for expected in [2, 3, 3] {
        let sent = path.transmit(1000, now, false);
        path.grow(&arrivals(&[(sent, INITIAL_WINDOW)]), path.window());
        assert_eq!(path.window(), expected * INITIAL_WINDOW);
    }
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let (mut path, now) = (Path::new(LIMIT), Instant::now());
    let sent = path.transmit(1000, now, false);
    path.grow(&arrivals(&[(sent, 1000)]), INITIAL_WINDOW / 2 - 1);
    path.grow(&arrivals(&[]), INITIAL_WINDOW);
    assert_eq!(path.window(), INITIAL_WINDOW);
    path.grow(&arrivals(&[(sent, 1000)]), INITIAL_WINDOW / 2);
    assert_eq!(path.window(), INITIAL_WINDOW + 1000, "half of it is enough");
}

/// Past slow start, a window's worth that arrives widens it by a segment, or by a 16th of it if that is more, but at most 4 KiB.
#[test]
fn past_slow_start_the_window_grows_by_a_segment_or_a_sixteenth() {
    for (size, len, growth_of_window) in [
        (INITIAL_WINDOW, 70, SEGMENT),
        (INITIAL_WINDOW, 9000, SEGMENT),
        (2 * INITIAL_WINDOW, 70, SEGMENT),
        (INITIAL_WINDOW / 2, 70, SEGMENT / 2),
        (INITIAL_WINDOW / 2, 3000, 3000),
    ] {
        let mut path = past_slow_start(size, len);
        assert_eq!(growth(&mut path, len, size), growth_of_window, "{size} {len}");
        let mut path = past_slow_start(size, len);
        assert_eq!(growth(&mut path, len, size / 4), growth_of_window / 4, "{size} {len}");
        assert_eq!(growth(&mut path, len, 1), 1, "{size} {len}: it never stands still");
    }
}

#[test]
fn a_loss_halves_the_window_once_for_all_that_left_before_it_was_known() {
    let (mut path, now) = (Path::new(LIMIT), Instant::now());
    let sent = [0; 4].map(|_| path.transmit(1000, now, false));
    for lost in [sent[1], sent[3], sent[0]] {
        path.lost(lost.number);
        assert_eq!(path.window(), INITIAL_WINDOW / 2);
    }
    path.grow(&arrivals(&[(sent[2], 9000)]), INITIAL_WINDOW);
    assert_eq!(path.window(), INITIAL_WINDOW / 2, "what left before says nothing of the smaller window");
    let after = path.transmit(1000, now, false);
    path.grow(&arrivals(&[(after, 1000)]), INITIAL_WINDOW);
    assert!(path.window() > INITIAL_WINDOW / 2);
    path.lost(after.number);
    assert!(path.window() < INITIAL_WINDOW / 2, "the next loss counts");
}

#[test]
fn the_window_is_never_less_than_four_segments() {
    for (len, least) in [(100, 400), (SEGMENT, 4 * SEGMENT), (50_000, 4 * SEGMENT), (0, 4)] {
        let (mut path, now) = (Path::new(LIMIT), Instant::now());
        for _ in 0..30 {
            let sent = path.transmit(len, now, false);
            path.lost(sent.number);
        }
        assert_eq!(path.window(), least);
    }
}

/// RFC 6937: else what arrived or is lost as well, which is not known yet, could keep it back.
#[test]
fn one_lost_frame_leaves_out_of_turn_after_each_word_of_the_receiver_and_each_loss() {
    let (mut path, now) = (Path::new(LIMIT), Instant::now());
    let sent = path.transmit(500, now, false);
    assert!(!path.allows_again(LIMIT, 500));
    path.arrived(&arrivals(&[]), now);
    assert!(!path.allows_again(LIMIT, 500), "it said nothing");
    path.arrived(&arrivals(&[(sent, 500)]), now);
    assert!(path.allows_again(LIMIT, 500) && !path.allows_again(LIMIT, 500));
    path.lost(sent.number);
    assert!(path.allows_again(LIMIT, 500) && !path.allows_again(LIMIT, 500));
    path.lost(sent.number);
    assert!(!path.allows_again(LIMIT, 500), "old news");
    assert!(path.allows_again(0, 500));
}

/// RFC 9002, section 7.6. The first window again, not less: no broker is known that queues less. Half of what was carried before
/// is found again in slow start.
#[test]
fn a_path_that_carried_nothing_begins_anew() {
    let now = Instant::now();
    for (size, len) in
        [(4 * INITIAL_WINDOW, 1000), (INITIAL_WINDOW, 1000), (INITIAL_WINDOW / 8, 1000), (INITIAL_WINDOW / 8, SEGMENT)]
    {
        let mut path = past_slow_start(size.max(4 * len), len);
        let before = path.window();
        path.probe();
        let answered = path.transmit(len, now, true);
        path.arrived(&arrivals(&[(answered, len)]), now);
        path.probe();
        assert_eq!(path.window(), before, "one probe without an answer is no proof");
        path.probe();
        assert_eq!(path.window(), before.min(INITIAL_WINDOW));
        path.probe();
        assert_eq!(path.window(), before.min(INITIAL_WINDOW));
        // Slow start up to the half of before.
        let sent = path.transmit(len, now, false);
        let window = path.window();
        path.grow(&arrivals(&[(sent, window)]), window);
        let doubles = window < (before / 2).max(4 * len.min(SEGMENT));
        assert_eq!(path.window() == 2 * window, doubles, "{size} {len}");
    }
}
