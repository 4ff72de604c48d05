//! One metric in full: all its figures, at every harmful ratio, and the parts of each figure.

use std::collections::BTreeMap;

use serde_json::Value;
use vxf_core::metric::Better;
use vxf_stats::Summary;

use crate::document::Part;
use crate::figures::level;
use crate::layout::{Layout, Line};
use crate::record::{Record, Row};
use crate::table::spread;
use crate::text_table::TextTable;

/// Everything that `metric` measured.
pub fn of_metric(layout: &Layout, records: &[Record], metric: &str) -> Vec<Part> {
    let rows = || records.iter().flat_map(|record| &record.measurements);
    let mut names: Vec<&str> = Vec::new();
    for row in rows().filter(|row| row.metric == metric) {
        if !names.contains(&row.figure.name.as_str()) {
            names.push(&row.figure.name);
        }
    }
    let mut all = Vec::new();
    for name in names {
        let Some(row) = rows().find(|row| row.figure.name == name) else { continue };
        all.push(Part::Heading(headline(row)));
        all.push(Part::Table(by_block(layout, records, name)));
        let parts = parts(layout, records, name);
        if !parts.is_empty() {
            let at = largest(layout).unwrap_or(0.0);
            all.push(Part::Heading(format!("{name} by part, at p = {at}")));
            all.push(Part::Table(by_part(layout, &parts)));
        }
    }
    all
}

fn largest(layout: &Layout) -> Option<f64> {
    layout.ratios.iter().copied().max_by(f64::total_cmp)
}

/// Name, unit, direction, number of samples, and the settings behind the figure.
fn headline(row: &Row) -> String {
    let direction = match row.figure.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    };
    let plain = row.figure.details.iter().filter_map(|(key, value)| match value {
        Value::String(text) => Some(format!("{key} {text}")),
        Value::Bool(value) => Some(format!("{key} {value}")),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            Some(format!("{key} {}", items.join(" ")))
        }
        _ => None,
    });
    let how: Vec<_> = plain.collect();
    let how = if how.is_empty() { String::new() } else { format!("; {}", how.join(", ")) };
    format!(
        "{} in {} ({direction}, n = {} per run{how})",
        row.figure.name, row.figure.unit, row.figure.n
    )
}

/// One row for each pipeline, one column for each block.
fn by_block(layout: &Layout, records: &[Record], name: &str) -> TextTable {
    let header = layout.blocks.iter().map(|block| match (block.when.ratio, block.when.depth) {
        (None, _) => "aligned".to_owned(),
        (Some(ratio), 0 | 1) => format!("p = {ratio}"),
        (Some(ratio), depth) => format!("stage {}, p = {ratio}", depth + 1),
    });
    let mut table = TextTable::new(["defense".to_owned()].into_iter().chain(header));
    for line in lines(layout) {
        let cells = layout.blocks.iter().map(|block| {
            // The aligned model of a row is named after its first method only.
            let own = block.line(&line.name).or_else(|| {
                let first = line.name.split('+').next().unwrap_or(&line.name);
                block.when.ratio.is_none().then(|| block.line(first)).flatten()
            });
            let level = own.and_then(|line| level(records, line, name));
            level.map_or("-".to_owned(), |level| spread(&level, 3))
        });
        table.row([line.name.clone()].into_iter().chain(cells));
    }
    table
}

/// The rows of all blocks after the first, each name once; the rows of the first block if it is the only
/// one.
fn lines(layout: &Layout) -> Vec<&Line> {
    let blocks = match layout.blocks.len() {
        0 | 1 => &layout.blocks[..],
        _ => &layout.blocks[1..],
    };
    let mut lines: Vec<&Line> = Vec::new();
    for line in blocks.iter().flat_map(|block| &block.lines) {
        if !lines.iter().any(|known| known.name == line.name) {
            lines.push(line);
        }
    }
    lines
}

/// Mean over seeds of every numeric part of `name` at the largest ratio, by part and then by row.
fn parts(
    layout: &Layout,
    records: &[Record],
    name: &str,
) -> BTreeMap<String, BTreeMap<String, f64>> {
    let largest = largest(layout);
    let mut values: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.id.ratio == largest) {
        let rows = record.measurements.iter().filter(|row| row.figure.name == name);
        for (key, value) in rows.flat_map(|row| &row.figure.details) {
            if value.is_object() || value.is_array() || value.is_number() {
                collect(key, value, &mut |part, value| {
                    let rows = values.entry(part).or_default();
                    rows.entry(record.id.row()).or_default().push(value);
                });
            }
        }
    }
    let mean = |(row, values): (String, Vec<f64>)| Some((row, Summary::of(&values)?.mean));
    values
        .into_iter()
        .map(|(part, rows)| (part, rows.into_iter().filter_map(mean).collect()))
        .collect()
}

fn collect(path: &str, value: &Value, found: &mut impl FnMut(String, f64)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                collect(&format!("{path} {key}"), value, found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                collect(&format!("{path} {index}"), value, found);
            }
        }
        other => {
            if let Some(number) = other.as_f64() {
                found(path.to_owned(), number);
            }
        }
    }
}

fn by_part(layout: &Layout, parts: &BTreeMap<String, BTreeMap<String, f64>>) -> TextTable {
    let names: Vec<_> = lines(layout).iter().map(|line| line.name.clone()).collect();
    let mut table = TextTable::new(["part".to_owned()].into_iter().chain(names.iter().cloned()));
    for (part, rows) in parts {
        let cell = |name: &String| rows.get(name).map_or("-".to_owned(), |v| format!("{v:.3}"));
        table.row([part.clone()].into_iter().chain(names.iter().map(cell)));
    }
    table
}
