//! SafeLoRA.

use candle_core::Tensor;
use vxf_core::numeric::{scalar, sum_of_squares};
use vxf_core::prelude::*;

use crate::change::{Left, apply, change, modules};
use crate::config::SafeLoraConfig;

/// `D <- C D` where the cosine between `C D` and `D` is at most tau, with `C = V V^T / ||V||`, `V` what
/// alignment changed and `D` what fine-tuning changed, for each linear layer.
pub struct SafeLora {
    config: SafeLoraConfig,
}

impl SafeLora {
    /// SafeLoRA with these settings.
    pub fn new(config: SafeLoraConfig) -> Self {
        Self { config }
    }

    /// The projection of a module, and the cosine between the projected change and the change; none if
    /// alignment or fine-tuning did not change it.
    fn projection(
        step: &Step<'_>,
        weights: &Params,
        module: &str,
    ) -> Result<Option<(Tensor, f64)>> {
        let aligned = step.reference(Reference::Aligned)?.weight(module)?;
        let v = (aligned - step.reference(Reference::Base)?.weight(module)?)?;
        let length = sum_of_squares(&v)?.sqrt();
        let moved = change(step, weights, module, Reference::Aligned)?;
        if length == 0.0 || sum_of_squares(&moved)? == 0.0 {
            return Ok(None);
        }
        let projection = (v.matmul(&v.t()?)? / length)?;
        let projected = projection.matmul(&moved)?;
        let product = scalar(&(&projected * &moved)?.sum_all()?)?;
        let lengths = (sum_of_squares(&projected)? * sum_of_squares(&moved)?).sqrt();
        Ok(Some((projection, product / lengths)))
    }
}

impl Defense for SafeLora {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let linear = |parameter: &Parameter| {
            matches!(parameter.part, Part::Attention | Part::Mlp) && parameter.shape.len() == 2
        };
        let modules: Vec<_> = modules(step).into_iter().filter(linear).collect();
        let mut cosines = Vec::new();
        for parameter in &modules {
            let found = Self::projection(step, &weights, parameter.module())?;
            cosines.push(found.map(|(_, cosine)| cosine));
        }
        let mut sorted: Vec<_> = cosines.iter().flatten().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let threshold = match self.config.layers {
            0 => self.config.tau,
            count => sorted.get(count - 1).or(sorted.last()).copied().unwrap_or(f64::MIN),
        };
        let mut projected = 0;
        for (parameter, cosine) in modules.iter().zip(&cosines) {
            if cosine.is_none_or(|cosine| cosine > threshold) {
                continue;
            }
            let Some((matrix, _)) = Self::projection(step, &weights, parameter.module())? else {
                continue;
            };
            let left = Left::Matrix(matrix);
            apply(step, &mut weights, parameter, Reference::Aligned, &left)?;
            projected += 1;
        }
        step.record("projected_layers", f64::from(projected))?;
        step.record("changed_layers", sorted.len() as f64)?;
        Ok(weights)
    }
}
