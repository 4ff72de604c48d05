//! Figures against the harmful share of the user's data.

use vxf_core::config::Reading;
use vxf_core::metric::Better;

use super::{last_stage, styles, title, with_unit, words};
use crate::figures::{level, sample};
use crate::layout::Layout;
use crate::picture::{Axis, Chart, Lines, Picture, Point, Series};
use crate::record::Record;

/// A picture of each figure that methods are compared by, or that they should keep, after the last stage.
/// None without a harmful share.
pub fn against_ratio(layout: &Layout, records: &[Record]) -> Vec<Picture> {
    let blocks = last_stage(layout);
    let wanted = layout
        .readings()
        .filter(|(_, reading)| matches!(reading, Reading::Compared | Reading::Kept(_)));
    let mut pictures = Vec::new();
    for (column, _) in wanted {
        let Some(row) = sample(records, column.figure) else { continue };
        let mut series: Vec<Series> = Vec::new();
        for (ratio, block) in &blocks {
            for line in &block.lines {
                let Some(found) = level(records, line, column.figure) else { continue };
                let point = Point { x: *ratio, y: found.summary.mean, interval: found.interval };
                match series.iter_mut().find(|one| one.name == line.name) {
                    Some(one) => one.points.push(point),
                    None => series.push(Series {
                        name: line.name.clone(),
                        style: styles(layout).get(&line.name).copied().unwrap_or(0),
                        points: vec![point],
                    }),
                }
            }
        }
        if series.is_empty() {
            continue;
        }
        let figure = words(column.figure);
        let better = match row.figure.better {
            Better::Lower => "lower is better",
            Better::Higher => "higher is better",
        };
        let percent = row.figure.unit == "%";
        let seeds = match layout.seeds.len() {
            1 => "One seed; bands are 95 % intervals over prompts.".to_owned(),
            seeds => format!("Mean over {seeds} seeds; bands are 95 % intervals."),
        };
        pictures.push(Picture {
            name: format!("{}-by-ratio", column.figure.replace('_', "-")),
            title: title(&figure),
            note: seeds,
            chart: Chart::Lines(Lines {
                x: Axis {
                    label: "share p of harmful samples in the user's data".to_owned(),
                    range: None,
                    ticks: Some(blocks.iter().map(|(ratio, _)| *ratio).collect()),
                },
                y: Axis {
                    label: format!("{}, {better}", with_unit(column.figure, &row.figure.unit)),
                    range: percent.then_some([0.0, 100.0]),
                    ticks: percent.then(|| vec![0.0, 25.0, 50.0, 75.0, 100.0]),
                },
                series,
                joined: true,
            }),
        });
    }
    pictures
}
