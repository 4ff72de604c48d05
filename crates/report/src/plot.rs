//! Curves in a terminal, drawn with Unicode's Braille patterns: eight dots in each character.

/// Dots of a character: two columns of four.
const ACROSS: usize = 2;
const DOWN: usize = 4;

/// The bit of each dot, by column and row from the top.
const BITS: [[u32; DOWN]; ACROSS] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// The first Braille pattern, without any dot.
const EMPTY: u32 = 0x2800;

/// Draws values by step as a curve of `width` characters, axis included, and `height` lines, between its
/// least and its greatest value. `None` if no value is finite.
pub fn plot(values: &[(u64, f64)], width: usize, height: usize) -> Option<String> {
    let values: Vec<_> = values.iter().filter(|(_, value)| value.is_finite()).collect();
    let (first, last) = (values.first()?.0, values.last()?.0);
    let least = values.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let most = values.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let labels = [number(most), number(least)];
    let margin = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
    let (columns, lines) = (width.saturating_sub(margin + 2).max(4), height.max(2));
    let mut dots = Dots::new(columns, lines);
    let span = last.saturating_sub(first).max(1) as f64;
    let across = (columns * ACROSS - 1) as f64;
    let down = (lines * DOWN - 1) as f64;
    let range = if most > least { most - least } else { 1.0 };
    let place = |(step, value): &(u64, f64)| {
        let x = step.saturating_sub(first).min(last.saturating_sub(first)) as f64 / span * across;
        let y = (most - value) / range * down;
        (x.round() as usize, y.round() as usize)
    };
    let places: Vec<_> = values.iter().map(|value| place(value)).collect();
    places.iter().for_each(|(x, y)| dots.set(*x, *y));
    for pair in places.windows(2) {
        dots.join(pair[0], pair[1]);
    }
    let mut text = String::new();
    for (index, line) in dots.lines().enumerate() {
        let label = match index {
            0 => labels[0].as_str(),
            index if index + 1 == lines => labels[1].as_str(),
            _ => "",
        };
        text += &format!("{label:>margin$} │{line}\n");
    }
    let (first, last) = (first.to_string(), last.to_string());
    let space = columns.saturating_sub(first.len() + last.len()).max(1);
    text += &format!("{:>margin$} └{}\n", "", "─".repeat(columns));
    text += &format!("{:>margin$}  {first}{}{last}\n", "", " ".repeat(space));
    Some(text)
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (0.001..100_000.0).contains(&size) => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

struct Dots {
    columns: usize,
    cells: Vec<u32>,
}

impl Dots {
    fn new(columns: usize, lines: usize) -> Self {
        Self { columns, cells: vec![0; columns * lines] }
    }

    fn set(&mut self, x: usize, y: usize) {
        let index = y / DOWN * self.columns + x / ACROSS;
        if let Some(cell) = self.cells.get_mut(index) {
            *cell |= BITS[x % ACROSS][y % DOWN];
        }
    }

    /// Sets the dots between two.
    fn join(&mut self, (x0, y0): (usize, usize), (x1, y1): (usize, usize)) {
        let steps = x1.abs_diff(x0).max(y1.abs_diff(y0)).max(1);
        for step in 0..=steps {
            let share = step as f64 / steps as f64;
            let between = |from: usize, to: usize| {
                (from as f64 + share * (to as f64 - from as f64)).round() as usize
            };
            self.set(between(x0, x1), between(y0, y1));
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let character = |bits: &u32| char::from_u32(EMPTY + bits).unwrap_or(' ');
        self.cells.chunks(self.columns).map(move |line| line.iter().map(character).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_curve_begins_at_the_top_and_ends_at_the_bottom() {
        let values: Vec<_> = (1..=50).map(|step| (step, 1.0 / step as f64)).collect();
        let text = plot(&values, 40, 6).expect("finite values");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 8, "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{text}");
        assert!(lines[0].starts_with("1.000 │⡇") && lines[5].starts_with("0.020 │"), "{text}");
        assert!(lines[0].ends_with('⠀') && !lines[5].ends_with('⠀'), "{text}");
        assert!(lines[7].trim().starts_with('1') && lines[7].ends_with("50"), "{text}");
    }

    #[test]
    fn odd_values_are_drawn_or_left_out() {
        assert_eq!(plot(&[], 40, 6), None);
        assert_eq!(plot(&[(1, f64::NAN)], 40, 6), None);
        for values in [vec![(7, 3.0)], vec![(1, 2.0), (2, 2.0)], vec![(1, 1e30), (9, -1e30)]] {
            assert!(
                plot(&values, 1, 1).is_some_and(|text| text.lines().count() == 4),
                "{values:?}"
            );
        }
    }
}
