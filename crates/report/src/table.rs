//! The comparison as a text table, rendered from stored records.

use vxf_core::config::Column;
use vxf_core::metric::Better;

use crate::layout::{Block, Layout, Line, find};
use crate::record::{Record, Row};
use crate::statistics::Summary;
use crate::text_table::TextTable;

/// Seed and value of the figure `name`, for each run of `line` that has it.
fn by_seed(records: &[Record], line: &Line, name: &str) -> Vec<(u64, f64)> {
    let of = |id| Some((find(records, id)?.id.seed, find(records, id)?.figure(name)?));
    line.runs.iter().filter_map(of).collect()
}

pub(crate) fn summary(records: &[Record], line: &Line, name: &str) -> Option<Summary> {
    let values = by_seed(records, line, name).into_iter().map(|(_, value)| value);
    Summary::of(&values.collect::<Vec<_>>())
}

/// The paired differences of two rows, over the seeds that both have.
fn paired(records: &[Record], line: &Line, baseline: &Line, name: &str) -> Option<Summary> {
    let other = by_seed(records, baseline, name);
    let differences = by_seed(records, line, name).into_iter().filter_map(|(seed, a)| {
        let (_, b) = other.iter().find(|(known, _)| *known == seed)?;
        Some(a - b)
    });
    Summary::of(&differences.collect::<Vec<_>>())
}

/// The first figure called `name` in any record.
fn sample<'a>(records: &'a [Record], name: &str) -> Option<&'a Row> {
    let rows = records.iter().flat_map(|record| &record.measurements);
    rows.into_iter().find(|row| row.figure.name == name)
}

/// Renders the whole comparison, block by block.
pub fn comparison(layout: &Layout, records: &[Record]) -> String {
    let failed = |metric: &str| records.iter().any(|record| record.failed.contains_key(metric));
    let present = |(metric, column): &&(String, Column)| {
        sample(records, column.figure).is_some() || failed(metric)
    };
    let columns: Vec<_> = layout.columns.iter().filter(present).map(|(_, column)| column).collect();
    let spread = match layout.seeds.as_slice() {
        [seed] => format!("seed {seed}"),
        seeds => format!("mean ± sd over {} seeds", seeds.len()),
    };
    let (mut text, mut compares) = (String::new(), false);
    for block in &layout.blocks {
        let shown = |column: &&Column| column.of_aligned || block.when.ratio.is_some();
        let columns: Vec<_> = columns.iter().copied().filter(shown).collect();
        text += &format!("{} ({spread})\n\n", block.when.headline());
        let mut table = rows(block, records, &columns);
        // Before the user's fine-tuning, a defence had nothing to withstand.
        if block.when.ratio.is_some() {
            compares |= differences(block, layout, records, &columns, &mut table);
        }
        text += &table.render();
        text.push('\n');
    }
    if compares && layout.seeds.len() > 1 {
        text += "Differences are paired over seeds, their intervals Student's t over seeds.\n";
    }
    text
}

fn rows(block: &Block, records: &[Record], columns: &[&Column]) -> TextTable {
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
            let summary = summary(records, line, column.figure);
            summary.map_or("-".to_owned(), |summary| spread(&summary, column.decimals))
        };
        table.row([line.name.clone()].into_iter().chain(columns.iter().map(cell)));
    }
    table
}

/// Adds the differences between tested methods and plain training; returns whether there are any.
fn differences(
    block: &Block,
    layout: &Layout,
    records: &[Record],
    columns: &[&Column],
    table: &mut TextTable,
) -> bool {
    let mut any = false;
    for line in block.tested.iter().filter_map(|name| block.line(name)) {
        let baseline = line.baseline.as_ref().filter(|name| **name != line.name);
        let Some(baseline) = baseline.and_then(|name| block.line(name)) else { continue };
        any = true;
        let paired =
            |column: &&Column| (paired(records, line, baseline, column.figure), column.decimals);
        let paired: Vec<_> = columns.iter().map(paired).collect();
        let label = format!("{} - {}", line.name, baseline.name);
        table.row([label].into_iter().chain(paired.iter().map(difference)));
        if layout.seeds.len() > 1 {
            let label = "  95 % interval".to_owned();
            table.row([label].into_iter().chain(paired.iter().map(interval)));
        }
    }
    any
}

/// `mean ± sd`.
pub(crate) fn spread(summary: &Summary, decimals: usize) -> String {
    match summary.sd {
        None => format!("{:.decimals$}", summary.mean),
        Some(sd) => format!("{:.decimals$} ± {sd:.decimals$}", summary.mean),
    }
}

fn difference((summary, decimals): &(Option<Summary>, usize)) -> String {
    summary.map_or("-".to_owned(), |summary| format!("{:+.decimals$}", summary.mean))
}

fn interval((summary, decimals): &(Option<Summary>, usize)) -> String {
    match summary.and_then(|summary| summary.interval()) {
        None => "-".to_owned(),
        Some([low, high]) => format!("{low:+.decimals$} to {high:+.decimals$}"),
    }
}
