//! Several experiments in one table: methods by harmful share, in the layout of the field's papers.

use std::collections::BTreeMap;

use vxf_core::config::Column;
use vxf_core::metric::Better;
use vxf_stats::Level;

use crate::document::Part;
use crate::figures::{level, sample};
use crate::layout::{Block, Layout, Line, find};
use crate::record::{self, Record, RunId};
use crate::table::with_interval;
use crate::text_table::{Cell, TextTable, Tone};

/// An experiment, or a run of one.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// Its name.
    pub name: &'a str,
    /// Which of its runs are compared with each other.
    pub layout: &'a Layout,
    /// Its records.
    pub records: &'a [Record],
}

/// One row of the tables.
struct Row<'a> {
    name: String,
    of: Compared<'a>,
    /// The line of each block that has one, by the block's place.
    lines: Vec<(When, &'a Line)>,
}

/// The place of a block among all columns: before the user's stage, or after the last stage at a ratio.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum When {
    Aligned,
    After(f64),
}

/// The mark of the best of a column.
const BEST: &str = " *";

/// A table for each figure that belongs in every table: methods by harmful share.
pub fn compare(all: &[Compared<'_>]) -> Vec<Part> {
    let rows = rows(all);
    let mut columns: Vec<When> = Vec::new();
    for (when, _) in rows.iter().flat_map(|row| &row.lines) {
        if !columns.contains(when) {
            columns.push(*when);
        }
    }
    columns.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let mut parts = Vec::new();
    for column in figures(all) {
        let row = all.iter().find_map(|one| sample(one.records, column.figure));
        let Some(row) = row else { continue };
        let direction = match row.figure.better {
            Better::Higher => "higher is better",
            Better::Lower => "lower is better",
        };
        let figure = column.figure.replace('_', " ");
        let unit = if row.figure.unit == "ratio" { "" } else { row.figure.unit.as_str() };
        let unit = if unit.is_empty() { String::new() } else { format!("{unit}, ") };
        parts.push(Part::Heading(format!("{figure} ({unit}{direction})")));
        parts.push(Part::Table(table(&rows, &columns, column, row.figure.better)));
    }
    if !parts.is_empty() {
        parts.push(Part::Paragraph(note(all)));
    }
    parts
}

/// How the tables are to be read.
fn note(all: &[Compared<'_>]) -> String {
    let seeds: Vec<_> = all.iter().map(|one| one.layout.seeds.len()).collect();
    let (least, most) = (seeds.iter().min().unwrap_or(&0), seeds.iter().max().unwrap_or(&0));
    let seeds = match (least, most) {
        (1, 1) => "One seed".to_owned(),
        (least, most) if least == most => format!("Means over {most} seeds"),
        (least, most) => format!("Means over {least} to {most} seeds"),
    };
    format!(
        "{seeds}, in brackets 95 % intervals. * marks the best mean of a column; rows whose intervals overlap \
         are not told apart by it."
    )
}

/// The standard columns of all experiments, each once.
fn figures<'a>(all: &[Compared<'a>]) -> Vec<&'a Column> {
    let mut found: Vec<&Column> = Vec::new();
    for (_, column) in all.iter().flat_map(|one| &one.layout.columns) {
        if column.standard && !found.iter().any(|known| known.figure == column.figure) {
            found.push(column);
        }
    }
    found
}

/// The rows of all experiments. Runs that agree in their digests are the same models: a row whose models an
/// earlier experiment has, with the same figures, is shown once.
fn rows<'a>(all: &[Compared<'a>]) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for of in all {
        let mut own: BTreeMap<&str, usize> = BTreeMap::new();
        let mut found: Vec<Row<'a>> = Vec::new();
        for (when, block) in blocks(of.layout) {
            for line in &block.lines {
                let index = *own.entry(line.name.as_str()).or_insert(found.len());
                if index == found.len() {
                    found.push(Row { name: line.name.clone(), of: *of, lines: Vec::new() });
                }
                found[index].lines.push((when, line));
            }
        }
        found.retain(|row| !rows.iter().any(|known| same_models(known, row)));
        rows.extend(found);
    }
    let names: Vec<_> = rows.iter().map(|row| row.name.clone()).collect();
    for row in &mut rows {
        if names.iter().filter(|name| **name == row.name).count() > 1 {
            row.name = format!("{} ({})", row.name, row.of.name);
        }
    }
    rows
}

/// Before the user's stage, and after the last stage at each ratio.
fn blocks(layout: &Layout) -> Vec<(When, &Block)> {
    let deepest = layout.blocks.iter().map(|block| block.when.depth).max();
    let when = |block: &Block| match block.when.ratio {
        None => Some(When::Aligned),
        Some(ratio) => (Some(block.when.depth) == deepest).then_some(When::After(ratio)),
    };
    layout.blocks.iter().filter_map(|block| Some((when(block)?, block))).collect()
}

/// Whether all runs of a row are among those of the known one, with all of its figures: the same runs measured
/// on other prompts, or by other metrics, say something else.
fn same_models(known: &Row<'_>, row: &Row<'_>) -> bool {
    fn records<'a>(row: &Row<'a>) -> Vec<&'a Record> {
        let runs = row.lines.iter().flat_map(|(_, line)| &line.runs);
        runs.filter_map(|run: &RunId| find(row.of.records, run)).collect()
    }
    let (known, own) = (records(known), records(row));
    let has = |all: &Record, one: &record::Row| {
        let same = |other: &&record::Row| {
            other.figure.name == one.figure.name && other.value() == one.value()
        };
        all.measurements.iter().find(same).is_some()
    };
    let among = |own: &&Record| {
        let same = |known: &&&Record| known.digest.is_some() && known.digest == own.digest;
        let same = known.iter().find(same);
        same.is_some_and(|known| own.measurements.iter().all(|one| has(known, one)))
    };
    !own.is_empty() && own.iter().all(among)
}

fn table(rows: &[Row<'_>], columns: &[When], column: &Column, better: Better) -> TextTable {
    let header = columns.iter().map(|when| match when {
        When::Aligned => "aligned".to_owned(),
        When::After(ratio) => format!("p = {ratio}"),
    });
    let mut table = TextTable::new(["method".to_owned()].into_iter().chain(header));
    let level = |row: &Row<'_>, when: &When| -> Option<Level> {
        let (_, line) = row.lines.iter().find(|(known, _)| known == when)?;
        (*when != When::Aligned || column.of_aligned)
            .then(|| level(row.of.records, line, column.figure))?
    };
    // Where all are alike, none is the best.
    let best = |when: &When| {
        let means = || rows.iter().filter_map(|row| Some(level(row, when)?.summary.mean));
        let (least, most) = (means().min_by(f64::total_cmp)?, means().max_by(f64::total_cmp)?);
        let best = if better == Better::Lower { least } else { most };
        (least < most).then_some(best)
    };
    let best: Vec<_> = columns.iter().map(best).collect();
    for row in rows {
        let cells = columns.iter().zip(&best).map(|(when, best)| match level(row, when) {
            None => "-".to_owned().into(),
            Some(found) if Some(found.summary.mean) == *best => {
                Cell::new(with_interval(&found, column.decimals) + BEST, Tone::Best)
            }
            // Figures stay below each other, marked or not.
            Some(found) => {
                (with_interval(&found, column.decimals) + &" ".repeat(BEST.len())).into()
            }
        });
        table.row([Cell::from(row.name.clone())].into_iter().chain(cells));
    }
    table
}

/// Whether two experiments measured a figure on different prompts under some seed that both have: then
/// their figures are not of the same requests.
pub fn asked_differently(first: &Compared<'_>, second: &Compared<'_>) -> bool {
    let prompts = |one: &Compared<'_>| -> BTreeMap<(u64, String), String> {
        let rows = one.records.iter().flat_map(|record| {
            record.measurements.iter().filter_map(|row| {
                let outcomes = row.figure.outcomes.as_ref()?;
                Some(((record.id.seed, row.figure.name.clone()), outcomes.prompts.clone()))
            })
        });
        rows.collect()
    };
    let second = prompts(second);
    prompts(first).into_iter().any(|(key, own)| second.get(&key).is_some_and(|other| *other != own))
}

/// The layout of a single run: only its rows.
pub fn only(layout: &Layout, run: &RunId) -> Layout {
    let mut layout = layout.clone();
    for block in &mut layout.blocks {
        for line in &mut block.lines {
            line.runs.retain(|known| known == run);
        }
        block.lines.retain(|line| !line.runs.is_empty());
        let names: Vec<_> = block.lines.iter().map(|line| line.name.clone()).collect();
        block.tested.retain(|name| names.contains(name));
    }
    layout.blocks.retain(|block| !block.lines.is_empty());
    layout.seeds = vec![run.seed];
    layout.ratios = run.ratio.into_iter().collect();
    layout
}

#[cfg(test)]
mod tests {
    use vxf_core::{Measurement, Stage};

    use super::*;
    use crate::document::{Terminal, text};
    use crate::testing::record;

    /// An experiment of one seed with these rows: name, harmful score, digest.
    fn experiment(rows: &[(&str, usize, &str)]) -> (Layout, Vec<Record>) {
        let one = |(name, hits, digest): &(&str, usize, &str)| {
            let mut record = record(name, Some(0.2), 1);
            record.digest = Some((*digest).to_owned());
            let figure = Measurement::rate("harmful_score", *hits, 60, Better::Lower);
            record.measurements.push(record::Row { metric: "m".into(), figure });
            record
        };
        let records: Vec<_> = rows.iter().map(one).collect();
        let line = |record: &Record| Line {
            name: record.id.label.clone(),
            runs: vec![record.id.clone()],
            baseline: None,
        };
        let block = Block {
            when: crate::When {
                stage: Stage::FineTuning,
                depth: 1,
                ratio: Some(0.2),
                again: false,
            },
            lines: records.iter().map(line).collect(),
            tested: Vec::new(),
        };
        let layout = Layout {
            blocks: vec![block],
            seeds: vec![1],
            ratios: vec![0.2],
            ..crate::testing::layout()
        };
        (layout, records)
    }

    #[test]
    fn rows_of_the_same_models_are_shown_once_and_the_best_is_marked() {
        let (a, b) = (
            experiment(&[("sft", 50, "1"), ("vaccine", 9, "2")]),
            experiment(&[("sft", 50, "1"), ("vaccine", 12, "3")]),
        );
        let compared = |name, one: &'static (Layout, Vec<Record>)| Compared {
            name,
            layout: &one.0,
            records: &one.1,
        };
        let (a, b) = (Box::leak(Box::new(a)), Box::leak(Box::new(b)));
        let parts = compare(&[compared("first", a), compared("second", b)]);
        let shown = text(&parts, Terminal::default());
        assert_eq!(shown.matches("\n  sft ").count(), 1, "{shown}");
        let line =
            |name: &str| shown.lines().find(|line| line.contains(name)).expect(name).to_owned();
        assert!(line("vaccine (first)").ends_with('*') && line("vaccine (first)").contains("15.0"));
        assert!(!line("vaccine (second)").contains('*'), "{shown}");
        assert!(line("harmful score").contains("lower is better"), "{shown}");
        let one = only(&a.0, &a.1[1].id);
        assert_eq!(one.blocks[0].lines.len(), 1);
        // The same model measured on other prompts says something else.
        let again = Box::leak(Box::new(experiment(&[("sft", 40, "1"), ("vaccine", 12, "3")])));
        let shown =
            text(&compare(&[compared("first", a), compared("third", again)]), Terminal::default());
        assert!(shown.contains("sft (first)") && shown.contains("sft (third)"), "{shown}");
    }
}
