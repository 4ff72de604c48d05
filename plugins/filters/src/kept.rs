//! The samples that a filter keeps.

use serde_json::json;
use vxf_core::prelude::*;

/// Samples that a pass reads together.
pub(crate) const TOGETHER: usize = 8;

/// The indices of the samples that are kept, in ascending order; none before the choice.
#[derive(Default)]
pub(crate) struct Kept(Option<Vec<usize>>);

impl Kept {
    /// Leaves out the samples with the lowest scores: this share of them, rounded down, or with a share of
    /// 0 those with a score under `below`. A sample without a score is kept.
    pub(crate) fn choose(&mut self, scores: &[Option<f64>], share: f64, below: f64) {
        let mut order: Vec<(usize, f64)> =
            scores.iter().enumerate().filter_map(|(at, score)| Some((at, (*score)?))).collect();
        order.sort_by(|one, other| one.1.total_cmp(&other.1));
        let out = match share > 0.0 {
            // A share such as 0.7 is a little less than it says: 90 of it are 63 samples, not 62.
            true => (scores.len() as f64 * share + 1e-9) as usize,
            false => order.iter().filter(|(_, score)| *score < below).count(),
        };
        let out: Vec<usize> = order.into_iter().take(out).map(|(at, _)| at).collect();
        self.0 = Some((0..scores.len()).filter(|at| !out.contains(at)).collect());
    }

    pub(crate) fn indices(&self) -> Option<Vec<usize>> {
        self.0.clone()
    }

    /// The number of samples as a figure of a step.
    pub(crate) fn record(&self, step: &mut Step<'_>) -> Result<()> {
        match &self.0 {
            Some(kept) => step.record("kept_samples", kept.len() as f64),
            None => Ok(()),
        }
    }

    pub(crate) fn state(&self) -> State {
        State { values: json!(self.0), ..State::default() }
    }

    pub(crate) fn restore(&mut self, state: State) -> Result<()> {
        let bad = |error: serde_json::Error| Error::State(format!("kept samples: {error}"));
        self.0 = serde_json::from_value(state.values).map_err(bad)?;
        Ok(())
    }
}
