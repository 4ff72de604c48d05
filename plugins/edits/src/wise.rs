//! WiSE-FT.

use vxf_core::prelude::*;

use crate::change::{Left, apply, change, modules};

/// `W <- W_aligned + (1 - share) (W - W_aligned)` for every weight with a reference; biases stay.
pub struct WiseFt {
    share: f64,
}

impl WiseFt {
    /// Moves this share of the way back.
    pub fn new(share: f64) -> Self {
        Self { share }
    }
}

impl Defense for WiseFt {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let left = Left::Times(1.0 - self.share);
        for parameter in modules(step) {
            // Refuses an adapter that does not stand on the aligned model.
            change(step, &weights, parameter.module(), Reference::Aligned)?;
            apply(step, &mut weights, &parameter, Reference::Aligned, &left)?;
        }
        Ok(weights)
    }
}
