//! Line charts as SVG, with logarithmic axes, readable on light and dark pages.

use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;

/// One line of a chart.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) colour: &'static str,
    pub(crate) dashed: bool,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What a chart shows.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Where the x axis is marked, and with what.
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
    /// The whole file.
    pub(crate) fn svg(&self) -> String {
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
        let _ = self.draw(&mut svg, &x, &y);
        svg
    }

    fn draw(&self, svg: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
        writeln!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">"#
        )?;
        writeln!(svg, r##"<rect width="100%" height="100%" fill="#fff"/>"##)?;
        writeln!(svg, r##"<g fill="#333"><text x="{LEFT}" y="22" font-size="14">{}</text>"##, escape(&self.title))?;
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        writeln!(svg, r#"<text x="{middle}" y="{}" text-anchor="middle">{}</text>"#, HEIGHT - 12.0, escape(self.x))?;
        let centre = f64::midpoint(TOP, HEIGHT - BOTTOM);
        writeln!(
            svg,
            r#"<text transform="translate(16 {centre}) rotate(-90)" text-anchor="middle">{}</text>"#,
            escape(self.y)
        )?;
        let mut mark = y.low;
        while mark <= y.high * 1.01 {
            let at = y.place(mark);
            writeln!(svg, r##"<path d="M{LEFT} {at:.1}H{:.1}" stroke="#ddd"/>"##, WIDTH - RIGHT)?;
            writeln!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{mark}</text>"#, LEFT - 6.0, at + 4.0)?;
            mark *= 10.0;
        }
        for (value, label) in &self.ticks {
            let at = x.place(*value);
            writeln!(svg, r##"<path d="M{at:.1} {TOP}V{:.1}" stroke="#eee"/>"##, HEIGHT - BOTTOM)?;
            writeln!(
                svg,
                r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                HEIGHT - BOTTOM + 17.0,
                escape(label)
            )?;
        }
        writeln!(svg, "</g>")?;
        for (row, series) in self.series.iter().enumerate() {
            let Series { name, colour, dashed, points } = series;
            let path: Vec<_> =
                points.iter().map(|(at, of)| format!("{:.1},{:.1}", x.place(*at), y.place(*of))).collect();
            let dash = if *dashed { r#" stroke-dasharray="5 4""# } else { "" };
            let style = format!(r#"fill="none" stroke="{colour}" stroke-width="2"{dash}"#);
            writeln!(svg, r#"<polyline points="{}" {style}/>"#, path.join(" "))?;
            let at = TOP + 10.0 + 20.0 * f64::from(u32::try_from(row).unwrap_or(0));
            let from = WIDTH - RIGHT + 10.0;
            writeln!(svg, r#"<path d="M{from} {at}h20" {style}/>"#)?;
            writeln!(svg, r##"<text x="{}" y="{}" fill="#333">{}</text>"##, from + 26.0, at + 4.0, escape(name))?;
        }
        writeln!(svg, "</svg>")
    }
}

/// The power of ten next to a value.
fn power(value: f64, round: fn(f64) -> f64) -> f64 {
    10_f64.powf(round(value.log10()))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
