//! LoX.

use candle_core::{DType, Device, Tensor};
use vxf_core::prelude::*;

use crate::change::{Left, apply, change, modules};
use crate::config::LoxConfig;
use crate::subspace::leading_left;

/// `W <- W + factor * (leading part of W - W_base)` for each linear layer: the part in the `rank` largest
/// singular directions.
pub struct Lox {
    config: LoxConfig,
}

impl Lox {
    /// LoX with these settings.
    pub fn new(config: LoxConfig) -> Self {
        Self { config }
    }
}

impl Defense for Lox {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let LoxConfig { rank, factor } = self.config;
        let linear = |parameter: &Parameter| {
            matches!(parameter.part, Part::Attention | Part::Mlp) && parameter.shape.len() == 2
        };
        for parameter in modules(step).into_iter().filter(linear) {
            let change = change(step, &weights, parameter.module(), Reference::Base)?;
            let (dtype, device) = (change.dtype(), change.device().clone());
            let key = step.key("lox").child(&parameter.name);
            let wide = change.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            let Some(leading) = leading_left(&wide, rank, &key)? else { continue };
            // I + factor U U^T
            let one = Tensor::eye(wide.dim(0)?, DType::F64, &Device::Cpu)?;
            let matrix = (one + (leading.matmul(&leading.t()?)? * factor)?)?;
            let left = Left::Matrix(matrix.to_dtype(dtype)?.to_device(&device)?);
            apply(step, &mut weights, &parameter, Reference::Base, &left)?;
        }
        Ok(weights)
    }
}
