//! Curves with bands, and points.

use std::fmt::Write;

use super::scale::{Scale, short, ticks};
use super::svg::{Ink, LETTER, Text, WIDTH, dashes, legend, line, mark};

/// Curves over a common axis, or points.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The curves.
    pub series: Vec<Series>,
    /// Whether the points of a series are joined.
    pub joined: bool,
}

/// An axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// Its range; by default what the values need.
    pub range: Option<[f64; 2]>,
    /// Where it has ticks; by default round values.
    pub ticks: Option<Vec<f64>>,
}

/// One curve.
#[derive(Clone, Debug)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Its colour, mark and dashes, by number.
    pub style: usize,
    /// Its points, from left to right.
    pub points: Vec<Point>,
}

/// One point.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Its place on the horizontal axis.
    pub x: f64,
    /// Its place on the vertical axis.
    pub y: f64,
    /// The ends of the band around it.
    pub interval: Option<[f64; 2]>,
}

/// Height of the plot.
const PLOT: f64 = 170.0;

/// So many points of a curve have a mark each.
const MOST_MARKED: usize = 12;

impl Lines {
    /// Draws them below a title; returns the height of the picture.
    pub(super) fn draw(&self, ink: Ink) -> (f64, String) {
        let names: Vec<_> = self.series.iter().map(|one| (one.name.clone(), one.style)).collect();
        let (top, mut drawn) = legend(&names, 34.0, ink);
        let top = top + 24.0;
        let points = || self.series.iter().flat_map(|one| &one.points);
        let (x_ticks, x_range) = self.x.scale(points().map(|point| point.x), 5);
        let ends = |point: &Point| point.interval.unwrap_or([point.y; 2]);
        let values = points().flat_map(|point| [point.y].into_iter().chain(ends(point)));
        let (y_ticks, y_range) = self.y.scale(values, 4);
        let labels: Vec<_> = y_ticks.iter().map(|tick| short(*tick)).collect();
        let widest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(1);
        let left = 14.0 + LETTER * widest as f64;
        let x = Scale { range: x_range, from: left + 6.0, to: WIDTH - 14.0 };
        let y = Scale { range: y_range, from: top + PLOT, to: top };

        drawn += &Text::quiet("start").at(8.0, top - 9.0, &self.y.label, ink);
        for (tick, label) in y_ticks.iter().zip(&labels) {
            let at = y.at(*tick);
            drawn += &line([left, at], [WIDTH - 8.0, at], &ink.of("grid"), 1.0);
            drawn += &Text::quiet("end").at(left - 5.0, at + 4.0, label, ink);
        }
        for tick in &x_ticks {
            let at = x.at(*tick);
            drawn += &line([at, top + PLOT], [at, top + PLOT + 4.0], &ink.of("quiet"), 1.0);
            drawn += &Text::quiet("middle").at(at, top + PLOT + 16.0, &short(*tick), ink);
        }
        let middle = (left + WIDTH - 8.0) / 2.0;
        drawn += &Text::quiet("middle").at(middle, top + PLOT + 32.0, &self.x.label, ink);
        // Bands lie below all curves.
        for one in &self.series {
            drawn += &band(one, &x, &y, ink);
        }
        for one in &self.series {
            drawn += &self.curve(one, &x, &y, ink);
        }
        (top + PLOT + 42.0, drawn)
    }

    fn curve(&self, one: &Series, x: &Scale, y: &Scale, ink: Ink) -> String {
        let mut drawn = String::new();
        if self.joined && one.points.len() > 1 {
            let mut path = String::new();
            for (index, point) in one.points.iter().enumerate() {
                let verb = if index == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{verb}{:.1} {:.1}", x.at(point.x), y.at(point.y));
            }
            drawn += &format!(
                "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" \
                 stroke-linejoin=\"round\"{}/>\n",
                ink.row(one.style),
                dashes(one.style)
            );
        }
        if !self.joined || one.points.len() <= MOST_MARKED {
            for point in &one.points {
                drawn += &mark(one.style, [x.at(point.x), y.at(point.y)], ink);
            }
        }
        drawn
    }
}

/// The band of a curve; of a single point, a bar.
fn band(one: &Series, x: &Scale, y: &Scale, ink: Ink) -> String {
    let ends: Vec<_> =
        one.points.iter().filter_map(|point| Some((point.x, point.interval?))).collect();
    let colour = ink.row(one.style);
    match ends.as_slice() {
        [] => String::new(),
        [(at, [low, high])] => {
            line([x.at(*at), y.at(*low)], [x.at(*at), y.at(*high)], &colour, 1.5)
        }
        ends => {
            let upper = ends.iter().map(|(at, [_, high])| (at, high));
            let lower = ends.iter().rev().map(|(at, [low, _])| (at, low));
            let corner = |(at, end): (&f64, &f64)| format!("{:.1},{:.1}", x.at(*at), y.at(*end));
            let corners: Vec<_> = upper.chain(lower).map(corner).collect();
            let corners = corners.join(" ");
            format!("<polygon points=\"{corners}\" fill=\"{colour}\" fill-opacity=\"0.16\"/>\n")
        }
    }
}

impl Axis {
    /// Its ticks and range for these values.
    fn scale(&self, values: impl Iterator<Item = f64>, wanted: usize) -> (Vec<f64>, [f64; 2]) {
        let (round, needed) = match self.range {
            Some(range) => ticks(range.into_iter(), wanted),
            None => ticks(values, wanted),
        };
        let inside = |[low, high]: [f64; 2], tick: f64| tick >= low && tick <= high;
        let round: Vec<_> = round
            .into_iter()
            .filter(|tick| self.range.is_none_or(|range| inside(range, *tick)))
            .collect();
        let own = self.ticks.clone().filter(|own| !own.is_empty());
        let range = match (self.range, own.as_deref()) {
            (Some(range), _) => range,
            (None, Some([first, .., last])) => [*first, *last],
            (None, _) => needed,
        };
        (own.unwrap_or(round), range)
    }
}
