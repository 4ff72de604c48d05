//! A subset of the trained weights, for a gradient of these alone.

use std::collections::BTreeSet;

use crate::backbone::Parameter;
use crate::{Params, Result};
use candle_core::Var;

/// A subset of the trained weights, and the lowest layer that its gradient needs.
#[derive(Clone, Debug)]
pub struct Subset {
    names: BTreeSet<String>,
    lowest: usize,
}

impl Subset {
    /// The `parameters` that `wanted` selects.
    pub fn of(parameters: &[Parameter], wanted: &dyn Fn(&Parameter) -> bool) -> Self {
        let chosen: Vec<_> = parameters.iter().filter(|parameter| wanted(parameter)).collect();
        let lowest = chosen.iter().map(|parameter| parameter.location().lowest_layer()).min();
        Self {
            names: chosen.into_iter().map(|parameter| parameter.name.clone()).collect(),
            lowest: lowest.unwrap_or(usize::MAX),
        }
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The lowest layer with one of them; beyond the last layer if all are in the head.
    pub(super) fn lowest(&self) -> usize {
        self.lowest
    }

    /// All of `weights`: these as differentiable leaves, the others detached.
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
