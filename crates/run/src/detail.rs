//! One metric in full: every figure it takes, at every ratio, and what each is made of.

use std::collections::BTreeMap;

use serde_json::Value;
use vxf_core::metric::Better;

use crate::grid::Grid;
use crate::plan::Plan;
use crate::record::{Record, Row};
use crate::statistics::Summary;
use crate::table::{Figures, spread};

/// Everything that `metric` measured.
pub fn of_metric(plan: &Plan, records: &[Record], metric: &str) -> String {
    let figures = Figures { plan, records };
    let rows = || records.iter().flat_map(|record| &record.measurements);
    let mut names: Vec<&str> = Vec::new();
    for row in rows().filter(|row| row.metric == metric) {
        if !names.contains(&row.figure.name.as_str()) {
            names.push(&row.figure.name);
        }
    }
    let mut text = String::new();
    for name in names {
        let Some(row) = rows().find(|row| row.figure.name == name) else { continue };
        text += &format!("{}\n\n", headline(row));
        text += &by_ratio(&figures, name).render();
        text.push('\n');
        let parts = parts(&figures, name);
        if !parts.is_empty() {
            let at = plan.ratios.iter().copied().fold(0.0, f64::max);
            text += &format!("{name} by part, at p = {at}\n\n");
            text += &by_part(plan, &parts).render();
            text.push('\n');
        }
    }
    text
}

/// Name, unit, direction, samples, and how it was taken.
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
        "{} in {} ({direction}, n = {} per cell{how})",
        row.figure.name, row.figure.unit, row.figure.n
    )
}

fn by_ratio(figures: &Figures<'_>, name: &str) -> Grid {
    let plan = figures.plan;
    let header = plan.ratios.iter().map(|ratio| format!("p = {ratio}"));
    let mut grid =
        Grid::new(["defense".to_owned(), "aligned".to_owned()].into_iter().chain(header));
    let cell = |label: &str, ratio: Option<f64>| {
        let summary = figures.summary(label, ratio, name);
        summary.map_or("-".to_owned(), |summary| spread(&summary, 3))
    };
    for arm in &plan.arms {
        let alignment = &plan.alignments[arm.alignment].label;
        let attacked = plan.ratios.iter().map(|&ratio| cell(&arm.label, Some(ratio)));
        grid.row([arm.label.clone(), cell(alignment, None)].into_iter().chain(attacked));
    }
    if plan.arms.is_empty() {
        for alignment in &plan.alignments {
            grid.row([alignment.label.clone(), cell(&alignment.label, None)]);
        }
    }
    grid
}

/// Mean over seeds of every numeric part of `name` at the largest ratio: part, then arm.
fn parts(figures: &Figures<'_>, name: &str) -> BTreeMap<String, BTreeMap<String, f64>> {
    let largest = figures.plan.ratios.iter().copied().fold(0.0, f64::max);
    let mut values: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for record in figures.records.iter().filter(|record| record.ratio == Some(largest)) {
        let rows = record.measurements.iter().filter(|row| row.figure.name == name);
        for (key, value) in rows.flat_map(|row| &row.figure.details) {
            if value.is_object() || value.is_array() {
                collect(key, value, &mut |part, value| {
                    let arms = values.entry(part).or_default();
                    arms.entry(record.label.clone()).or_default().push(value);
                });
            }
        }
    }
    let mean = |(arm, values): (String, Vec<f64>)| Some((arm, Summary::of(&values)?.mean));
    values
        .into_iter()
        .map(|(part, arms)| (part, arms.into_iter().filter_map(mean).collect()))
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

fn by_part(plan: &Plan, parts: &BTreeMap<String, BTreeMap<String, f64>>) -> Grid {
    let labels: Vec<_> = plan.arms.iter().map(|arm| arm.label.clone()).collect();
    let mut grid = Grid::new(["part".to_owned()].into_iter().chain(labels.iter().cloned()));
    for (part, arms) in parts {
        let cell = |label: &String| arms.get(label).map_or("-".to_owned(), |v| format!("{v:.3}"));
        grid.row([part.clone()].into_iter().chain(labels.iter().map(cell)));
    }
    grid
}
