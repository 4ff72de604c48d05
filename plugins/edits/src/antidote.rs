//! Antidote.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use vxf_core::prelude::*;

use crate::config::{AntidoteConfig, Pruned};

/// `W <- W (1 - m)` for each matrix of a linear layer, or of its adapter: in each output row, m is 1 at the
/// share of weights with the highest scores `|W_ij| sqrt(mean_x ||x_j||^2)` on harmful samples x (WANDA).
///
/// x is the matrix's input: for B of an adapter, what A gives. The mean is over samples, the norm over the
/// positions of a sample.
pub struct Antidote {
    config: AntidoteConfig,
}

/// A matrix to prune: its name, the site of its layer's input, and for B of an adapter the name of A.
struct Target {
    name: String,
    site: Site,
    before: Option<String>,
}

impl Antidote {
    /// Antidote with these settings.
    pub fn new(config: AntidoteConfig) -> Self {
        Self { config }
    }

    fn targets(step: &Step<'_>) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for parameter in step.parameters() {
            let linear = matches!(parameter.part, Part::Attention | Part::Mlp);
            let Some(layer) = parameter.layer.filter(|_| linear && parameter.shape.len() == 2)
            else {
                continue;
            };
            let module = parameter.module();
            let site = Site::input_of(layer, module).ok_or_else(|| {
                Error::Unsuitable(format!(
                    "Antidote does not know the input of the layer `{module}`"
                ))
            })?;
            let name = parameter.name.clone();
            let before = (name == Lora::b_of(module)).then(|| Lora::a_of(module));
            targets.push(Target { name, site, before });
        }
        Ok(targets)
    }

    /// The sums of the squared inputs of each target over harmful samples, `[in]` in f64 on the CPU.
    fn inputs(
        &self,
        step: &mut Step<'_>,
        weights: &Params,
        targets: &[Target],
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut sites: Vec<_> = targets.iter().map(|target| target.site).collect();
        sites.sort();
        sites.dedup();
        let mut sums: BTreeMap<String, Tensor> = BTreeMap::new();
        let mut seen = 0;
        while seen < self.config.samples {
            if seen > 0 {
                step.redraw("harmful")?;
            }
            seen += step.batch("harmful")?.lengths.len();
            // Of the model as it is now: an earlier member of a composition may have edited it.
            let hidden = step.with_weights(weights, |step| {
                step.on("harmful").role(Role::Evaluation).hidden(&sites)
            })?;
            for Target { name, site, before } in targets {
                let mut x = hidden[site].clone();
                if let Some(a) = before.as_ref().and_then(|before| weights.get(before)) {
                    x = x.matmul(&a.to_dtype(x.dtype())?.t()?)?;
                }
                let own = x.to_dtype(DType::F32)?.sqr()?.sum(0)?;
                let own = own.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
                let sum = match sums.get(name) {
                    Some(sum) => (sum + own)?,
                    None => own,
                };
                sums.insert(name.clone(), sum);
            }
        }
        Ok(sums)
    }

    /// `weight` `[out, in]` without the chosen share of each row, and the number of weights set to zero.
    fn pruned(&self, weight: &Tensor, squares: &[f64]) -> Result<(Tensor, usize)> {
        let AntidoteConfig { share, prunes, .. } = self.config;
        let (_, columns) = weight.dims2()?;
        let mut rows = weight.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        // As the code rounds: the rest is rounded down.
        let count = columns - (columns as f64 * (1.0 - share)) as usize;
        for row in &mut rows {
            let scores: Vec<f64> = row
                .iter()
                .zip(squares)
                .map(|(weight, square)| weight.abs() * square.sqrt())
                .collect();
            let mut order: Vec<usize> = (0..columns).collect();
            order.sort_by(|&i, &j| scores[i].total_cmp(&scores[j]));
            let chosen = match prunes {
                Pruned::Highest => &order[columns - count..],
                Pruned::Lowest => &order[..count],
            };
            chosen.iter().for_each(|&column| row[column] = 0.0);
        }
        let zeros = count * rows.len();
        let pruned = Tensor::new(rows, &Device::Cpu)?.to_dtype(weight.dtype())?;
        Ok((pruned.to_device(weight.device())?, zeros))
    }
}

impl Defense for Antidote {
    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        let targets = Self::targets(step)?;
        let inputs = self.inputs(step, &weights, &targets)?;
        let mut zeros = 0;
        for Target { name, .. } in &targets {
            let (Some(weight), Some(squares)) = (weights.get(name), inputs.get(name)) else {
                continue;
            };
            let (pruned, count) = self.pruned(weight, &squares.to_vec1()?)?;
            weights.insert(name.clone(), pruned);
            zeros += count;
        }
        step.record("pruned_weights", zeros as f64)?;
        Ok(weights)
    }
}
