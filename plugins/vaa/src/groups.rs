//! The two groups of alignment samples, and the sampler over them.

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};
use vxf_core::prelude::*;

/// Bounds of the probability, as in the authors' code.
const BOUNDS: (f64, f64) = (0.1, 0.9);

/// The groups, their order and the probability of the vulnerable one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Groups {
    /// The probability with which the vulnerable group is drawn.
    pub(crate) probability: f64,
    /// The vulnerable samples.
    pub(crate) vulnerable: Group,
    /// The others.
    pub(crate) others: Group,
}

/// Samples that are read in a random order, again and again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    samples: Vec<usize>,
    /// How many of them are read in the present order.
    read: usize,
}

impl Groups {
    /// The share of samples with the largest rises are vulnerable, at least one; at least one is not.
    pub(crate) fn of(rises: &[f64], share: f64) -> Self {
        let mut order: Vec<usize> = (0..rises.len()).collect();
        order.sort_by(|&one, &other| rises[other].total_cmp(&rises[one]));
        let most = rises.len().saturating_sub(1).max(1);
        let count = ((rises.len() as f64 * share).round() as usize).clamp(1, most);
        let group = |samples: &[usize]| Group { samples: samples.to_vec(), read: 0 };
        let (vulnerable, others) = order.split_at(count);
        Self { probability: 0.5, vulnerable: group(vulnerable), others: group(others) }
    }

    /// The next samples of a group, at most `count`; fewer at the end of its order. `key` shuffles it where
    /// it begins.
    pub(crate) fn next(&mut self, vulnerable: bool, count: usize, key: &Key) -> Vec<usize> {
        let group = if vulnerable { &mut self.vulnerable } else { &mut self.others };
        if group.read == 0 {
            // From one order, whatever came before.
            group.samples.sort_unstable();
            group.samples.shuffle(&mut key.rng());
        }
        let end = (group.read + count).min(group.samples.len());
        let next = group.samples[group.read..end].to_vec();
        group.read = if end == group.samples.len() { 0 } else { end };
        next
    }

    /// The step of exponentiated gradient on the probability, with the loss of the drawn group divided by
    /// its probability.
    pub(crate) fn learn(&mut self, vulnerable: bool, loss: f64, rate: f64) {
        /// `exp` of more is infinite, and a quotient of two infinities no number.
        const STEEPEST: f64 = 700.0;
        let mut odds = [self.probability, 1.0 - self.probability];
        let own = usize::from(!vulnerable);
        odds[own] *= (rate * loss / odds[own]).min(STEEPEST).exp();
        self.probability = (odds[0] / (odds[0] + odds[1])).clamp(BOUNDS.0, BOUNDS.1);
    }
}
