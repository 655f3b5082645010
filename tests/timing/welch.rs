//! Welch's t-test between two classes of times, as a whole and without the slowest ones of both.
//!
//! An interrupt takes longer than what is measured, so a small difference shows only once such times are cropped. Nobody knows
//! where to crop, so it is done at many places, each a test of its own (Reparaz, Balasch and Verbauwhede, "Dude, is my code
//! constant time?", 2017).

/// How many tests crop.
const CROPS: usize = 100;

/// Means and variances of both classes, as they come in (Welford's algorithm).
#[derive(Clone, Copy, Default)]
struct Samples {
    count: [f64; 2],
    mean: [f64; 2],
    squares: [f64; 2],
}

impl Samples {
    fn add(&mut self, class: usize, value: f64) {
        self.count[class] += 1.0;
        let delta = value - self.mean[class];
        self.mean[class] += delta / self.count[class];
        self.squares[class] += delta * (value - self.mean[class]);
    }

    fn t(&self) -> f64 {
        let variance = |class: usize| self.squares[class] / (self.count[class] - 1.0) / self.count[class];
        if self.count.iter().any(|count| *count < 2.0) {
            return 0.0;
        }
        let error = (variance(0) + variance(1)).sqrt();
        if error > 0.0 { (self.mean[0] - self.mean[1]) / error } else { 0.0 }
    }
}

/// All tests of one case.
pub(crate) struct Test {
    /// Times above are cropped; the last one crops nothing.
    limits: Vec<u64>,
    samples: Vec<Samples>,
}

/// The largest t of all tests, and what the test had that gave it.
pub(crate) struct Outcome {
    /// Its sign says which class took longer.
    pub(crate) t: f64,
    /// Measurements that were not cropped.
    pub(crate) kept: f64,
    /// Mean of the first class, in nanoseconds.
    pub(crate) mean: f64,
    /// Difference of the means, in nanoseconds.
    pub(crate) difference: f64,
}

impl Test {
    /// Crops where the slowest of the times in `pilot` are, which count for nothing else.
    pub(crate) fn new(mut pilot: Vec<u64>) -> Self {
        pilot.sort_unstable();
        let limit = |crop: usize| {
            // Closer to the end the further on: 1 - 0.5 ^ (10 * crop / CROPS).
            let kept = 1.0 - 0.5_f64.powf(10.0 * crop as f64 / CROPS as f64);
            pilot[((pilot.len() - 1) as f64 * kept) as usize]
        };
        let limits: Vec<u64> = (1..=CROPS).map(limit).chain([u64::MAX]).collect();
        Self { samples: vec![Samples::default(); limits.len()], limits }
    }

    pub(crate) fn add(&mut self, class: usize, time: u64) {
        let first = self.limits.partition_point(|limit| *limit < time);
        for samples in &mut self.samples[first..] {
            samples.add(class, time as f64);
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let total: f64 = self.samples.last().map_or(0.0, |all| all.count.iter().sum());
        // A test of a few measurements says nothing.
        let large = self.samples.iter().filter(|samples| samples.count.iter().sum::<f64>() >= total / 20.0);
        let worst = large.max_by(|one, other| one.t().abs().total_cmp(&other.t().abs()));
        let worst = worst.copied().unwrap_or_default();
        Outcome {
            t: worst.t(),
            kept: worst.count.iter().sum(),
            mean: worst.mean[0],
            difference: worst.mean[0] - worst.mean[1],
        }
    }
}
