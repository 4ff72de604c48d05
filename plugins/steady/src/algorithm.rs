//! The average, and the frozen weights.

use vxf_core::prelude::*;

use crate::config::{FreezeConfig, Frozen};

/// `m <- beta m + (1 - beta) w` after each step, starting at the weights before the stage; `m` is the
/// stage's result. Training itself does not change.
pub struct Ema {
    beta: f64,
    mean: Params,
}

impl Ema {
    /// An average with this decay.
    pub fn new(beta: f64) -> Self {
        Self { beta, mean: Params::new() }
    }
}

impl Defense for Ema {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.mean = step.weights().copy()?;
        Ok(())
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.mean = self.mean.scale(self.beta)?.add_scaled(step.weights(), 1.0 - self.beta)?;
        Ok(())
    }

    fn finish(&mut self, step: &mut Step<'_>, weights: Params) -> Result<Params> {
        // What another method of the stage has added to the trained weights stays.
        let added = weights.add_scaled(step.weights(), -1.0)?;
        self.mean.add_scaled(&added, 1.0)
    }

    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.mean.clone(), values: serde_json::Value::Null })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.mean = state.tensors;
        Ok(())
    }
}

/// Leaves the named layers and parts as they are.
pub struct Freeze {
    config: FreezeConfig,
}

impl Freeze {
    /// Freezes what these settings name.
    pub fn new(config: FreezeConfig) -> Self {
        Self { config }
    }
}

impl Defense for Freeze {
    fn freezes(&self, parameter: &Parameter) -> bool {
        let FreezeConfig { layers, parts } = &self.config;
        let part = match parameter.part {
            Part::Attention => Some(Frozen::Attention),
            Part::Mlp => Some(Frozen::Mlp),
            Part::Norm => Some(Frozen::Norms),
            Part::Embedding => Some(Frozen::Embeddings),
            Part::Head => Some(Frozen::Head),
            _ => None,
        };
        parameter.layer.is_some_and(|layer| layers.contains(&layer))
            || part.is_some_and(|part| parts.contains(&part))
    }
}
