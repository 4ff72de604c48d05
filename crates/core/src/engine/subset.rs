//! Some of the trained weights, for a gradient of these alone.

use std::collections::BTreeSet;

use crate::backbone::Parameter;
use crate::{Params, Result};
use candle_core::Var;

/// Some of the trained weights, and how far down a backward walk has to go for them.
#[derive(Clone, Debug)]
pub struct Subset {
    names: BTreeSet<String>,
    lowest: usize,
}

impl Subset {
    /// Those of `parameters` that are `wanted`.
    pub fn of(parameters: &[Parameter], wanted: &dyn Fn(&Parameter) -> bool) -> Self {
        let chosen: Vec<_> = parameters.iter().filter(|parameter| wanted(parameter)).collect();
        let lowest = chosen.iter().map(|parameter| parameter.location().lowest_layer()).min();
        Self {
            names: chosen.into_iter().map(|parameter| parameter.name.clone()).collect(),
            lowest: lowest.unwrap_or(usize::MAX),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The lowest layer with one of them; beyond the last one if all are in the head.
    pub(super) fn lowest(&self) -> usize {
        self.lowest
    }

    /// All of `weights`, of which these are differentiable leaves and the others are cut off.
    pub(super) fn leaves(&self, weights: &Params) -> Result<Params> {
        let one = |(name, weight): (&str, &candle_core::Tensor)| {
            let weight = match self.names.contains(name) {
                true => Var::from_tensor(weight)?.into_inner(),
                false => weight.detach(),
            };
            Ok((name.to_owned(), weight))
        };
        weights.iter().map(one).collect()
    }
}
