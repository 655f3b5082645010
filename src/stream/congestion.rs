//! Congestion control for streams that are confirmed: how much may be on the way at once, and what of it is lost.
//!
//! A broker queues for a client as much as it likes, and drops the rest without a word: 64 KiB, a hundred messages, or all of it.
//! Only the receiver's confirms tell. So this is what a transport does on a path that drops: loss detection and `NewReno` as in
//! RFC 9002 (sections 5 to 7, appendices A and B), where a packet is one transmission of a frame. No I/O and no clock.
//!
//! Where we differ, and why:
//!
//! - The window begins with 64 KiB (the RFC's is ten packets, at most 14,720 bytes): no broker is known that queues less.
//! - One frame is always allowed, however small the window: frames have any size up to `max_message`.
//! - A segment, by which the window grows past slow start and of which it has a few at least, is a frame, but at most 4 KiB. So
//!   with frames of 64 KiB, a broker that has room for one of them sees a loss in 16 round trips, not in each. With short
//!   frames, the window grows by a 16th of itself (Scalable TCP), or thousands of them would take thousands of round trips.
//! - That others overtook a frame is no loss before the time for that has passed, however many they are (RFC 8985): where a
//!   cluster or a bridge mixes up short frames, that is hundreds, and waiting costs an eighth of a round trip.
//! - A second transmission cannot be told from the first one, as both are the same bytes. So Karn's rule holds for
//!   measurements (RFC 6298, section 3), and what was sent once counts where both came, as in RFC 5682. Its other half holds,
//!   too: the timeout stays doubled until something that was sent once arrives (sections 5.5 and 5.7 there). If it is shorter
//!   than a frame takes, each frame would otherwise be sent twice, and none measured. But what arrives at once after a long
//!   silence is the probe, and was lost before: then the timeout is not what is wrong, and is as before, or doubled once where
//!   no round trip was measured. That holds once: a frame that takes a little longer than the timeout looks alike.
//!
//! [`Path`] is what is known of the way to the receiver. It outlives a stream: the next one takes the same way.

use std::time::{Duration, Instant};

/// The window of a run that has not heard anything yet.
pub(super) const INITIAL_WINDOW: usize = 64 << 10;
/// The largest segment.
const MAX_SEGMENT: usize = 4 << 10;
/// The least window, in segments: what is sent next tells that one of them is lost.
const MIN_SEGMENTS: usize = 4;
/// The window grows by this part of itself in a round trip, if that is more than a segment; never by more than the largest.
const GROWTH_DIVISOR: usize = 16;
/// Timers are no finer (RFC 9002, section 6.1.2).
const GRANULARITY: Duration = Duration::from_millis(1);
/// How long a receiver keeps a confirm back (`sts-protocol(7)`, "Confirms").
pub(crate) const MAX_CONFIRM_DELAY: Duration = Duration::from_millis(50);
/// How long nothing is confirmed before the first unconfirmed frame is sent again, while no round trip was measured. Half of the
/// RFC's: it counts from when the broker has acknowledged all frames, and a receiver waits a second for the rest of a line.
pub(super) const INITIAL_PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// The shortest such time: a receiver's standard output may stall for that long, and nothing is lost then.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_millis(100);
/// The longest, after doubling.
pub(super) const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(30);
/// What is heard within this part of the silence before a probe is the answer to it, not to an earlier transmission.
const ANSWER_DIVISOR: u32 = 8;
/// So many probes without an answer, and what is lost was lost to a path that carried nothing (RFC 9002, section 7.6).
const PERSISTENT_PROBES: u32 = 2;

/// One transmission of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmission {
    /// Counts all transmissions of a path: a higher one left later.
    pub(super) number: u64,
    pub(super) at: Instant,
    /// The frame was sent before.
    pub(super) is_repeat: bool,
}

/// What is said of a transmission that was not heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing that was sent later arrived.
    Unknown,
    /// Something that was sent later arrived: it is lost if it does not arrive before this time.
    LateAt(Instant),
    Lost,
}

/// What is known of the way to the receiver and back.
#[derive(Debug)]
pub(super) struct Path {
    window: Window,
    /// The number of the next transmission.
    next: u64,
    /// The transmissions below left before the window was last reduced: that they are lost is old news.
    recovery_end: u64,
    /// Something arrived, or the window was just reduced: one lost frame may leave although the window is full (RFC 6937; RFC 9002,
    /// section 7.3.2). Else what arrived or is lost as well, which is not known yet, could keep it back.
    resends_at_once: bool,
    /// The highest transmission that arrived.
    newest_arrived: Option<u64>,
    round_trip: Option<RoundTrip>,
    probes: Probes,
}

/// What was sent because nothing was heard.
#[derive(Debug, Default)]
struct Probes {
    /// How many, since something arrived.
    unanswered: u32,
    /// How many, since something arrived that measures the timeout: it is doubled as often.
    doublings: u32,
    /// How long nothing was heard before the latest one.
    silence: Duration,
    /// One was answered at once, since something arrived that measures the timeout.
    was_at_once: bool,
}

/// How many bytes may be on the way (RFC 9002, section 7).
#[derive(Debug)]
struct Window {
    size: usize,
    /// The largest size.
    limit: usize,
    /// Below this size, each round trip doubles it.
    slow_start_threshold: usize,
    /// The length of the newest frame, at most [`MAX_SEGMENT`].
    segment: usize,
}

/// Measured as in RFC 9002, section 5.
#[derive(Clone, Copy, Debug)]
struct RoundTrip {
    smoothed: Duration,
    variation: Duration,
    latest: Duration,
}

/// What arrived with one word of the receiver.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    bytes: usize,
    /// The newest of the frames that were sent once, and of the others.
    once: Option<Transmission>,
    repeated: Option<Transmission>,
}

impl Arrivals {
    pub(super) fn add(&mut self, transmission: Transmission, len: usize) {
        self.bytes += len;
        let newest = if transmission.is_repeat { &mut self.repeated } else { &mut self.once };
        if newest.is_none_or(|newest| newest.number < transmission.number) {
            *newest = Some(transmission);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn newest(&self) -> Option<Transmission> {
        self.once.or(self.repeated)
    }
}

impl Path {
    /// A path of which nothing is known; `limit` is the largest window.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            window: Window::new(limit),
            next: 0,
            recovery_end: 0,
            resends_at_once: false,
            newest_arrived: None,
            round_trip: None,
            probes: Probes::default(),
        }
    }

    /// Whether a frame of `len` bytes may leave while `in_flight` bytes are on the way.
    pub(super) fn allows(&self, in_flight: usize, len: usize) -> bool {
        in_flight == 0 || in_flight + len <= self.window.size
    }

    /// Whether a lost frame of `len` bytes may leave while `in_flight` bytes are on the way; true out of turn once.
    pub(super) fn allows_again(&mut self, in_flight: usize, len: usize) -> bool {
        std::mem::take(&mut self.resends_at_once) || self.allows(in_flight, len)
    }

    /// A frame of `len` bytes leaves now.
    pub(super) fn transmit(&mut self, len: usize, now: Instant, is_repeat: bool) -> Transmission {
        self.window.segment = len.clamp(1, MAX_SEGMENT);
        self.next += 1;
        Transmission { number: self.next - 1, at: now, is_repeat }
    }

    /// Something arrived. What is lost follows from that, and only then [`Path::grow`].
    pub(super) fn arrived(&mut self, arrivals: &Arrivals, now: Instant) {
        // The original of a repeat arrived if what was sent right after it did: the repeat itself proves nothing then.
        let Some(newest) = arrivals.newest() else { return };
        self.probes.answered(newest, self.round_trip.is_some(), now);
        self.resends_at_once = true;
        // Of an older one the receiver could not tell before, as it reports a few ranges at once: when it arrived is not known
        // (RFC 9002, section 5.1).
        let is_sample = self.newest_arrived < Some(newest.number) && !newest.is_repeat;
        self.newest_arrived = self.newest_arrived.max(Some(newest.number));
        if is_sample {
            let latest = now.saturating_duration_since(newest.at);
            self.round_trip = Some(self.round_trip.map_or(RoundTrip::first(latest), |known| known.measure(latest)));
        }
    }

    /// Widens the window for what arrived while `in_flight` bytes were on the way, that included.
    pub(super) fn grow(&mut self, arrivals: &Arrivals, in_flight: usize) {
        // A window that was not used says nothing of the path (RFC 9002, section 7.8).
        let was_used = in_flight >= self.window.size / 2;
        if was_used && arrivals.newest().is_some_and(|newest| newest.number >= self.recovery_end) {
            self.window.grow(arrivals.bytes);
        }
    }

    /// What became of a transmission of which nothing was heard.
    pub(super) fn fate(&self, transmission: Transmission, now: Instant) -> Fate {
        if self.newest_arrived.is_none_or(|newest| newest <= transmission.number) {
            return Fate::Unknown;
        }
        let late_at = transmission.at + self.max_reordering();
        if now >= late_at { Fate::Lost } else { Fate::LateAt(late_at) }
    }

    /// How much later a frame may arrive than one that was sent after it (RFC 9002, section 6.1.2).
    fn max_reordering(&self) -> Duration {
        self.round_trip
            .map_or(INITIAL_PROBE_TIMEOUT, |measured| (measured.smoothed.max(measured.latest) * 9 / 8).max(GRANULARITY))
    }

    /// The transmission of this number is lost: the window is halved, once for all that left before that is known.
    pub(super) fn lost(&mut self, number: u64) {
        if number < self.recovery_end {
            return;
        }
        self.recovery_end = self.next;
        self.resends_at_once = true;
        self.window.halve();
    }

    /// A probe leaves, as nothing is heard.
    pub(super) fn probe(&mut self) {
        let silence = self.probe_timeout();
        let Probes { unanswered, doublings, was_at_once, .. } = self.probes;
        let (unanswered, doublings) = (unanswered.saturating_add(1), doublings.saturating_add(1));
        self.probes = Probes { unanswered, doublings, silence, was_at_once };
        if self.probes.unanswered == PERSISTENT_PROBES {
            self.window.begin_anew();
        }
    }

    /// How many bytes may be on the way.
    #[cfg(test)]
    pub(super) fn window(&self) -> usize {
        self.window.size
    }

    /// How long nothing is heard before the next probe (RFC 9002, section 6.2.1).
    pub(super) fn probe_timeout(&self) -> Duration {
        let timeout = self.round_trip.map_or(INITIAL_PROBE_TIMEOUT, |measured| {
            let timeout = measured.smoothed + (measured.variation * 4).max(GRANULARITY) + MAX_CONFIRM_DELAY;
            timeout.max(MIN_PROBE_TIMEOUT)
        });
        timeout.saturating_mul(1 << self.probes.doublings.min(10)).min(MAX_PROBE_TIMEOUT)
    }
}

impl Probes {
    /// Something arrived, of which this is the newest; a round trip was measured before, or none was.
    fn answered(&mut self, newest: Transmission, was_measured: bool, now: Instant) {
        self.unanswered = 0;
        if !newest.is_repeat {
            (self.doublings, self.was_at_once) = (0, false);
            return;
        }
        let is_at_once = now.saturating_duration_since(newest.at) <= self.silence / ANSWER_DIVISOR;
        if is_at_once && !std::mem::replace(&mut self.was_at_once, true) {
            self.doublings = self.doublings.min(u32::from(!was_measured));
        }
    }
}

impl Window {
    fn new(limit: usize) -> Self {
        Self { size: INITIAL_WINDOW.min(limit), limit, slow_start_threshold: usize::MAX, segment: MAX_SEGMENT }
    }

    /// So many bytes arrived, and the window was used.
    fn grow(&mut self, arrived: usize) {
        let is_slow_start = self.size < self.slow_start_threshold;
        let step = (self.size / GROWTH_DIVISOR).clamp(self.segment, MAX_SEGMENT);
        let growth = if is_slow_start { arrived } else { (step * arrived / self.size).max(1) };
        self.size = (self.size + growth).min(self.limit);
    }

    /// The path carries less than this.
    fn halve(&mut self) {
        self.slow_start_threshold = self.half();
        self.size = self.slow_start_threshold;
    }

    /// The path carried nothing (RFC 9002, section 7.6): half of what it carried before is found in slow start again.
    fn begin_anew(&mut self) {
        self.slow_start_threshold = self.half();
        self.size = self.size.min(INITIAL_WINDOW);
    }

    fn half(&self) -> usize {
        (self.size / 2).max(MIN_SEGMENTS * self.segment)
    }
}

impl RoundTrip {
    fn first(latest: Duration) -> Self {
        Self { smoothed: latest, variation: latest / 2, latest }
    }

    fn measure(self, latest: Duration) -> Self {
        let Self { smoothed, variation, .. } = self;
        let variation = (variation * 3 + smoothed.abs_diff(latest)) / 4;
        let smoothed = (smoothed * 7 + latest) / 8;
        Self { smoothed, variation, latest }
    }
}
