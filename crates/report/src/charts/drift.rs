//! Drift: how far hidden embeddings moved, by layer, and beside what methods are compared by.

use std::collections::BTreeMap;

use serde_json::Value;

use super::steps::{of_line, shown};
use super::{last_stage, styles, title, with_unit, words};
use crate::curve::Curve;
use crate::figures::sample;
use crate::layout::{Block, Layout, Line, find};
use crate::picture::{Axis, Chart, Heat, Lines, Panel, Picture, Point, Series};
use crate::record::{Record, Row};

/// So many steps are shown beside each other.
const MOST_STEPS: usize = 12;

/// So many rows of the table have a panel.
const MOST_PANELS: usize = 6;

/// The detail of a figure that has a value for each layer.
const PER_LAYER: &str = "per_layer";

/// The figure that drift is shown by: the last one with a value for each layer. It is relative where the
/// metric has a relative one.
fn figure(records: &[Record]) -> Option<&Row> {
    let rows = records.iter().flat_map(|record| &record.measurements);
    let by_layer = rows.filter(|row| row.figure.details.contains_key(PER_LAYER));
    let mut names: Vec<&Row> = Vec::new();
    for row in by_layer {
        if !names.iter().any(|known| known.figure.name == row.figure.name) {
            names.push(row);
        }
    }
    names.last().copied()
}

/// What methods are compared by against the drift, one point for each run after the last stage.
pub fn against_drift(layout: &Layout, records: &[Record]) -> Option<Picture> {
    let (drift, column) = (figure(records)?, layout.compared()?);
    let compared = sample(records, column.figure)?;
    let mut series: Vec<Series> = Vec::new();
    for line in last_stage(layout).into_iter().flat_map(|(_, block)| &block.lines) {
        let points = line.runs.iter().filter_map(|run| {
            let record = find(records, run)?;
            let (x, y) = (record.figure(&drift.figure.name)?, record.figure(column.figure)?);
            Some(Point { x, y, interval: None })
        });
        let points: Vec<_> = points.collect();
        let style = styles(layout).get(&line.name).copied().unwrap_or(0);
        match series.iter_mut().find(|one| one.name == line.name) {
            Some(one) => one.points.extend(points),
            None if points.is_empty() => {}
            None => series.push(Series { name: line.name.clone(), style, points }),
        }
    }
    let percent = compared.figure.unit == "%";
    (!series.is_empty()).then(|| Picture {
        name: format!("{}-by-drift", column.figure.replace('_', "-")),
        title: format!("{} against drift", title(&words(column.figure))),
        note: "One point for each run: every harmful share and seed.".to_owned(),
        chart: Chart::Lines(Lines {
            x: Axis { label: with_unit(&drift.figure.name, &drift.figure.unit), ..Axis::default() },
            y: Axis {
                label: with_unit(column.figure, &compared.figure.unit),
                range: percent.then_some([0.0, 100.0]),
                ticks: percent.then(|| vec![0.0, 25.0, 50.0, 75.0, 100.0]),
            },
            series,
            joined: false,
        }),
    })
}

/// Drift by layer, at the largest harmful share: over the steps where it was measured during training, one
/// panel for each row; otherwise at the end, one column for each row.
pub fn by_layer(layout: &Layout, records: &[Record], curves: &[Curve]) -> Option<Picture> {
    let sample = figure(records)?;
    let name = &sample.figure.name;
    let sites = sample.figure.details.get("sites").and_then(Value::as_array);
    let sites = sites.into_iter().flatten().filter_map(Value::as_str);
    let (y_label, rows) = layers(sites.map(str::to_owned).collect());
    let blocks = shown(layout);
    let block = blocks.into_iter().rfind(|block| block.when.ratio.is_some())?;
    let at = block.when.ratio.map_or(String::new(), |ratio| format!(", p = {ratio}"));
    let heat = |x_label: &str, columns, panels| Heat {
        x_label: x_label.to_owned(),
        y_label,
        value: words(name),
        columns,
        rows,
        panels,
    };
    let (chart, note) = match over_steps(block, curves, name) {
        Some((steps, panels)) => {
            let columns = steps.iter().map(u64::to_string).collect();
            (heat("optimiser step", columns, panels), "Mean over seeds, while the user trains.")
        }
        None => {
            let of = |line: &Line| Some((line.name.clone(), at_the_end(line, records, name)?));
            let found: Vec<_> = block.lines.iter().filter_map(of).collect();
            let layers = found.iter().map(|(_, values)| values.len()).max()?;
            let values = (0..layers)
                .map(|layer| found.iter().map(|(_, values)| values.get(layer).copied()).collect());
            let panel = Panel { name: String::new(), values: values.collect() };
            let columns = found.iter().map(|(name, _)| name.clone()).collect();
            let note = "Mean over seeds, after the user's stage; `--eval-every STEPS` follows it \
                        over the steps.";
            (heat("", columns, vec![panel]), note)
        }
    };
    Some(Picture {
        name: format!("{}-by-layer", name.replace('_', "-")),
        title: format!("{} by layer{at}", title(&words(name))),
        note: note.to_owned(),
        chart: Chart::Heat(chart),
    })
}

/// What the rows are, and their names: numbers, if all sites are of one kind.
fn layers(sites: Vec<String>) -> (String, Vec<String>) {
    let parts: Option<Vec<_>> = sites.iter().map(|site| site.rsplit_once('.')).collect();
    match parts.as_deref() {
        Some([(kind, _), ..]) if sites.iter().all(|site| site.starts_with(&format!("{kind}."))) => {
            let numbers = parts.iter().flatten().map(|(_, number)| (*number).to_owned());
            (format!("layer ({})", words(kind)), numbers.collect())
        }
        _ => ("site".to_owned(), sites),
    }
}

fn per_layer(row: &Row) -> Option<Vec<f64>> {
    let values = row.figure.details.get(PER_LAYER)?.as_array()?;
    Some(values.iter().map(|value| value.as_f64().unwrap_or(f64::NAN)).collect())
}

/// The mean of lists of equal length; none if there is no list.
fn mean(all: &[Vec<f64>]) -> Option<Vec<f64>> {
    let length = all.iter().map(Vec::len).min()?;
    let one = |index: usize| all.iter().map(|one| one[index]).sum::<f64>() / all.len() as f64;
    Some((0..length).map(one).collect())
}

fn at_the_end(line: &Line, records: &[Record], name: &str) -> Option<Vec<f64>> {
    let rows = line.runs.iter().filter_map(|run| find(records, run)?.row(name));
    mean(&rows.filter_map(per_layer).collect::<Vec<_>>())
}

/// The steps at which the figure was measured, and a panel for each row.
fn over_steps(block: &Block, curves: &[Curve], name: &str) -> Option<(Vec<u64>, Vec<Panel>)> {
    let mut panels: Vec<(String, BTreeMap<u64, Vec<f64>>)> = Vec::new();
    for line in &block.lines {
        let mut by_step: BTreeMap<u64, Vec<Vec<f64>>> = BTreeMap::new();
        for (step, row) in of_line(line, curves).flat_map(|curve| &curve.measured) {
            if row.figure.name == name {
                by_step.entry(*step).or_default().extend(per_layer(row));
            }
        }
        let means = by_step.into_iter().filter_map(|(step, all)| Some((step, mean(&all)?)));
        let means: BTreeMap<_, _> = means.collect();
        if !means.is_empty() {
            panels.push((line.name.clone(), means));
        }
    }
    panels.truncate(MOST_PANELS);
    let mut steps: Vec<u64> = panels.iter().flat_map(|(_, means)| means.keys().copied()).collect();
    steps.sort_unstable();
    steps.dedup();
    let every = steps.len().div_ceil(MOST_STEPS).max(1);
    // The last step stays, whichever are left out.
    let steps: Vec<u64> = steps.into_iter().rev().step_by(every).collect::<Vec<_>>();
    let steps: Vec<u64> = steps.into_iter().rev().collect();
    let layers = panels.iter().flat_map(|(_, means)| means.values()).map(Vec::len).max()?;
    let panel = |(name, means): (String, BTreeMap<u64, Vec<f64>>)| {
        let value = |layer: usize, step: &u64| means.get(step)?.get(layer).copied();
        let row = |layer| steps.iter().map(|step| value(layer, step)).collect();
        Panel { name, values: (0..layers).map(row).collect() }
    };
    let panels = panels.into_iter().map(panel).collect();
    Some((steps, panels))
}
