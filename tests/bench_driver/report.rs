//! What a run found: a table to read, and a file to compute with.

use std::fmt::Write as _;

use crate::stats::{median, percentile};

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

/// What a figure counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    LinesPerSecond,
    BytesPerSecond,
    Seconds,
    Bytes,
    /// Bytes, one by one.
    Octets,
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::LinesPerSecond if value >= 1e6 => format!("{:.2} M lines/s", value / 1e6),
            Self::LinesPerSecond => format!("{:.0} k lines/s", value / 1e3),
            Self::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
            Self::Seconds if value < 1e-3 => format!("{:.0} us", value * 1e6),
            Self::Seconds => format!("{:.1} ms", value * 1e3),
            Self::Bytes => format!("{:.2} MB", value / 1e6),
            Self::Octets => format!("{value:.0} bytes"),
            Self::Count => format!("{value:.0}"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::LinesPerSecond => "lines/s",
            Self::BytesPerSecond => "bytes/s",
            Self::Seconds => "s",
            Self::Bytes | Self::Octets => "bytes",
            Self::Count => "",
        }
    }
}

/// Everything that was measured.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 6]>,
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
        self.bars += usize::from(met.is_some());
        self.met += usize::from(met == Some(true));
        let ratio = if ratio.is_nan() { String::new() } else { format!("{ratio:.2} x") };
        let verdict = met.map_or("", |met| if met { "met" } else { "MISSED" });
        self.rows.push([what.to_owned(), unit.show(own), beside, ratio, wanted, verdict.to_owned()]);
    }

    /// Adds a figure that a test shows, not a benchmark.
    pub(crate) fn tested(&mut self, what: &str, by: &str) {
        self.rows.push([
            what.to_owned(),
            "0".to_owned(),
            format!("test: {by}"),
            String::new(),
            String::new(),
            String::new(),
        ]);
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

    /// The table as text.
    pub(crate) fn table(&self) -> String {
        let head = ["figure", "sts", "beside it, in the same run", "ratio", "bar", ""].map(str::to_owned);
        let mut widths = [0; 6];
        for row in self.rows.iter().chain([&head]) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        let rule = widths.map(|width| "-".repeat(width));
        for row in [&head, &rule].into_iter().chain(&self.rows) {
            let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        let _ = writeln!(text, "\n{} of {} bars met", self.met, self.bars);
        text
    }
}
