//! Values as shades of one colour, in panels that share their scale.

use super::scale::short;
use super::svg::{Ink, LETTER, Text, WIDTH};

/// Values by row and column, in panels.
#[derive(Clone, Debug)]
pub struct Heat {
    /// What the columns are.
    pub x_label: String,
    /// What the rows are.
    pub y_label: String,
    /// What the shades mean.
    pub value: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Names of the rows, from bottom to top.
    pub rows: Vec<String>,
    /// The panels.
    pub panels: Vec<Panel>,
}

/// One panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Its name.
    pub name: String,
    /// Its values by row, then by column.
    pub values: Vec<Vec<Option<f64>>>,
}

/// Panels beside each other, and below so many panels fewer.
const BESIDE: usize = 3;
const FEW: usize = 4;

/// Height of the names above and below a panel.
const NAMES: f64 = 58.0;

/// Height of a panel.
const HEIGHT: f64 = 130.0;

/// A cell of this size shows its value.
const ROOM: [f64; 2] = [32.0, 13.0];

impl Heat {
    /// Draws the panels below a title; returns the height of the picture.
    pub(super) fn draw(&self, ink: Ink) -> (f64, String) {
        let widest = self.rows.iter().map(|row| row.chars().count()).max().unwrap_or(1).min(20);
        let left = 14.0 + LETTER * widest as f64;
        // Four panels are two rows of two.
        let beside = if self.panels.len() == FEW { 2 } else { self.panels.len().clamp(1, BESIDE) };
        let gap = 12.0;
        let width = (WIDTH - 8.0 - left - gap * (beside - 1) as f64) / beside as f64;
        let all = self.panels.iter().flat_map(|panel| panel.values.iter().flatten().flatten());
        let most = all.copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
        let mut drawn = Text::quiet("start").at(8.0, 34.0, &self.y_label, ink);
        let mut top = 46.0;
        for (index, panels) in self.panels.chunks(beside).enumerate() {
            top = 46.0 + index as f64 * (HEIGHT + NAMES);
            for (column, panel) in panels.iter().enumerate() {
                let x = left + column as f64 * (width + gap);
                drawn += &self.panel(panel, [x, top + 8.0], width, most, column == 0, ink);
            }
        }
        let bottom = top + HEIGHT + 42.0;
        (bottom + 26.0, drawn + &self.key(most, bottom, ink))
    }

    fn panel(
        &self,
        panel: &Panel,
        [x, y]: [f64; 2],
        width: f64,
        most: f64,
        names: bool,
        ink: Ink,
    ) -> String {
        let (rows, columns) = (self.rows.len().max(1), self.columns.len().max(1));
        let (cell, tall) = (width / columns as f64, HEIGHT / rows as f64);
        let title = Text { anchor: "middle", bold: true, ..Text::default() };
        let mut drawn = title.at(x + width / 2.0, y - 5.0, &panel.name, ink);
        // Without room for every name, every second, third, and so on.
        let sparse = |room: f64, needed: f64| (needed / room).ceil().max(1.0) as usize;
        let row_names = sparse(tall, 12.0);
        for (index, (name, values)) in self.rows.iter().zip(&panel.values).enumerate() {
            let at = y + HEIGHT - (index + 1) as f64 * tall;
            if names && index % row_names == 0 {
                let name: String = name.chars().take(20).collect();
                drawn += &Text::quiet("end").at(x - 5.0, at + tall / 2.0 + 4.0, &name, ink);
            }
            for (column, value) in values.iter().enumerate() {
                let Some(value) = value.filter(|value| value.is_finite()) else { continue };
                let shade = if most > 0.0 { (value / most).clamp(0.0, 1.0) } else { 0.0 };
                let left = x + column as f64 * cell;
                drawn += &format!(
                    "<rect x=\"{left:.1}\" y=\"{at:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{}\" \
                     fill-opacity=\"{:.3}\"/>\n",
                    (cell - 0.5).max(0.5),
                    (tall - 0.5).max(0.5),
                    ink.of("heat"),
                    0.04 + 0.96 * shade
                );
                if cell >= ROOM[0] && tall >= ROOM[1] {
                    let colour = if shade > 0.5 { "paper" } else { "ink" };
                    let text = Text { anchor: "middle", colour, ..Text::default() };
                    let middle = [left + cell / 2.0, at + tall / 2.0 + 4.0];
                    drawn += &text.at(middle[0], middle[1], &short(value), ink);
                }
            }
        }
        let longest = self.columns.iter().map(|name| name.chars().count()).max().unwrap_or(1);
        let every = sparse(cell, LETTER * (longest + 1) as f64);
        for (index, name) in self.columns.iter().enumerate().step_by(every) {
            let at = x + (index as f64 + 0.5) * cell;
            drawn += &Text::quiet("middle").at(at, y + HEIGHT + 14.0, name, ink);
        }
        let middle = x + width / 2.0;
        drawn + &Text::quiet("middle").at(middle, y + HEIGHT + 29.0, &self.x_label, ink)
    }

    /// What the shades mean.
    fn key(&self, most: f64, y: f64, ink: Ink) -> String {
        let (steps, wide) = (8, 14.0);
        let width = wide * f64::from(steps);
        let value = format!("{}  0", self.value);
        let left = WIDTH - 8.0 - width - LETTER * (short(most).len() + 1) as f64;
        let mut drawn = Text::quiet("end").at(left - 5.0, y + 14.0, &value, ink);
        for step in 0..steps {
            let shade = 0.04 + 0.96 * f64::from(step) / f64::from(steps - 1);
            let (x, colour) = (left + wide * f64::from(step), ink.of("heat"));
            drawn += &format!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{wide}\" height=\"10\" fill=\"{colour}\" \
                 fill-opacity=\"{shade:.3}\"/>\n",
                y + 5.0
            );
        }
        drawn + &Text::quiet("start").at(left + width + 5.0, y + 14.0, &short(most), ink)
    }
}
