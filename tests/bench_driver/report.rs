//! What a run found: a table to read, and a file to compute with.

use std::fmt::Write as _;

use crate::stats::{Unit, median, percentile};

/// What a figure must be.
#[derive(Clone, Copy)]
pub(crate) enum Bar {
    /// At least so many times the peer's.
    Times(f64),
    /// At most so many times the peer's.
    AtMostTimes(f64),
    /// At most this.
    AtMost(f64),
    /// Told beside its peer, without a bar.
    None,
}

/// How a figure may grow with a number.
#[derive(Clone, Copy)]
pub(crate) enum Growth {
    /// Not faster than the number: tenfold where that grows tenfold, and a fifth more for an uneven machine.
    Linear,
    /// Not at all: half as much again as where it is least is unevenness, too.
    Flat,
    /// The same up to that number.
    FlatTo(u32),
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Vec<String>>,
    /// The numbers at which growth was measured, and the rows of that.
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

    /// Adds the runs of one figure, ours and the peer's, and holds their medians against the bar.
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

    /// Adds the runs of one figure at each of these numbers, and holds how the least of them grow against the bar:
    /// whatever disturbs a run only adds to it.
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
        let until = if let Growth::FlatTo(end) = bar { format!(" to {end}") } else { String::new() };
        row.push(format!("<= {most} x{until}"));
        row.push(self.verdict(Some(ratio <= most)));
        self.growth.push(row);
    }

    fn verdict(&mut self, met: Option<bool>) -> String {
        self.bars += usize::from(met.is_some());
        self.met += usize::from(met == Some(true));
        met.map_or("", |met| if met { "met" } else { "MISSED" }).to_owned()
    }

    /// Adds a figure that a test shows, not a benchmark.
    pub(crate) fn tested(&mut self, what: &str, by: &str) {
        let row = [what, "0", &format!("test: {by}"), "", "", ""];
        self.rows.push(row.map(str::to_owned).to_vec());
    }

    /// Adds runs to the file of figures only.
    pub(crate) fn runs(&mut self, figure: &str, at: &str, who: &str, unit: Unit, runs: &[f64]) {
        let [low, middle, high] = [0.0, 0.5, 1.0].map(|part| percentile(runs, part));
        let fields = [figure, at, who, unit.name()].map(|field| format!("\"{field}\"")).join(",");
        // Writing to a String cannot fail.
        let _ = writeln!(self.csv, "{fields},{middle},{low},{high},{}", runs.len());
    }

    /// One figure, one line, for a spreadsheet.
    pub(crate) fn csv(&self) -> &str {
        &self.csv
    }

    /// The tables as text.
    pub(crate) fn table(&self) -> String {
        let head = ["figure", "sts", "beside it, in the same run", "ratio", "bar", ""].map(str::to_owned).to_vec();
        let mut text = table(&head, &self.rows);
        let mut head = vec!["growth, with so many".to_owned()];
        head.extend(self.counts.iter().map(u32::to_string));
        head.extend(["ratio", "bar", ""].map(str::to_owned));
        text.push('\n');
        text.push_str(&table(&head, &self.growth));
        text.push_str(
            "\ngrowth: least of several runs; its ratio: of a sum over the last tenfold, of a message over the least\n",
        );
        let _ = writeln!(text, "\n{} of {} bars met", self.met, self.bars);
        text
    }
}

/// Columns as wide as what is in them.
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
