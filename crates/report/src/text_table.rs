//! Text tables with aligned columns.

/// Rows of text under a header; the first column is aligned left.
#[derive(Clone, Debug, Default)]
pub struct TextTable {
    rows: Vec<Vec<String>>,
    flush_left: bool,
}

impl TextTable {
    /// An empty table with this header.
    pub fn new(header: impl IntoIterator<Item = String>) -> Self {
        Self { rows: vec![header.into_iter().collect()], flush_left: false }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Aligns all columns left, for tables of words.
    pub fn flush_left(mut self) -> Self {
        self.flush_left = true;
        self
    }

    /// Renders the table, indented by two spaces.
    pub fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = |text: &str| text.chars().count();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| length(cell)).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::from(" ");
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let space = " ".repeat(width - length(cell));
                match column {
                    0 => line.extend([" ", cell, &space]),
                    _ if self.flush_left => line.extend(["   ", cell, &space]),
                    _ => line.extend(["   ", &space, cell]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
