//! The scores of samples, with their optimiser.

use candle_core::{Device, Tensor};
use vxf_core::prelude::*;

/// The score that every sample starts with, as in the authors' code.
const START: f64 = 0.1;
/// The decay of the two moments, as in the authors' code, and what is added to the root of the second one.
const DECAY: [f64; 2] = [0.9, 0.95];
const EPSILON: f64 = 1e-8;

/// A score for each sample; a sample's weight is the number of samples times the softmax of the scores.
#[derive(Debug)]
pub(crate) struct Scores {
    scores: Vec<f64>,
    moments: [Vec<f64>; 2],
    steps: i32,
}

impl Scores {
    /// Equal scores of this number of samples.
    pub(crate) fn new(samples: usize) -> Self {
        let zeros = vec![0.0; samples];
        Self { scores: vec![START; samples], moments: [zeros.clone(), zeros], steps: 0 }
    }

    /// The number of samples.
    pub(crate) fn len(&self) -> usize {
        self.scores.len()
    }

    fn shares(&self) -> Vec<f64> {
        let top = self.scores.iter().copied().fold(f64::MIN, f64::max);
        let exps: Vec<f64> = self.scores.iter().map(|score| (score - top).exp()).collect();
        let sum: f64 = exps.iter().sum();
        exps.into_iter().map(|exp| exp / sum).collect()
    }

    /// The weights of all samples; their mean is 1.
    pub(crate) fn weights(&self) -> Vec<f64> {
        let count = self.len() as f64;
        self.shares().into_iter().map(|share| share * count).collect()
    }

    /// One step of Adam on `mean_i w_i l_i` over the samples i of a batch with their losses.
    pub(crate) fn step(&mut self, losses: &[(usize, f64)], rate: f64) {
        let shares = self.shares();
        let factor = self.len() as f64 / losses.len().max(1) as f64;
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
