//! Which tokens are held, and with which weights.

use serde::{Deserialize, Serialize};
use vxf_core::{Error, Result};

/// Smaller differences count as none.
const SMALLEST: f64 = 1e-9;
/// Keeps a division finite.
const TINY: f64 = 1e-6;

/// The tokens that are held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct SafetyTokens {
    /// Their ids, ascending.
    pub(crate) ids: Vec<u32>,
    /// The weight of each, at least 0.
    pub(crate) weights: Vec<f64>,
}

impl SafetyTokens {
    /// The `count` tokens that are most probable under the aligned model and differ under the base model.
    ///
    /// `aligned` and `base` are the mean probabilities of each token. A token's weight is the difference of
    /// the two, standardised over the tokens found; one below the average difference has weight 0, and
    /// only takes part in the softmax.
    pub(crate) fn of(aligned: &[f64], base: &[f64], count: usize) -> Result<Self> {
        let mut ids: Vec<usize> = (0..aligned.len()).collect();
        ids.sort_by(|&a, &b| aligned[b].total_cmp(&aligned[a]));
        ids.truncate(count);
        let difference = |id: usize| aligned[id] - base[id];
        ids.retain(|id| difference(*id).abs() > SMALLEST);
        ids.sort_unstable();
        let n = ids.len() as f64;
        let mean = ids.iter().map(|id| difference(*id)).sum::<f64>() / n;
        let spread = ids.iter().map(|id| (difference(*id) - mean).powi(2)).sum::<f64>();
        let deviation = (spread / (n - 1.0)).sqrt();
        if ids.len() < 2 || deviation < SMALLEST {
            return Err(Error::Unsuitable(
                "PACT found no safety tokens: the aligned model predicts the answers of the alignment set as \
                 the base model does; start from an aligned model"
                    .to_owned(),
            ));
        }
        let weight = |id: &usize| ((difference(*id) - mean) / (deviation + TINY)).max(0.0);
        let weights = ids.iter().map(weight).collect();
        Ok(Self { ids: ids.into_iter().map(|id| id as u32).collect(), weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_probable_tokens_and_weighs_what_alignment_raised() -> Result<()> {
        let aligned = [0.4, 0.05, 0.3, 0.2, 0.05];
        let base = [0.1, 0.25, 0.3, 0.3, 0.05];
        let found = SafetyTokens::of(&aligned, &base, 4)?;
        // Token 2 is as probable under both, token 4 is not among the first four.
        assert_eq!(found.ids, [0, 1, 3]);
        let [raised, lowered, below] = found.weights[..] else { panic!("three weights") };
        // The differences are 0.3, -0.2 and -0.1, their mean is 0 and their deviation the root of 0.07.
        assert!((raised - 0.3 / (0.07f64.sqrt() + TINY)).abs() < 1e-9, "{raised}");
        assert_eq!((lowered, below), (0.0, 0.0));
        Ok(())
    }

    #[test]
    fn equal_models_are_an_error() {
        assert!(SafetyTokens::of(&[0.5, 0.5], &[0.5, 0.5], 2).is_err());
        assert!(SafetyTokens::of(&[0.5, 0.3, 0.2], &[0.4, 0.3, 0.3], 2).is_err());
    }
}
