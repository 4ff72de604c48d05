//! Losses and measured figures over the steps of a stage.

use std::collections::BTreeMap;

use super::{styles, title, with_unit, words};
use crate::curve::Curve;
use crate::layout::{Block, Layout, Line};
use crate::picture::{Axis, Chart, Lines, Picture, Point, Series};

/// A long curve is drawn as the means of so many stretches.
const STRETCHES: u64 = 60;

/// The training loss of each stage, and every figure that was measured during training. A stage that
/// depends on the harmful share is shown at the largest one.
pub fn over_steps(layout: &Layout, curves: &[Curve]) -> Vec<Picture> {
    let mut pictures = Vec::new();
    for block in shown(layout) {
        let stage = block.when.stage.to_string().replace('_', "-");
        let at = block.when.ratio.map_or(String::new(), |ratio| format!(", p = {ratio}"));
        let file = format!("{}-{}", block.when.depth + 1, block.when.stage).replace('_', "-");
        let loss = series(layout, block, curves, "loss");
        pictures.extend(picture(
            format!("loss-{file}"),
            format!("Training loss, {stage}{at}"),
            "training loss (nats)".to_owned(),
            loss,
        ));
        for (figure, unit) in followed(block, curves) {
            pictures.extend(picture(
                format!("{}-{file}", figure.replace('_', "-")),
                format!("{}, {stage}{at}", title(&words(&figure))),
                with_unit(&figure, &unit),
                series(layout, block, curves, &figure),
            ));
        }
    }
    pictures
}

/// One block for each stage: the one at the largest ratio.
pub(super) fn shown(layout: &Layout) -> Vec<&Block> {
    let mut by_depth: BTreeMap<usize, &Block> = BTreeMap::new();
    for block in &layout.blocks {
        let larger = |known: &&Block| known.when.ratio < block.when.ratio;
        match by_depth.get(&block.when.depth) {
            Some(known) if !larger(known) => {}
            _ => drop(by_depth.insert(block.when.depth, block)),
        }
    }
    by_depth.into_values().collect()
}

/// The curves of a row's runs.
pub(super) fn of_line<'a>(line: &'a Line, curves: &'a [Curve]) -> impl Iterator<Item = &'a Curve> {
    curves.iter().filter(|curve| line.runs.contains(&curve.run))
}

/// Names and units of the figures that were measured while the runs of a block trained.
fn followed(block: &Block, curves: &[Curve]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for curve in block.lines.iter().flat_map(|line| of_line(line, curves)) {
        for (_, row) in &curve.measured {
            if !found.iter().any(|(name, _)| *name == row.figure.name) {
                found.push((row.figure.name.clone(), row.figure.unit.clone()));
            }
        }
    }
    found
}

fn picture(name: String, title: String, label: String, series: Vec<Series>) -> Option<Picture> {
    let banded = series.iter().flat_map(|one| &one.points).any(|point| point.interval.is_some());
    let note = match banded {
        true => "Mean over seeds; bands reach from the least seed to the greatest.",
        false => "One seed.",
    };
    let axis = |label: String| Axis { label, ..Axis::default() };
    let last = series.iter().flat_map(|one| &one.points).map(|point| point.x).fold(1.0, f64::max);
    (!series.is_empty()).then(|| Picture {
        name,
        title,
        note: note.to_owned(),
        chart: Chart::Lines(Lines {
            x: Axis { range: Some([0.0, last]), ..axis("optimiser step".to_owned()) },
            y: axis(label),
            series,
            joined: true,
        }),
    })
}

fn series(layout: &Layout, block: &Block, curves: &[Curve], figure: &str) -> Vec<Series> {
    let styles = styles(layout);
    let one = |line: &Line| {
        let values: Vec<_> = of_line(line, curves).map(|curve| curve.values(figure)).collect();
        let points = over_seeds(&values);
        (!points.is_empty()).then(|| Series {
            name: line.name.clone(),
            style: styles.get(&line.name).copied().unwrap_or(0),
            points,
        })
    };
    block.lines.iter().filter_map(one).collect()
}

/// The mean over seeds of each stretch of steps, with the least and the greatest seed.
fn over_seeds(seeds: &[Vec<(u64, f64)>]) -> Vec<Point> {
    let longest = seeds.iter().map(Vec::len).max().unwrap_or(0) as u64;
    let last = seeds.iter().flatten().map(|(step, _)| *step).max().unwrap_or(0);
    let stretch = if longest > STRETCHES { last.div_ceil(STRETCHES).max(1) } else { 1 };
    // By stretch and seed: the sum of the values, the sum of the steps, and how many there are.
    let mut sums: BTreeMap<u64, Vec<[f64; 3]>> = BTreeMap::new();
    for (index, values) in seeds.iter().enumerate() {
        for (step, value) in values.iter().filter(|(_, value)| value.is_finite()) {
            let at = sums.entry(step.saturating_sub(1) / stretch);
            let sums = at.or_insert_with(|| vec![[0.0; 3]; seeds.len()]);
            let [sum, steps, count] = &mut sums[index];
            (*sum, *steps, *count) = (*sum + value, *steps + *step as f64, *count + 1.0);
        }
    }
    let point = |sums: Vec<[f64; 3]>| {
        let there: Vec<_> = sums.into_iter().filter(|[.., count]| *count > 0.0).collect();
        let means: Vec<f64> = there.iter().map(|[sum, _, count]| sum / count).collect();
        let n = means.len() as f64;
        let steps = there.iter().map(|[_, steps, count]| steps / count).sum::<f64>() / n;
        let least = means.iter().copied().fold(f64::INFINITY, f64::min);
        let most = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let interval = (seeds.len() > 1).then_some([least, most]);
        Point { x: steps, y: means.iter().sum::<f64>() / n, interval }
    };
    sums.into_values().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_become_means_of_stretches() {
        let seed =
            |shift: f64| (1..=600).map(|step| (step, step as f64 + shift)).collect::<Vec<_>>();
        let points = over_seeds(&[seed(0.0), seed(2.0)]);
        assert_eq!(points.len(), 60);
        let first = points[0];
        assert_eq!((first.x, first.y, first.interval), (5.5, 6.5, Some([5.5, 7.5])));
        // Few steps are drawn as they are, and what is not finite is left out.
        let points = over_seeds(&[vec![(10, 1.0), (20, f64::NAN), (30, 3.0)]]);
        let places: Vec<_> =
            points.iter().map(|point| (point.x, point.y, point.interval)).collect();
        assert_eq!(places, [(10.0, 1.0, None), (30.0, 3.0, None)]);
        assert!(over_seeds(&[]).is_empty());
    }
}
