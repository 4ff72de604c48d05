//! The parts that every picture consists of: frame, texts, legend, colours.

use super::Picture;
use crate::escape::html;

/// Width of every picture in its own units; a phone shows one unit as about one pixel.
pub(super) const WIDTH: f64 = 360.0;

/// Size of texts.
pub(super) const TEXT: f64 = 11.0;

/// Estimated width of a character of a text.
pub(super) const LETTER: f64 = 5.9;

/// Where a picture is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// In a page, which defines the colours as variables: `--ink`, `--quiet`, `--grid`, `--paper`,
    /// `--heat` and `--s0` to `--s7`.
    Page,
    /// In a file of its own, on light ground. Programs for slides and papers know no variables.
    File,
}

/// The colours of rows on light and on dark ground. The first is for what is never aligned, the second for
/// plain training. Each has a contrast of at least 4.5 to 1 with its ground. Rows differ in marks and dashes
/// as well, for people who see no red or no green.
pub const COLOURS: [[&str; 2]; 8] = [
    ["#6b6b6b", "#b3b3b3"],
    ["#c8501e", "#ff9a62"],
    ["#0b64a8", "#6cb6ff"],
    ["#1a7f5a", "#4fd1a1"],
    ["#8b3fa0", "#d79bea"],
    ["#8a6d00", "#e3c14a"],
    ["#b0306a", "#ff8fb8"],
    ["#3f6f7f", "#8fd0e3"],
];

impl Ink {
    /// The colour of a row.
    pub(super) fn row(self, style: usize) -> String {
        let index = style % COLOURS.len();
        match self {
            Self::Page => format!("var(--s{index})"),
            Self::File => COLOURS[index][0].to_owned(),
        }
    }

    /// Another colour of the page.
    pub(super) fn of(self, name: &str) -> String {
        match (self, name) {
            (Self::Page, name) => format!("var(--{name})"),
            (Self::File, "ink") => "#1c1c1c".to_owned(),
            (Self::File, "quiet") => "#5a5a5a".to_owned(),
            (Self::File, "grid") => "#dddddd".to_owned(),
            (Self::File, "paper") => "#ffffff".to_owned(),
            (Self::File, _) => "#0b64a8".to_owned(),
        }
    }
}

/// The whole element.
pub(super) fn frame(picture: &Picture, height: f64, drawn: &str, ink: Ink) -> String {
    let name = html(&picture.name);
    let header = match ink {
        Ink::Page => String::new(),
        Ink::File => " xmlns=\"http://www.w3.org/2000/svg\"".to_owned(),
    };
    let size = match ink {
        Ink::Page => String::new(),
        Ink::File => format!(" width=\"{}\" height=\"{}\"", 2.0 * WIDTH, 2.0 * height),
    };
    format!(
        "<svg{header} viewBox=\"0 0 {WIDTH} {height:.0}\"{size} role=\"img\" \
         aria-labelledby=\"t-{name} d-{name}\" font-family=\"system-ui, -apple-system, 'Segoe UI', Roboto, \
         Helvetica, Arial, sans-serif\" font-size=\"{TEXT}\">\n<title id=\"t-{name}\">{}</title>\n\
         <desc id=\"d-{name}\">{}</desc>\n{}{drawn}</svg>\n",
        html(&picture.title),
        html(&picture.description()),
        Text { size: title_size(&picture.title), bold: true, ..Text::default() }.at(
            8.0,
            16.0,
            &picture.title,
            ink
        ),
    )
}

/// The size of a title that fits the picture.
fn title_size(title: &str) -> f64 {
    const USUAL: f64 = 13.0;
    let width = title.chars().count() as f64 * LETTER * 1.15 * USUAL / TEXT;
    (USUAL * ((WIDTH - 16.0) / width.max(1.0)).min(1.0)).max(8.0).round()
}

/// How a text is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) anchor: &'static str,
    pub(super) colour: &'static str,
    pub(super) size: f64,
    pub(super) bold: bool,
}

impl Default for Text {
    fn default() -> Self {
        Self { anchor: "start", colour: "ink", size: TEXT, bold: false }
    }
}

impl Text {
    /// A quiet text, set by its middle.
    pub(super) fn quiet(anchor: &'static str) -> Self {
        Self { anchor, colour: "quiet", ..Self::default() }
    }

    pub(super) fn at(self, x: f64, y: f64, text: &str, ink: Ink) -> String {
        let Self { anchor, colour, size, bold } = self;
        let weight = if bold { " font-weight=\"600\"" } else { "" };
        format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{}\" \
             font-size=\"{size}\"{weight}>{}</text>\n",
            ink.of(colour),
            html(text)
        )
    }
}

/// A straight line.
pub(super) fn line(from: [f64; 2], to: [f64; 2], colour: &str, width: f64) -> String {
    let ([x1, y1], [x2, y2]) = (from, to);
    format!(
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>\n"
    )
}

/// The mark of a row: each has a shape of its own.
pub(super) fn mark(style: usize, [x, y]: [f64; 2], ink: Ink) -> String {
    let path = |points: &[[f64; 2]]| {
        let points = points.iter().map(|[dx, dy]| format!("{:.1},{:.1}", x + dx, y + dy));
        let points = points.collect::<Vec<_>>().join(" ");
        format!("<polygon points=\"{points}\" fill=\"{}\"/>\n", ink.row(style))
    };
    match style % 6 {
        0 => path(&[[-3.0, -3.0], [3.0, -3.0], [3.0, 3.0], [-3.0, 3.0]]),
        1 => path(&[[0.0, -4.2], [4.0, 3.0], [-4.0, 3.0]]),
        3 => path(&[[0.0, -4.4], [4.4, 0.0], [0.0, 4.4], [-4.4, 0.0]]),
        4 => path(&[[0.0, 4.2], [4.0, -3.0], [-4.0, -3.0]]),
        5 => path(&[[-4.0, -1.6], [4.0, -1.6], [4.0, 1.6], [-4.0, 1.6]]),
        _ => {
            format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\" fill=\"{}\"/>\n", ink.row(style))
        }
    }
}

/// The dashes of a row's line.
pub(super) fn dashes(style: usize) -> &'static str {
    match style % 6 {
        0 => " stroke-dasharray=\"2 3\"",
        1 => " stroke-dasharray=\"7 3\"",
        4 => " stroke-dasharray=\"7 3 2 3\"",
        5 => " stroke-dasharray=\"4 2\"",
        _ => "",
    }
}

/// Names beside their marks, in as many lines as they need; returns the place below.
pub(super) fn legend(names: &[(String, usize)], top: f64, ink: Ink) -> (f64, String) {
    let (mut x, mut y, mut drawn) = (8.0, top, String::new());
    for (name, style) in names {
        let width = 30.0 + LETTER * name.chars().count() as f64;
        if x > 8.0 && x + width > WIDTH - 4.0 {
            (x, y) = (8.0, y + 16.0);
        }
        let (colour, dash) = (ink.row(*style), dashes(*style));
        drawn += &format!(
            "<path d=\"M{:.1} {:.1}h18\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\n",
            x, y
        );
        drawn += &mark(*style, [x + 9.0, y], ink);
        drawn += &Text::default().at(x + 22.0, y + 4.0, name, ink);
        x += width + 8.0;
    }
    (y + 10.0, drawn)
}

#[cfg(test)]
mod tests {
    use super::COLOURS;

    /// The relative luminance of WCAG 2.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = u8::from_str_radix(&colour[at..at + 2], 16).expect("hex") as f64 / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    #[test]
    fn colours_stand_out_from_their_ground() {
        for [light, dark] in COLOURS {
            let contrast = |a: f64, b: f64| (a.max(b) + 0.05) / (a.min(b) + 0.05);
            assert!(contrast(luminance(light), luminance("#ffffff")) >= 4.5, "{light}");
            assert!(contrast(luminance(dark), luminance("#16181d")) >= 4.5, "{dark}");
        }
    }
}
