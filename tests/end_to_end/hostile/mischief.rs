//! What a hostile broker does next: chosen at random from a seed until a budget is used up. After that, the broker behaves
//! well, so that runs end.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The share of decisions that are hostile.
const RATE: f64 = 0.2;

/// What happens to a message on its way from one client to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Drop,
    /// Nobody gets it, and the sender gets no answer.
    Swallow,
    Late(Duration),
    /// Now, and again later.
    Twice(Duration),
}

/// What happens to an acknowledgement to a client.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Now,
    Late(Duration),
    Twice(Duration),
    /// Not on this connection, which ends after this time.
    Never(Duration),
}

#[derive(Debug)]
pub(super) struct Mischief {
    rng: StdRng,
    left: u32,
}

impl Mischief {
    /// No hostile acts.
    pub(super) fn none() -> Self {
        Self::new(0, 0)
    }

    /// At most `budget` hostile acts.
    pub(super) fn new(seed: u64, budget: u32) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), left: budget }
    }

    pub(super) fn fate(&mut self) -> Fate {
        if !self.strikes(RATE) {
            return Fate::Pass;
        }
        match self.rng.random_range(0..5) {
            0 | 1 => Fate::Drop,
            2 => Fate::Twice(self.pause(300)),
            _ => Fate::Late(self.pause(300)),
        }
    }

    pub(super) fn answer(&mut self) -> Answer {
        if !self.strikes(RATE) {
            return Answer::Now;
        }
        match self.rng.random_range(0..4) {
            0 => Answer::Never(self.pause(300)),
            1 => Answer::Twice(self.pause(20)),
            _ => Answer::Late(self.pause(400)),
        }
    }

    /// Whether to cut the connection in the middle of the packet that is being sent.
    pub(super) fn cuts(&mut self) -> bool {
        self.strikes(RATE / 4.0)
    }

    /// Whether to forget the session of a client that reconnects.
    pub(super) fn forgets(&mut self) -> bool {
        self.strikes(0.5)
    }

    /// Whether, and for how long, to leave all input waiting.
    pub(super) fn silence(&mut self) -> Option<Duration> {
        self.strikes(RATE / 8.0).then(|| self.pause(600))
    }

    fn strikes(&mut self, rate: f64) -> bool {
        let strikes = self.left > 0 && self.rng.random_bool(rate);
        self.left -= u32::from(strikes);
        strikes
    }

    fn pause(&mut self, most: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(1..=most))
    }
}
