//! The difference of two methods, paired over seeds and prompts.

use crate::repeated::{Cell, over_seeds};
use crate::{Clustered, Discordant, Interval, hull};

/// What two methods gave under one seed.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// The first method's figure minus the second's.
    pub difference: f64,
    /// The answers of both to the same prompts; empty where the figure is no rate.
    pub answers: Vec<Answer>,
}

/// Two methods' answers to one prompt.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The prompt, or the group that it belongs to. A prompt that is asked under several seeds has one
    /// number.
    pub cluster: usize,
    /// Whether the first method's answer counts.
    pub first: bool,
    /// Whether the second's does.
    pub second: bool,
}

/// A difference with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Difference {
    /// The mean over seeds.
    pub mean: f64,
    /// The 95 % interval; none of a single seed whose figure is no rate.
    pub interval: Option<Interval>,
    /// The p-value of no difference, matching the interval.
    pub p: Option<f64>,
    /// How many seeds there are.
    pub seeds: usize,
    /// How many pairs of answers.
    pub pairs: usize,
}

impl Difference {
    /// The difference over `seeds`; none if there are none.
    ///
    /// The interval is the hull of two: Student's t over the seeds' differences, and Tango's interval
    /// of all pairs of answers, whose counts are divided by their design effect. The first knows how
    /// seeds vary, and is too short where few seeds happen to agree; the second knows how prompts vary,
    /// and nothing of seeds. The p-value is the larger of the two. Where the same prompts are asked
    /// under every seed, what they have in common adds to the variance over seeds.
    pub fn of(seeds: &[Seed]) -> Option<Self> {
        if seeds.is_empty() {
            return None;
        }
        let mean = seeds.iter().map(|seed| seed.difference).sum::<f64>() / seeds.len() as f64;
        let is_rate = seeds.iter().all(|seed| !seed.answers.is_empty());
        let cell = |seed: &Seed| -> Cell { (seed.difference, values(&seed.answers)) };
        let over_seeds = over_seeds(&seeds.iter().map(cell).collect::<Vec<_>>());
        let answers: Vec<_> = seeds.iter().flat_map(|seed| &seed.answers).copied().collect();
        let over_prompts = is_rate.then(|| over_prompts(&answers, seeds.len() == 1)).flatten();
        let both = match (over_seeds, over_prompts) {
            (Some((a, p)), Some((b, q))) => Some((hull(a, b), p.max(q))),
            (one, other) => one.or(other),
        };
        let within = |[low, high]: Interval| match is_rate {
            true => [low.max(-1.0), high.min(1.0)],
            false => [low, high],
        };
        Some(Self {
            mean,
            interval: both.map(|(interval, _)| within(interval)),
            p: both.map(|(_, p)| p),
            seeds: seeds.len(),
            pairs: answers.len(),
        })
    }
}

/// Interval and p-value from the pairs of answers alone.
fn over_prompts(answers: &[Answer], exact: bool) -> Option<(Interval, f64)> {
    let counts = Discordant::of(answers.iter().map(|answer| (answer.first, answer.second)));
    let clustered = Clustered::of(&values(answers))?;
    let factor = clustered.effective() / clustered.n as f64;
    let scaled = counts.scaled(factor);
    let p = match exact && factor == 1.0 {
        true => counts.exact_p(),
        false => scaled.p(),
    };
    Some((scaled.interval()?, p))
}

/// Each pair's difference with its cluster.
fn values(answers: &[Answer]) -> Vec<(usize, f64)> {
    let value = |answer: &Answer| {
        let number = |counts: bool| f64::from(u8::from(counts));
        (answer.cluster, number(answer.first) - number(answer.second))
    };
    answers.iter().map(value).collect()
}
