//! The comparison as a text table, rendered from stored records.

use vxf_core::config::Column;
use vxf_core::metric::Better;
use vxf_stats::{Difference, Level};

use crate::doubts::Doubt;
use crate::figures::{difference, level, sample};
use crate::layout::{Block, Layout};
use crate::record::Record;
use crate::text_table::TextTable;

/// Which columns are shown, and what is marked.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// All columns, not the standard ones alone.
    pub full: bool,
    /// Metrics all of whose columns are shown.
    pub metrics: Vec<String>,
    /// Rows with such runs are marked.
    pub doubts: Vec<Doubt>,
}

/// The mark of a row that is in doubt.
const MARK: &str = " !";

/// Renders the whole comparison, block by block.
pub fn comparison(layout: &Layout, records: &[Record], shown: &Shown) -> String {
    let failed = |metric: &str| records.iter().any(|record| record.failed.contains_key(metric));
    let asked = |(metric, column): &&(String, Column)| {
        column.standard || shown.full || shown.metrics.contains(metric)
    };
    let present = |(metric, column): &&(String, Column)| {
        sample(records, column.figure).is_some() || failed(metric)
    };
    let columns = layout.columns.iter().filter(asked).filter(present);
    let columns: Vec<_> = columns.map(|(_, column)| column).collect();
    let spread = match layout.seeds.as_slice() {
        [seed] => format!("seed {seed}; in brackets 95 % intervals over prompts"),
        seeds => format!("mean over {} seeds; in brackets 95 % intervals", seeds.len()),
    };
    let (mut text, mut compares) = (String::new(), false);
    for block in &layout.blocks {
        let of_block = |column: &&Column| column.of_aligned || block.when.ratio.is_some();
        let columns: Vec<_> = columns.iter().copied().filter(of_block).collect();
        text += &format!("{} ({spread})\n\n", block.when.headline());
        let mut table = rows(block, records, &columns, &shown.doubts);
        // Before the user's fine-tuning, a defence had nothing to withstand.
        if block.when.ratio.is_some() {
            compares |= differences(block, records, &columns, &mut table);
        }
        text += &table.render();
        text.push('\n');
    }
    text += &answered(records);
    if compares {
        text += "Differences are paired over seeds and prompts; docs/statistics.md describes their \
                 intervals.\n";
    }
    text
}

/// How answers were drawn.
fn answered(records: &[Record]) -> String {
    let rows = records.iter().flat_map(|record| &record.measurements);
    let mut draws = rows.filter_map(|row| row.figure.outcomes.as_ref()).map(|all| all.draws);
    match draws.next() {
        None => String::new(),
        Some(1) => {
            "Each prompt has one answer, greedy unless `sampling` says otherwise: other draws \
                    are not looked at.\n"
                .to_owned()
        }
        Some(several) => format!("Each prompt has {several} answers, drawn at random.\n"),
    }
}

fn rows(block: &Block, records: &[Record], columns: &[&Column], doubts: &[Doubt]) -> TextTable {
    let header =
        |column: &&Column| match sample(records, column.figure).map(|row| row.figure.better) {
            Some(Better::Higher) => format!("{} ↑", column.header),
            Some(Better::Lower) => format!("{} ↓", column.header),
            None => column.header.to_owned(),
        };
    let first = ["defense".to_owned()].into_iter();
    let mut table = TextTable::new(first.chain(columns.iter().map(header)));
    for line in &block.lines {
        let cell = |column: &&Column| {
            let level = level(records, line, column.figure);
            level.map_or("-".to_owned(), |level| with_interval(&level, column.decimals))
        };
        let in_doubt = doubts.iter().any(|doubt| line.runs.contains(&doubt.run));
        let name = format!("{}{}", line.name, if in_doubt { MARK } else { "" });
        table.row([name].into_iter().chain(columns.iter().map(cell)));
    }
    let n = |column: &&Column| {
        let runs = block.lines.iter().flat_map(|line| &line.runs);
        let mut counts: Vec<_> = runs
            .filter_map(|run| crate::layout::find(records, run)?.row(column.figure))
            .map(|row| row.figure.n)
            .collect();
        counts.sort_unstable();
        match (counts.first(), counts.last()) {
            (Some(least), Some(most)) if least == most => most.to_string(),
            (Some(least), Some(most)) => format!("{least}-{most}"),
            _ => "-".to_owned(),
        }
    };
    table.row(["  n per run".to_owned()].into_iter().chain(columns.iter().map(n)));
    table
}

/// Adds the differences between tested methods and plain training; returns whether there are any.
fn differences(
    block: &Block,
    records: &[Record],
    columns: &[&Column],
    table: &mut TextTable,
) -> bool {
    let mut any = false;
    for line in block.tested.iter().filter_map(|name| block.line(name)) {
        let baseline = line.baseline.as_ref().filter(|name| **name != line.name);
        let Some(baseline) = baseline.and_then(|name| block.line(name)) else { continue };
        any = true;
        let found = |column: &&Column| {
            (difference(records, line, baseline, column.figure), column.decimals)
        };
        let found: Vec<_> = columns.iter().map(found).collect();
        let label = format!("{} - {}", line.name, baseline.name);
        table.row([label].into_iter().chain(found.iter().map(mean)));
        table.row(["  95 % interval".to_owned()].into_iter().chain(found.iter().map(interval)));
    }
    any
}

/// A figure with its interval in brackets; of percentages the interval has no decimals.
fn with_interval(level: &Level, decimals: usize) -> String {
    let mean = format!("{:.decimals$}", level.summary.mean);
    let ends = if decimals == 1 { 0 } else { decimals };
    match level.interval {
        None => mean,
        Some([low, high]) if low < 0.0 => format!("{mean} ({low:.ends$} to {high:.ends$})"),
        Some([low, high]) => format!("{mean} ({low:.ends$}-{high:.ends$})"),
    }
}

/// `mean ± sd`.
pub(crate) fn spread(level: &Level, decimals: usize) -> String {
    match level.summary.sd {
        None => format!("{:.decimals$}", level.summary.mean),
        Some(sd) => format!("{:.decimals$} ± {sd:.decimals$}", level.summary.mean),
    }
}

fn mean((difference, decimals): &(Option<Difference>, usize)) -> String {
    difference.map_or("-".to_owned(), |found| format!("{:+.decimals$}", found.mean))
}

fn interval((difference, decimals): &(Option<Difference>, usize)) -> String {
    match difference.and_then(|found| found.interval) {
        None => "-".to_owned(),
        Some([low, high]) => format!("{low:+.decimals$} to {high:+.decimals$}"),
    }
}
