//! Pruning by magnitude.

use candle_core::{DType, Device, Tensor};
use vxf_core::prelude::*;

/// Sets the `share` smallest weights of each matrix of attention and MLP to zero.
pub struct Prune {
    share: f64,
}

impl Prune {
    /// Prunes this share of each matrix.
    pub fn new(share: f64) -> Self {
        Self { share }
    }

    /// `weight` without its smallest entries. Of entries of one magnitude, the first ones go.
    fn pruned(&self, weight: &Tensor) -> Result<(Tensor, usize)> {
        let wide = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
        let mut values: Vec<f64> = wide.flatten_all()?.to_vec1()?;
        let count = (self.share * values.len() as f64).round() as usize;
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&a, &b| values[a].abs().total_cmp(&values[b].abs()));
        order.iter().take(count).for_each(|&index| values[index] = 0.0);
        let pruned = Tensor::from_vec(values, weight.dims(), &Device::Cpu)?;
        Ok((pruned.to_dtype(weight.dtype())?.to_device(weight.device())?, count))
    }
}

impl Defense for Prune {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let matrix = |parameter: &&Parameter| {
            matches!(parameter.part, Part::Attention | Part::Mlp) && parameter.shape.len() == 2
        };
        let matrices: Vec<Parameter> = step.parameters().iter().filter(matrix).cloned().collect();
        let mut zeros = 0;
        for Parameter { name, .. } in &matrices {
            let missing = || Error::ParameterMismatch { name: name.clone() };
            let weight = weights.get(name).ok_or_else(missing)?.detach();
            let (pruned, count) = self.pruned(&weight)?;
            weights.insert(name.as_str(), pruned);
            zeros += count;
        }
        step.record("pruned_weights", zeros as f64)?;
        Ok(weights)
    }
}
