//! The results of a run: two tables to read, and a CSV file to compute with.

use std::fmt::Write as _;

use crate::stats::{Unit, median, percentile};

/// The limit that a figure is checked against.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// At least this many times the figure that it is compared to.
    Times(f64),
    /// At most this many times the figure that it is compared to.
    AtMostTimes(f64),
    /// At most this value.
    AtMost(f64),
    /// Compared without a limit.
    None,
}

/// How a figure may grow with the number N.
#[derive(Clone, Copy)]
pub(crate) enum Growth {
    /// In proportion to N: tenfold if N grows tenfold, plus a fifth for noise.
    Linear,
    /// Not at all: up to one and a half times the least value counts as noise.
    Flat,
    /// Not at all up to that N.
    FlatTo(u32),
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Vec<String>>,
    /// The numbers N at which growth was measured.
    counts: Vec<u32>,
    growth: Vec<Vec<String>>,
    csv: String,
    met: usize,
    bars: usize,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { csv: "figure,at,who,unit,median,least,most,runs\n".to_owned(), ..Self::default() }
    }

    /// Adds the runs of one figure and of the one that it is compared to, and checks their medians against the limit.
    pub(crate) fn row(&mut self, what: &str, unit: Unit, ours: &[f64], peer: Option<(&str, &[f64])>, bar: Bar) {
        self.runs(what, "", "sts", unit, ours);
        let own = median(ours);
        let mut ratio = f64::NAN;
        let mut beside = String::new();
        if let Some((name, runs)) = peer {
            self.runs(what, "", name, unit, runs);
            ratio = own / median(runs);
            beside = format!("{}  {name}", unit.show(median(runs)));
        }
        let (wanted, met) = match bar {
            Bar::Times(least) => (format!(">= {least} x"), Some(ratio >= least)),
            Bar::AtMostTimes(most) => (format!("<= {most} x"), Some(ratio <= most)),
            Bar::AtMost(most) => (format!("<= {}", unit.show(most)), Some(own <= most)),
            Bar::None => (String::new(), None),
        };
        let ratio = if ratio.is_nan() { String::new() } else { format!("{ratio:.2} x") };
        let verdict = self.verdict(met);
        self.rows.push(vec![what.to_owned(), unit.show(own), beside, ratio, wanted, verdict]);
    }

    /// Adds the runs of one figure at each N, and checks how the least of them grow against the limit. The least is
    /// used because a disturbance can only make a run slower.
    pub(crate) fn growth(&mut self, what: &str, unit: Unit, at: &[(u32, Vec<f64>)], bar: Growth) {
        let mut values = Vec::new();
        for (count, runs) in at {
            self.runs(what, &count.to_string(), "sts", unit, runs);
            values.push(percentile(runs, 0.0));
        }
        if at.len() > self.counts.len() {
            self.counts = at.iter().map(|(count, _)| *count).collect();
        }
        let [.., before, last] = values[..] else { return };
        let (ratio, most) = match bar {
            Growth::Linear => (last / before, 12.0),
            Growth::Flat => (last / percentile(&values, 0.0), 1.5),
            Growth::FlatTo(end) => {
                let within = &values[..at.iter().take_while(|(count, _)| *count <= end).count()];
                (within.last().unwrap_or(&last) / percentile(within, 0.0), 1.5)
            }
        };
        let mut row = vec![what.to_owned()];
        row.extend(values.iter().map(|value| unit.show(*value)));
        row.push(format!("{ratio:.2} x"));
        let until = if let Growth::FlatTo(end) = bar { format!(" up to N = {end}") } else { String::new() };
        row.push(format!("<= {most} x{until}"));
        row.push(self.verdict(Some(ratio <= most)));
        self.growth.push(row);
    }

    fn verdict(&mut self, met: Option<bool>) -> String {
        self.bars += usize::from(met.is_some());
        self.met += usize::from(met == Some(true));
        met.map_or("", |met| if met { "met" } else { "MISSED" }).to_owned()
    }

    /// Adds a figure that a test proves, not the benchmark.
    pub(crate) fn tested(&mut self, what: &str, by: &str) {
        let row = [what, "0", &format!("test: {by}"), "", "", ""];
        self.rows.push(row.map(str::to_owned).to_vec());
    }

    /// Adds runs to the CSV file only.
    pub(crate) fn runs(&mut self, figure: &str, at: &str, who: &str, unit: Unit, runs: &[f64]) {
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|part| percentile(runs, part));
        let fields = [figure, at, who, unit.name()].map(|field| format!("\"{field}\"")).join(",");
        // Writing to a String cannot fail.
        let _ = writeln!(self.csv, "{fields},{middle},{low},{high},{}", runs.len());
    }

    /// The figures as CSV, one per line.
    pub(crate) fn csv(&self) -> &str {
        &self.csv
    }

    /// The tables as text.
    pub(crate) fn table(&self) -> String {
        let head = ["figure", "sts", "compared to", "ratio", "limit", ""].map(str::to_owned).to_vec();
        let mut text = table(&head, &self.rows);
        let mut head = vec!["N".to_owned()];
        head.extend(self.counts.iter().map(u32::to_string));
        head.extend(["ratio", "limit", ""].map(str::to_owned));
        text.push('\n');
        text.push_str(&table(&head, &self.growth));
        text.push_str(
            "\nsecond table: the least of several runs; the ratio of a total is its last value to the one before,\n\
             that of a cost per message is its last value to the least\n",
        );
        let _ = writeln!(text, "\n{} of {} limits met", self.met, self.bars);
        text
    }
}

/// A table whose columns are as wide as their longest cell.
fn table(head: &Vec<String>, rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().chain([head]).filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut text = String::new();
    for row in [head, &rule].into_iter().chain(rows) {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}
