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
        // Nothing of the change is left: it has no part along what alignment changed.
        let cosine = if lengths == 0.0 { 0.0 } else { product / lengths };
        Ok(Some((projection, cosine)))
    }
}

/// The `count`-th lowest cosine; the highest if there are fewer.
fn lowest(step: &Step<'_>, weights: &Params, modules: &[Parameter], count: usize) -> Result<f64> {
    // Projections are as large as the model's matrices, so each is made again where it is applied.
    let mut cosines = Vec::new();
    for parameter in modules {
        let found = SafeLora::projection(step, weights, parameter.module())?;
        cosines.extend(found.map(|(_, cosine)| cosine));
    }
    cosines.sort_by(f64::total_cmp);
    Ok(cosines.get(count - 1).or(cosines.last()).copied().unwrap_or(f64::MIN))
}

impl Defense for SafeLora {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let linear = |parameter: &Parameter| {
            matches!(parameter.part, Part::Attention | Part::Mlp) && parameter.shape.len() == 2
        };
        let modules: Vec<_> = modules(step).into_iter().filter(linear).collect();
        let threshold = match self.config.layers {
            0 => self.config.tau,
            count => lowest(step, &weights, &modules, count)?,
        };
        let (mut projected, mut changed) = (0, 0);
        for parameter in &modules {
            let found = Self::projection(step, &weights, parameter.module())?;
            let Some((matrix, cosine)) = found else { continue };
            changed += 1;
            if cosine <= threshold {
                let left = Left::Matrix(matrix);
                apply(step, &mut weights, parameter, Reference::Aligned, &left)?;
                projected += 1;
            }
        }
        step.record("projected_layers", f64::from(projected))?;
        step.record("changed_layers", f64::from(changed))?;
        Ok(weights)
    }
}
