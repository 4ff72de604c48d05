//! Settings of both methods.

use serde::{Deserialize, Serialize};
use serde_json::json;
use vxf_core::prelude::*;

use crate::algorithm::{Ema, Freeze};

vxf_core::config! {
    /// Settings of the method `ema`.
    pub struct EmaConfig {
        /// Decay beta of the average: `m <- beta m + (1 - beta) w`.
        pub beta: f64 = 0.98,
    }
}

#[typetag::serde(name = "ema")]
impl DefenseConfig for EmaConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let range = (0.0..1.0).contains(&self.beta);
        ConfigError::unless(range, "beta", "must be at least 0 and below 1", self.beta)
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn copies(&self) -> f64 {
        1.0
    }

    fn ranges(&self) -> &'static [&'static str] {
        &["beta=0.9..0.999"]
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Ema::new(self.beta)))
    }
}

/// A part of the model that can be frozen in all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Frozen {
    /// The attention's projections.
    Attention,
    /// The MLP's projections.
    Mlp,
    /// Gains and biases of norms.
    Norms,
    /// Token and position embeddings.
    Embeddings,
    /// The output projection.
    Head,
}

vxf_core::config! {
    /// Settings of the method `freeze`.
    pub struct FreezeConfig {
        /// Layers that stay as they are, from 0.
        pub layers: Vec<usize> = Vec::new(),
        /// Parts that stay as they are in all layers: attention, mlp, norms, embeddings, head.
        pub parts: Vec<Frozen> = vec![Frozen::Mlp],
    }
}

#[typetag::serde(name = "freeze")]
impl DefenseConfig for FreezeConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let some = !(self.layers.is_empty() && self.parts.is_empty());
        let rule = "must name a layer, or `parts` a part: nothing would be frozen";
        ConfigError::unless(some, "layers", rule, json!(self.layers))
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn build(&self, _context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Freeze::new(self.clone())))
    }
}
