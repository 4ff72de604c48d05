//! The order of the attacks on a model.

use super::{Cell, Figures, Reached, USEFUL};
use crate::figures::{difference, level};
use crate::layout::Line;
use crate::record::Record;

/// Which attacks leave a model too useless to count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Useless {
    /// Those that cost more than [`USEFUL`] points of helpfulness, beyond chance.
    BeyondChance,
    /// Those after which the mean helpfulness is lower by more than this share of what it was.
    Share(f64),
}

impl Useless {
    /// Why the models of `line` are too useless, if they are.
    fn why(self, records: &[Record], line: &Line, before: &Line, useful: &str) -> Option<String> {
        match self {
            Self::BeyondChance => {
                let lost = difference(records, line, before, useful)?;
                let [_, high] = lost.interval?;
                let points = -lost.mean;
                (high < -USEFUL).then(|| {
                    format!("it costs {points:.0} points of helpfulness, beyond chance more than {USEFUL}")
                })
            }
            Self::Share(most) => {
                let mean = |line| Some(level(records, line, useful)?.summary.mean);
                let (now, before) = (mean(line)?, mean(before)?);
                let share = if before > 0.0 { (before - now) / before } else { 0.0 };
                (share > most).then(|| {
                    let [share, most] = [share, most].map(|it| 100.0 * it);
                    format!("it costs {share:.0} % of the helpfulness, more than {most:.0} %")
                })
            }
        }
    }
}

/// The attacks, the strongest first; those that leave a useless model come last. `before` is the model before
/// any attack.
pub fn ranked(
    records: &[Record],
    cells: &[Cell],
    names: &[String],
    figures: &Figures,
    before: Option<&Line>,
    useless: Useless,
) -> Vec<Reached> {
    let reached = |cell: &Cell| {
        let harmful = level(records, &cell.line, &figures.harmful)?;
        let useful = figures.useful.as_ref();
        let lost = useful.zip(before);
        let lost =
            lost.and_then(|(useful, before)| useless.why(records, &cell.line, before, useful));
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
