//! The report as text.

use std::fmt;

use super::{DataReport, Overlap, SetReport};

const HEAD: [&str; 11] = [
    "set", "schema", "read", "filtered", "samples", "repeated", "min", "median", "p95", "max",
    "tokens",
];

/// The first columns hold words and are left-aligned.
const WORDS: usize = 2;

impl fmt::Display for DataReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Data\n")?;
        let rows: Vec<_> = self.sets.iter().map(row).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([HEAD[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        for row in [HEAD.map(str::to_owned)].iter().chain(&rows) {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                line += &match column < WORDS {
                    true => format!("  {cell:<width$}"),
                    false => format!("  {cell:>width$}"),
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        writeln!(f)?;
        for set in self.sets.iter().filter(|set| !set.source.is_empty()) {
            writeln!(f, "  {} is {}", set.name, set.source)?;
            for bad in &set.bad {
                writeln!(f, "    left out: {}: {}", bad.place, bad.problem)?;
            }
        }
        for Overlap { first, second, of_first, of_second } in &self.overlaps {
            writeln!(
                f,
                "  {first} and {second} share questions: {of_first} samples of the first, \
                 {of_second} of the second"
            )?;
        }
        for sentence in self.losses().iter().chain(&self.warnings) {
            writeln!(f, "  {sentence}")?;
        }
        Ok(())
    }
}

fn row(set: &SetReport) -> [String; HEAD.len()] {
    let from_file = |count: usize| match set.source.is_empty() {
        true => "-".to_owned(),
        false => count.to_string(),
    };
    let length = |of: fn(&super::Lengths) -> usize| {
        set.lengths.as_ref().map_or("-".to_owned(), |lengths| of(lengths).to_string())
    };
    let tokens = set.lengths.map_or("-".to_owned(), |lengths| {
        format!("{} ({} labelled)", lengths.tokens, lengths.labelled)
    });
    [
        set.name.clone(),
        set.schema.map_or("-".to_owned(), |schema| schema.to_string()),
        from_file(set.read),
        from_file(set.filtered),
        set.samples.to_string(),
        set.repeated.to_string(),
        length(|lengths| lengths.min),
        length(|lengths| lengths.median),
        length(|lengths| lengths.p95),
        length(|lengths| lengths.max),
        tokens,
    ]
}
