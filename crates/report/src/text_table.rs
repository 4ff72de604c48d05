//! Tables of text, which every format renders in its own way.

/// What a cell says beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    #[default]
    Plain,
    /// A difference that chance does not explain, in the better direction.
    Better,
    /// A difference that chance does not explain, in the worse direction.
    Worse,
    /// The best of its column.
    Best,
    /// In doubt: not to be taken at face value.
    Doubt,
    /// Less important than its neighbours.
    Quiet,
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What it shows.
    pub text: String,
    /// What else it says.
    pub tone: Tone,
}

impl Cell {
    /// A cell with a tone.
    pub fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: Tone::Plain }
    }
}

/// Rows of cells under a header; the first column is aligned left.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    rows: Vec<Vec<Cell>>,
    flush_left: bool,
}

impl TextTable {
    /// An empty table with this header.
    pub fn new(header: impl IntoIterator<Item = String>) -> Self {
        Self { rows: vec![header.into_iter().map(Cell::from).collect()], flush_left: false }
    }

    /// Adds a row.
    pub fn row<C: Into<Cell>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Aligns all columns left, for tables of words.
    pub fn flush_left(mut self) -> Self {
        self.flush_left = true;
        self
    }

    /// Whether all columns are aligned left.
    pub fn is_flush_left(&self) -> bool {
        self.flush_left
    }

    /// The header.
    pub fn header(&self) -> &[Cell] {
        self.rows.first().map_or(&[], Vec::as_slice)
    }

    /// The rows below the header.
    pub fn body(&self) -> &[Vec<Cell>] {
        self.rows.get(1..).unwrap_or_default()
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// Renders the table, indented by two spaces.
    pub fn render(&self) -> String {
        self.render_with(&|cell, _| cell.text.clone())
    }

    /// Renders the table; `paint` gives the text of a cell, which must be as wide as the cell's own. Its
    /// second argument says whether the cell is in the header.
    pub(crate) fn render_with(&self, paint: &dyn Fn(&Cell, bool) -> String) -> String {
        let widths: Vec<_> = (0..self.columns()).map(|column| self.width(column)).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let mut line = String::from(" ");
            let last = row.iter().rposition(|cell| !cell.text.is_empty()).unwrap_or(0);
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate().take(last + 1) {
                let (space, shown) = (" ".repeat(width - cell.width()), paint(cell, index == 0));
                let after = if column == last { "" } else { space.as_str() };
                match column {
                    0 => line.extend([" ", &shown, after]),
                    _ if self.flush_left => line.extend(["   ", &shown, after]),
                    _ => line.extend(["   ", &space, &shown]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// The table cut into tables of at most `width` characters, each with the first column. A single
    /// column may be wider.
    pub(crate) fn fit(&self, width: usize) -> Vec<Self> {
        let first = 2 + self.width(0);
        let (mut groups, mut used): (Vec<Vec<usize>>, _) = (Vec::new(), usize::MAX);
        for column in 1..self.columns() {
            let more = 3 + self.width(column);
            if used.saturating_add(more) > width {
                groups.push(Vec::new());
                used = first;
            }
            used = used.saturating_add(more);
            if let Some(group) = groups.last_mut() {
                group.push(column);
            }
        }
        if groups.len() < 2 {
            return vec![self.clone()];
        }
        let part = |group: &Vec<usize>| {
            let columns = || [0].into_iter().chain(group.iter().copied());
            let row = |row: &Vec<Cell>| {
                columns().map(|column| row.get(column).cloned().unwrap_or_default()).collect()
            };
            Self { rows: self.rows.iter().map(row).collect(), flush_left: self.flush_left }
        };
        groups.iter().map(part).collect()
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells.map(Cell::width).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TextTable {
        let mut table = TextTable::new(["method", "first", "second"].map(str::to_owned));
        table.row(["sft", "1.0", "20.0 (10-30)"].map(str::to_owned));
        table
    }

    #[test]
    fn columns_are_aligned() {
        let text = "  method   first         second\n  sft        1.0   20.0 (10-30)\n";
        assert_eq!(table().render(), text);
    }

    #[test]
    fn a_wide_table_is_cut_into_tables_that_fit() {
        assert_eq!(table().fit(80).len(), 1);
        let parts = table().fit(25);
        assert_eq!(parts.len(), 2);
        for part in &parts {
            let text = part.render();
            assert!(text.starts_with("  method"), "{text}");
            assert!(text.lines().all(|line| line.chars().count() <= 25), "{text}");
        }
        let all: String = parts.iter().map(TextTable::render).collect();
        assert!(all.contains("first") && all.contains("20.0 (10-30)"), "{all}");
        // Too narrow for any column: one column each, and no endless loop.
        assert_eq!(table().fit(1).len(), 2);
    }
}
