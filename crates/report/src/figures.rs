//! Figures of rows over seeds, and differences of rows, from stored records.

use std::collections::BTreeMap;

use vxf_core::Outcomes;
use vxf_stats::{Answer, Difference, Level, Seed, SeedLevel};

use crate::layout::{Line, find};
use crate::record::{Record, Row};

/// Numbers clusters of prompts: the same prompts have the same numbers, whichever seed asked them.
#[derive(Default)]
struct Clusters(BTreeMap<(String, usize), usize>);

impl Clusters {
    fn number(&mut self, outcomes: &Outcomes, cluster: usize) -> usize {
        let next = self.0.len();
        *self.0.entry((outcomes.prompts.clone(), cluster)).or_insert(next)
    }
}

/// What a figure is divided by to be a share.
fn scale(row: &Row) -> f64 {
    if row.figure.unit == "%" { 100.0 } else { 1.0 }
}

/// The row called `name` of each seed's run that has it.
fn by_seed<'a>(records: &'a [Record], line: &Line, name: &str) -> Vec<(u64, &'a Row)> {
    let of = |id| {
        let record = find(records, id)?;
        let row = record.row(name).filter(|row| row.value().is_some())?;
        Some((record.id.seed, row))
    };
    line.runs.iter().filter_map(of).collect()
}

/// The first row called `name` in any record.
pub(crate) fn sample<'a>(records: &'a [Record], name: &str) -> Option<&'a Row> {
    records.iter().find_map(|record| record.row(name))
}

/// The figure `name` of a row of the table, over its seeds.
pub fn level(records: &[Record], line: &Line, name: &str) -> Option<Level> {
    let (mut clusters, mut unit) = (Clusters::default(), 1.0);
    let seed = |(_, row): (u64, &Row)| {
        unit = scale(row);
        let outcomes = row.figure.outcomes.iter();
        let answers = outcomes.flat_map(|outcomes| {
            let judged = outcomes.judged();
            judged
                .map(|(_, cluster, counts)| (clusters.number(outcomes, cluster), counts))
                .collect::<Vec<_>>()
        });
        let answers = answers.collect();
        SeedLevel { value: row.figure.value / unit, answers }
    };
    let seeds: Vec<_> = by_seed(records, line, name).into_iter().map(seed).collect();
    let Level { mut summary, interval } = Level::of(&seeds)?;
    summary.mean *= unit;
    summary.sd = summary.sd.map(|sd| sd * unit);
    let is_rate = unit != 1.0;
    let interval = interval.map(|ends| ends.map(|end| end * unit));
    // A rate whose answers were not recorded is a rate nonetheless.
    let interval = interval.map(|[low, high]| match is_rate {
        true => [low.max(0.0), high.min(100.0)],
        false => [low, high],
    });
    Some(Level { summary, interval })
}

/// The difference of the figure `name` of two rows, over the seeds that both have, in the figure's
/// unit.
pub fn difference(
    records: &[Record],
    line: &Line,
    baseline: &Line,
    name: &str,
) -> Option<Difference> {
    let (mut clusters, mut unit) = (Clusters::default(), 1.0);
    let others = by_seed(records, baseline, name);
    let seed = |(seed, row): (u64, &Row)| {
        let (_, other) = others.iter().find(|(known, _)| *known == seed)?;
        unit = scale(row);
        let answers = match (&row.figure.outcomes, &other.figure.outcomes) {
            (Some(first), Some(second)) => paired(first, second, &mut clusters),
            _ => Vec::new(),
        };
        let difference = (row.figure.value - other.figure.value) / unit;
        Some(Seed { difference, answers })
    };
    let seeds: Vec<_> = by_seed(records, line, name).into_iter().filter_map(seed).collect();
    let found = Difference::of(&seeds)?;
    let is_rate = unit != 1.0;
    let interval = found.interval.map(|ends| ends.map(|end| end * unit));
    let interval = interval.map(|[low, high]| match is_rate {
        true => [low.max(-100.0), high.min(100.0)],
        false => [low, high],
    });
    Some(Difference { mean: found.mean * unit, interval, ..found })
}

/// The answers of both to the same prompts; none where the prompts differ.
fn paired(first: &Outcomes, second: &Outcomes, clusters: &mut Clusters) -> Vec<Answer> {
    if (&first.prompts, first.draws) != (&second.prompts, second.draws) {
        return Vec::new();
    }
    let others: BTreeMap<_, _> =
        second.judged().map(|(place, _, counts)| (place, counts)).collect();
    let pair = |(place, cluster, counts)| {
        let second = *others.get(&place)?;
        Some(Answer { cluster: clusters.number(first, cluster), first: counts, second })
    };
    first.judged().filter_map(pair).collect()
}

/// What a difference of a figure says in a word: lower, higher, or the same.
pub(crate) fn direction(mean: f64) -> &'static str {
    match mean {
        mean if mean < 0.0 => "lower",
        mean if mean > 0.0 => "higher",
        _ => "the same",
    }
}
