//! The scores of samples, with their optimiser.

use candle_core::{Device, Tensor};
use vxf_core::prelude::*;

/// The score that every sample starts with, as in the authors' code.
const START: f64 = 0.1;
/// The decay of the two moments, as in the authors' code, and what is added to the root of the second one.
const DECAY: [f64; 2] = [0.9, 0.95];
const EPSILON: f64 = 1e-8;

/// A score for each sample; a sample's weight is the number of samples times the softmax of the scores. A sample that a
/// filter left out has the score minus infinity: it has no weight, and does not count.
#[derive(Debug)]
pub(crate) struct Scores {
    scores: Vec<f64>,
    moments: [Vec<f64>; 2],
    steps: i32,
}

impl Scores {
    /// No scores yet.
    pub(crate) fn none() -> Self {
        Self { scores: Vec::new(), moments: [Vec::new(), Vec::new()], steps: 0 }
    }

    /// Equal scores of those of `all` samples that are `kept`.
    pub(crate) fn of(all: usize, kept: &[usize]) -> Self {
        let (zeros, mut scores) = (vec![0.0; all], vec![f64::NEG_INFINITY; all]);
        kept.iter().for_each(|sample| scores[*sample] = START);
        Self { scores, moments: [zeros.clone(), zeros], steps: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// The number of samples that are kept.
    fn count(&self) -> f64 {
        self.scores.iter().filter(|score| score.is_finite()).count() as f64
    }

    fn shares(&self) -> Vec<f64> {
        let top = self.scores.iter().copied().fold(f64::MIN, f64::max);
        let exps: Vec<f64> = self.scores.iter().map(|score| (score - top).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(|exp| exp / sum).collect()
    }

    /// The weights of all samples. Their mean over those that are kept is 1.
    pub(crate) fn weights(&self) -> Vec<f64> {
        let count = self.count();
        self.shares().into_iter().map(|share| share * count).collect()
    }

    /// The weights of the samples that are kept.
    pub(crate) fn weights_of_kept(&self) -> Vec<f64> {
        let weights = self.weights().into_iter().zip(&self.scores);
        weights.filter(|(_, score)| score.is_finite()).map(|(weight, _)| weight).collect()
    }

    /// One step of Adam on `mean_i w_i l_i` over the samples i of a batch with their losses.
    pub(crate) fn step(&mut self, losses: &[(usize, f64)], rate: f64) {
        let shares = self.shares();
        let factor = self.count() / losses.len().max(1) as f64;
        let mean: f64 = losses.iter().map(|&(sample, loss)| shares[sample] * loss).sum();
        let mut slopes: Vec<f64> = shares.iter().map(|share| -factor * share * mean).collect();
        for &(sample, loss) in losses {
            slopes[sample] += factor * shares[sample] * loss;
        }
        self.steps += 1;
        let correction = DECAY.map(|decay| 1.0 - decay.powi(self.steps));
        let [first, second] = &mut self.moments;
        for (index, slope) in slopes.into_iter().enumerate() {
            first[index] = DECAY[0] * first[index] + (1.0 - DECAY[0]) * slope;
            second[index] = DECAY[1] * second[index] + (1.0 - DECAY[1]) * slope * slope;
            let root = (second[index] / correction[1]).sqrt() + EPSILON;
            self.scores[index] -= rate * first[index] / correction[0] / root;
        }
    }

    /// What is saved.
    pub(crate) fn state(&self) -> Result<State> {
        let [first, second] = &self.moments;
        let all = [("scores", &self.scores), ("first", first), ("second", second)];
        let tensor = |(name, values): (&str, &Vec<f64>)| {
            let tensor = Tensor::from_vec(values.clone(), values.len(), &Device::Cpu)?;
            Ok((name.to_owned(), tensor))
        };
        let tensors = all.into_iter().map(tensor).collect::<Result<_>>()?;
        Ok(State { tensors, values: serde_json::json!(self.steps) })
    }

    /// The scores that [`Scores::state`] saved.
    pub(crate) fn restored(state: &State) -> Result<Self> {
        let broken = || Error::State("the saved scores of BDS are incomplete".to_owned());
        let values = |name: &str| -> Result<Vec<f64>> {
            Ok(state.tensors.get(name).ok_or_else(broken)?.to_vec1()?)
        };
        let steps = state.values.as_i64().and_then(|steps| i32::try_from(steps).ok());
        Ok(Self {
            scores: values("scores")?,
            moments: [values("first")?, values("second")?],
            steps: steps.ok_or_else(broken)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As if there were no other samples, also after a save; equal up to rounding.
    #[test]
    fn samples_that_a_filter_left_out_do_not_count() -> Result<()> {
        let kept = [1, 2, 5];
        let (mut some, mut alone) = (Scores::of(6, &kept), Scores::of(3, &[0, 1, 2]));
        for step in 0..40 {
            let losses = [(step % 3, 0.5 + step as f64), ((step + 1) % 3, 2.0)];
            let of_all = losses.map(|(sample, loss)| (kept[sample], loss));
            some.step(&of_all, 0.1);
            alone.step(&losses, 0.1);
            some = Scores::restored(&some.state()?)?;
            let (weights, expected) = (some.weights(), alone.weights());
            for (own, sample) in expected.iter().zip(kept) {
                assert!((weights[sample] - own).abs() < 1e-12, "{weights:?} {expected:?}");
            }
            assert_eq!([weights[0], weights[3], weights[4]], [0.0; 3]);
            assert_eq!(some.weights_of_kept().len(), 3);
        }
        assert!((some.weights().iter().sum::<f64>() - 3.0).abs() < 1e-12);
        Ok(())
    }
}
