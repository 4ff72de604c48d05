//! One method's figure over seeds and prompts.

use crate::repeated::{Cell, over_seeds};
use crate::{Clustered, Interval, Summary, hull, wilson};

/// What one method gave under one seed.
#[derive(Clone, Debug, Default)]
pub struct SeedLevel {
    /// The figure.
    pub value: f64,
    /// Each answer's cluster, as in [`Answer`](crate::Answer), and whether it counts; empty where the
    /// figure is no rate.
    pub answers: Vec<(usize, bool)>,
}

/// A figure with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Mean and standard deviation over seeds.
    pub summary: Summary,
    /// The 95 % interval; none of a single seed whose figure is no rate.
    pub interval: Option<Interval>,
}

impl Level {
    /// The figure over `seeds`; none if there are none.
    ///
    /// A rate's interval is the hull of Student's t over seeds and of Wilson's over all answers, divided
    /// by their design effect: as [`Difference::of`](crate::Difference::of) has it. Of one seed it is
    /// Wilson's.
    pub fn of(seeds: &[SeedLevel]) -> Option<Self> {
        let summary = Summary::of(&seeds.iter().map(|seed| seed.value).collect::<Vec<_>>())?;
        let values = |seed: &SeedLevel| -> Vec<(usize, f64)> {
            seed.answers
                .iter()
                .map(|(cluster, yes)| (*cluster, f64::from(u8::from(*yes))))
                .collect()
        };
        let cells: Vec<Cell> = seeds.iter().map(|seed| (seed.value, values(seed))).collect();
        let is_rate = seeds.iter().all(|seed| !seed.answers.is_empty());
        let over_seeds = over_seeds(&cells).map(|(interval, _)| interval);
        let all: Vec<_> = cells.iter().flat_map(|(_, values)| values.clone()).collect();
        let over_prompts = Clustered::of(&all).filter(|_| is_rate);
        let over_prompts = over_prompts.and_then(|all| wilson(all.mean, all.effective()));
        let interval = match (over_seeds, over_prompts) {
            (Some(a), Some(b)) => {
                let [low, high] = hull(a, b);
                Some([low.max(0.0), high.min(1.0)])
            }
            (one, other) => one.or(other),
        };
        Some(Self { summary, interval })
    }
}
