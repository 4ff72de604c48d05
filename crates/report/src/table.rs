//! The comparison as tables, made from stored records.

use vxf_core::config::Column;
use vxf_core::metric::Better;
use vxf_stats::{Difference, Level};

use crate::document::Part;
use crate::doubts::Doubt;
use crate::figures::{difference, level, sample};
use crate::layout::{Block, Layout};
use crate::record::Record;
use crate::text_table::{Cell, TextTable, Tone};
use crate::verdict::{Comparison, FEWEST_SEEDS, Verdict, comparisons};

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

/// The whole comparison, block by block: a heading and a table for each, then what holds for all.
pub fn comparison(layout: &Layout, records: &[Record], shown: &Shown) -> Vec<Part> {
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
    let (mut parts, mut compares) = (Vec::new(), false);
    let verdicts = comparisons(layout, records);
    for block in &layout.blocks {
        let of_block = |column: &&Column| column.of_aligned || block.when.ratio.is_some();
        let columns: Vec<_> = columns.iter().copied().filter(of_block).collect();
        parts.push(Part::Heading(format!("{} ({spread})", block.when.headline())));
        let mut table = rows(block, records, &columns, &shown.doubts);
        // Before the user's fine-tuning, a defence had nothing to withstand.
        if block.when.ratio.is_some() {
            compares |= differences(block, records, &columns, &verdicts, &mut table);
        }
        parts.push(Part::Table(table));
    }
    parts.extend(answered(records).map(Part::Paragraph));
    if compares {
        let text = "Differences are paired over seeds and prompts; docs/statistics.md describes \
                    their intervals.";
        parts.push(Part::Paragraph(text.to_owned()));
    }
    parts
}

/// How answers were drawn.
fn answered(records: &[Record]) -> Option<String> {
    let rows = records.iter().flat_map(|record| &record.measurements);
    let mut draws = rows.filter_map(|row| row.figure.outcomes.as_ref()).map(|all| all.draws);
    draws.next().map(|draws| match draws {
        1 => {
            "Each prompt has one answer, greedy unless `sampling` says otherwise: other draws are \
              not looked at."
                .to_owned()
        }
        several => format!("Each prompt has {several} answers, drawn at random."),
    })
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
        let name = match in_doubt {
            true => Cell::new(format!("{}{MARK}", line.name), Tone::Doubt),
            false => line.name.clone().into(),
        };
        table.row([name].into_iter().chain(columns.iter().map(cell).map(Cell::from)));
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
    let counts = ["  n per run".to_owned()].into_iter().chain(columns.iter().map(n));
    table.row(counts.map(|count| Cell::new(count, Tone::Quiet)));
    table
}

/// Adds the differences between tested methods and plain training; returns whether there are any.
fn differences(
    block: &Block,
    records: &[Record],
    columns: &[&Column],
    verdicts: &[Comparison],
    table: &mut TextTable,
) -> bool {
    let mut any = false;
    for line in block.tested.iter().filter_map(|name| block.line(name)) {
        let baseline = line.baseline.as_ref().filter(|name| **name != line.name);
        let Some(baseline) = baseline.and_then(|name| block.line(name)) else { continue };
        any = true;
        let verdict = |column: &Column| {
            let same = |one: &&Comparison| {
                one.method == line.name
                    && one.ratio == block.when.ratio
                    && one.figure == column.figure
            };
            verdicts.iter().find(same).map(|one| one.verdict)
        };
        let found = |column: &&Column| {
            let found = difference(records, line, baseline, column.figure);
            let better = sample(records, column.figure).map(|row| row.figure.better);
            (found, column.decimals, tone(found.as_ref(), better, verdict(column)))
        };
        let found: Vec<_> = columns.iter().map(found).collect();
        let label: Cell = format!("{} - {}", line.name, baseline.name).into();
        table.row([label].into_iter().chain(found.iter().map(mean)));
        let label = Cell::new("  95 % interval", Tone::Quiet);
        table.row([label].into_iter().chain(found.iter().map(interval)));
    }
    any
}

/// Whether a difference can be told from chance, and which way it goes. A family of comparisons is
/// adjusted for their number, so its `verdict` decides; other figures are told by their interval.
fn tone(found: Option<&Difference>, better: Option<Better>, verdict: Option<Verdict>) -> Tone {
    let (Some(found), Some(better)) = (found, better) else { return Tone::Plain };
    let clear = match (verdict, found.interval) {
        (Some(verdict), _) => matches!(verdict, Verdict::Lower | Verdict::Higher),
        (None, Some([low, high])) => found.seeds >= FEWEST_SEEDS && (low > 0.0 || high < 0.0),
        (None, None) => false,
    };
    match (clear, better, found.mean < 0.0) {
        (false, ..) => Tone::Plain,
        (true, Better::Lower, true) | (true, Better::Higher, false) => Tone::Better,
        _ => Tone::Worse,
    }
}

/// A figure with its interval in brackets; of percentages the interval has no decimals.
pub(crate) fn with_interval(level: &Level, decimals: usize) -> String {
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

/// A difference, its decimals and its tone.
type Found = (Option<Difference>, usize, Tone);

fn mean((difference, decimals, tone): &Found) -> Cell {
    let text = difference.map_or("-".to_owned(), |found| format!("{:+.decimals$}", found.mean));
    Cell::new(text, *tone)
}

fn interval((difference, decimals, _): &Found) -> Cell {
    let text = match difference.and_then(|found| found.interval) {
        None => "-".to_owned(),
        Some([low, high]) => format!("{low:+.decimals$} to {high:+.decimals$}"),
    };
    Cell::new(text, Tone::Quiet)
}
