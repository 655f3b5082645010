//! Line charts as SVG with logarithmic axes, dark if the reader's system prefers that.

use std::fmt::Write as _;

const WIDTH: f64 = 736.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 72.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 56.0;

/// Colours that colour-blind readers can distinguish, on a background of their own, so that the text is legible on any
/// page.
const STYLE: &str = "\
<style>
.page { fill: #fff; stroke: #d0d7de }
text { fill: #1f2328; font: 13px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif }
.title { font-size: 16px; font-weight: 600 }
.note { fill: #656d76 }
.grid { stroke: #d8dee4 }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.ours { stroke: #0072b2 }
.peers { stroke: #d55e00 }
.dot { fill: #fff; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
.page { fill: #0d1117; stroke: #30363d }
text { fill: #e6edf3 }
.note { fill: #9198a1 }
.grid { stroke: #2b3138 }
.ours { stroke: #56b4e9 }
.peers { stroke: #f0883e }
.dot { fill: #0d1117 }
}
</style>";

/// What a line shows: sts, or what it is compared to.
#[derive(Clone, Copy)]
pub(crate) enum Whose {
    Ours,
    Peers,
}

impl Whose {
    fn class(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peers => "peers",
        }
    }
}

/// One line of a chart.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) whose: Whose,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a chart shows.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// The marks on the x axis: positions and labels.
    pub(crate) ticks: Vec<(f64, String)>,
    pub(crate) series: Vec<Series>,
}

/// A logarithmic axis between two values.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        self.from
            + (self.to - self.from) * (value.max(self.low).ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
    }
}

impl Chart {
    /// The complete file, with a note under the title.
    pub(crate) fn svg(&self, note: &str) -> String {
        let values = || self.series.iter().flat_map(|series| &series.points);
        let range = |of: fn(&(f64, f64)) -> f64| {
            let all = values().map(of).filter(|value| *value > 0.0);
            all.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
        };
        let (low, high) = range(|point| point.1);
        let y = Axis { low: power(low, f64::floor), high: power(high, f64::ceil), from: HEIGHT - BOTTOM, to: TOP };
        let (low, high) = range(|point| point.0);
        let x = Axis { low, high, from: LEFT, to: WIDTH - RIGHT };
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = self.draw_frame(&mut svg, &x, &y, note);
        for (row, series) in (0_u32..).zip(&self.series) {
            let _ = series.draw(&mut svg, &x, &y, f64::from(row));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_frame(&self, svg: &mut String, x: &Axis, y: &Axis, note: &str) -> std::fmt::Result {
        let label = format!("{}: {} over {}", self.title, self.y, self.x);
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#,
            escape(&label)
        )?;
        writeln!(svg, "{STYLE}")?;
        let (width, height) = (WIDTH - 1.0, HEIGHT - 1.0);
        writeln!(svg, r#"<rect class="page" x="0.5" y="0.5" width="{width}" height="{height}" rx="8"/>"#)?;
        writeln!(svg, r#"<text class="title" x="{LEFT}" y="28">{}</text>"#, escape(self.title))?;
        writeln!(svg, r#"<text class="note" x="{LEFT}" y="47">{}</text>"#, escape(note))?;
        let (middle, foot) = (f64::midpoint(x.from, x.to), HEIGHT - 14.0);
        writeln!(svg, r#"<text class="note" x="{middle}" y="{foot}" text-anchor="middle">{}</text>"#, escape(self.x))?;
        let turned = format!("translate(20 {}) rotate(-90)", f64::midpoint(y.from, y.to));
        writeln!(svg, r#"<text class="note" transform="{turned}" text-anchor="middle">{}</text>"#, escape(self.y))?;
        let mut mark = y.low;
        while mark <= y.high * 1.01 {
            let at = y.place(mark);
            writeln!(svg, r#"<path class="grid" d="M{LEFT} {at:.1}H{:.1}"/>"#, x.to)?;
            let label = thousands(mark);
            writeln!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#, LEFT - 8.0, at + 4.5)?;
            mark *= 10.0;
        }
        for (value, label) in &self.ticks {
            let at = x.place(*value);
            writeln!(svg, r#"<path class="grid" d="M{at:.1} {TOP}V{:.1}"/>"#, y.from)?;
            let below = y.from + 19.0;
            writeln!(svg, r#"<text x="{at:.1}" y="{below:.1}" text-anchor="middle">{}</text>"#, escape(label))?;
        }
        Ok(())
    }
}

impl Series {
    fn draw(&self, svg: &mut String, x: &Axis, y: &Axis, row: f64) -> std::fmt::Result {
        let class = self.whose.class();
        let dash = if self.dashed { r#" stroke-dasharray="6 4""# } else { "" };
        let places: Vec<_> = self.points.iter().map(|(at, of)| (x.place(*at), y.place(*of))).collect();
        let path: Vec<_> = places.iter().map(|(at, of)| format!("{at:.1},{of:.1}")).collect();
        writeln!(svg, r#"<polyline class="line {class}"{dash} points="{}"/>"#, path.join(" "))?;
        for (at, of) in &places {
            writeln!(svg, r#"<circle class="dot {class}" cx="{at:.1}" cy="{of:.1}" r="3"/>"#)?;
        }
        let (from, at) = (x.to + 16.0, TOP + 10.0 + 22.0 * row);
        writeln!(svg, r#"<path class="line {class}"{dash} d="M{from} {at}h22"/>"#)?;
        writeln!(svg, r#"<text x="{}" y="{}">{}</text>"#, from + 30.0, at + 4.5, escape(&self.name))
    }
}

/// A power of ten with a comma between thousands.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (front, back) = digits.split_at(digits.len().saturating_sub(3));
    if value < 1.0 || front.is_empty() { format!("{value}") } else { format!("{front},{back}") }
}

/// A value rounded to a power of ten.
fn power(value: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(value.log10()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
