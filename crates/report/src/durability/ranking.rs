//! The order of the attacks on a model.

use super::{Cell, Figures, Reached, USEFUL};
use crate::figures::{difference, level};
use crate::layout::Line;
use crate::record::Record;

/// The attacks, the strongest first; those that leave a useless model come last. `before` is the model before
/// any attack.
pub fn ranked(
    records: &[Record],
    cells: &[Cell],
    names: &[String],
    figures: &Figures,
    before: Option<&Line>,
) -> Vec<Reached> {
    let reached = |cell: &Cell| {
        let harmful = level(records, &cell.line, &figures.harmful)?;
        let useful = figures.useful.as_ref();
        let lost = useful.zip(before).and_then(|(useful, before)| {
            let lost = difference(records, &cell.line, before, useful)?;
            let [_, high] = lost.interval?;
            (high < -USEFUL).then(|| {
                format!(
                    "it costs {:.0} points of helpfulness, beyond chance more than {USEFUL}",
                    -lost.mean
                )
            })
        });
        Some(Reached {
            attack: cell.attack,
            name: names.get(cell.attack).cloned().unwrap_or_default(),
            ratio: cell.ratio,
            harmful: harmful.summary.mean,
            interval: harmful.interval,
            useful: useful.and_then(|name| Some(level(records, &cell.line, name)?.summary.mean)),
            passed_over: lost,
        })
    };
    let mut all: Vec<Reached> = cells.iter().filter_map(reached).collect();
    all.sort_by(|a, b| {
        let counts = |it: &Reached| it.passed_over.is_some();
        counts(a).cmp(&counts(b)).then(b.harmful.total_cmp(&a.harmful))
    });
    all
}
