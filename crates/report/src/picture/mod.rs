//! Pictures of figures, as SVG and as the numbers behind them.

mod heat;
mod lines;
mod scale;
mod svg;

use std::fmt::Write;

use crate::escape::csv_line;
pub use heat::{Heat, Panel};
pub use lines::{Axis, Lines, Point, Series};
pub use svg::{COLOURS, Ink};

/// A picture with its title and the numbers behind it.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its name in file names.
    pub name: String,
    /// Its title.
    pub title: String,
    /// What bands, points and colours mean.
    pub note: String,
    /// What it shows.
    pub chart: Chart,
}

/// What a picture shows.
#[derive(Clone, Debug)]
pub enum Chart {
    /// Curves or points.
    Lines(Lines),
    /// Values as shades.
    Heat(Heat),
}

impl Picture {
    /// The picture as an SVG element of 360 units in width, without any script or reference.
    pub fn svg(&self, ink: Ink) -> String {
        let (height, drawn) = match &self.chart {
            Chart::Lines(lines) => lines.draw(ink),
            Chart::Heat(heat) => heat.draw(ink),
        };
        svg::frame(self, height, &drawn, ink)
    }

    /// The picture in words, for those who do not see it.
    pub fn description(&self) -> String {
        let mut text = String::new();
        match &self.chart {
            Chart::Lines(Lines { x, y, series, .. }) => {
                for Series { name, points, .. } in series {
                    // Of a long curve, the ends and the middle.
                    let shown = match points.len() {
                        0..=8 => (0..points.len()).collect(),
                        n => vec![0, n / 2, n - 1],
                    };
                    let shown = shown.into_iter().map(|index| {
                        let Point { x, y, .. } = points[index];
                        format!("{} at {}", scale::short(y), scale::short(x))
                    });
                    let shown: Vec<_> = shown.collect();
                    let _ = write!(text, "{name}: {}. ", shown.join(", "));
                }
                format!("{} by {}. {}", y.label, x.label, text.trim_end())
            }
            Chart::Heat(Heat { value, columns, rows, panels, .. }) => {
                for Panel { name, values } in panels {
                    let all = || values.iter().flatten().flatten().copied();
                    let least = all().min_by(f64::total_cmp).map_or("-".into(), scale::short);
                    let most = all().max_by(f64::total_cmp).map_or("-".into(), scale::short);
                    let _ = write!(text, "{name}: {least} to {most}. ");
                }
                let (rows, columns) = (rows.len(), columns.len());
                format!("{value}, {rows} rows by {columns} columns. {}", text.trim_end())
            }
        }
    }

    /// The numbers behind it, as CSV with a header.
    pub fn csv(&self) -> String {
        match &self.chart {
            Chart::Lines(Lines { x, y, series, .. }) => {
                let mut text = csv_line(["series", &x.label, &y.label, "low", "high"]);
                for Series { name, points, .. } in series {
                    for Point { x, y, interval } in points {
                        let end =
                            |index: usize| interval.map_or(String::new(), |i| i[index].to_string());
                        let cells = [name.clone(), x.to_string(), y.to_string(), end(0), end(1)];
                        text += &csv_line(cells.iter().map(String::as_str));
                    }
                }
                text
            }
            Chart::Heat(Heat { x_label, y_label, value, columns, rows, panels }) => {
                let mut text = csv_line(["panel", y_label, x_label, value]);
                for Panel { name, values } in panels {
                    for (row, cells) in rows.iter().zip(values) {
                        for (column, cell) in columns.iter().zip(cells) {
                            let cell = cell.map_or(String::new(), |value| value.to_string());
                            text += &csv_line([name.as_str(), row, column, &cell]);
                        }
                    }
                }
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(name: &str) -> Picture {
        let point = |x, y: f64| Point { x, y, interval: Some([y - 5.0, y + 5.0]) };
        let series =
            Series { name: name.into(), style: 2, points: vec![point(0.0, 5.0), point(0.2, 15.0)] };
        let axis = |label: &str| Axis { label: label.into(), ..Axis::default() };
        let lines = Lines {
            x: axis("p"),
            y: Axis { range: Some([0.0, 100.0]), ..axis("harmful score") },
            series: vec![series],
            joined: true,
        };
        Picture {
            name: "score".into(),
            title: "Score <by> p".into(),
            note: String::new(),
            chart: Chart::Lines(lines),
        }
    }

    fn heat() -> Picture {
        let panel = Panel { name: "<b>".into(), values: vec![vec![Some(0.5), None]] };
        let text = |text: &str| text.to_owned();
        let heat = Heat {
            x_label: "step".into(),
            y_label: "layer".into(),
            value: "drift".into(),
            columns: vec![text("1"), text("=2")],
            rows: vec![text("0")],
            panels: vec![panel],
        };
        let (name, title) = (text("drift"), text("Drift"));
        Picture { name, title, note: String::new(), chart: Chart::Heat(heat) }
    }

    /// Opening and closing tags match, and text is escaped.
    fn well_formed(svg: &str) {
        let mut open: Vec<&str> = Vec::new();
        for tag in svg.split('<').skip(1) {
            let (tag, _) = tag.split_once('>').expect("a tag ends");
            let name = tag.split([' ', '/']).find(|part| !part.is_empty()).expect("a name");
            match (tag.starts_with('/'), tag.ends_with('/')) {
                (true, _) => assert_eq!(open.pop(), Some(name), "{svg}"),
                (false, true) => {}
                (false, false) => open.push(name),
            }
        }
        assert!(open.is_empty(), "{open:?} in {svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn pictures_are_well_formed_and_escape_their_texts() {
        for picture in [lines("<script>alert(1)</script>"), heat()] {
            for ink in [Ink::Page, Ink::File] {
                let svg = picture.svg(ink);
                well_formed(&svg);
                assert!(!svg.contains("<script") && !svg.contains("<b>"), "{svg}");
                assert!(!svg.contains("href") && !svg.contains("url("), "{svg}");
                assert!(svg.contains("role=\"img\"") && svg.contains("<desc"), "{svg}");
            }
        }
        let svg = lines("<script>alert(1)</script>").svg(Ink::File);
        assert!(svg.contains("&lt;script&gt;") && svg.contains("Score &lt;by&gt; p"), "{svg}");
    }

    #[test]
    fn empty_and_flat_pictures_are_drawn() {
        let mut picture = lines("sft");
        let Chart::Lines(lines) = &mut picture.chart else { unreachable!() };
        (lines.series[0].points, lines.y.range) =
            (vec![Point { x: 1.0, y: 3.0, interval: None }], None);
        well_formed(&picture.svg(Ink::Page));
        let Chart::Lines(lines) = &mut picture.chart else { unreachable!() };
        lines.series.clear();
        well_formed(&picture.svg(Ink::Page));
    }

    #[test]
    fn numbers_and_words_say_what_is_drawn() {
        let picture = lines("=SUM(A1)");
        let csv = picture.csv();
        let wanted =
            "series,p,harmful score,low,high\n'=SUM(A1),0,5,0,10\n'=SUM(A1),0.2,15,10,20\n";
        assert_eq!(csv, wanted);
        assert!(picture.description().contains("5 at 0, 15 at 0.2"), "{}", picture.description());
        assert_eq!(heat().csv(), "panel,layer,step,drift\n<b>,0,1,0.5\n<b>,0,'=2,\n");
        assert!(heat().description().contains("0.5 to 0.5"), "{}", heat().description());
    }
}
