//! AdamW with decoupled weight decay and global-norm clipping, as PyTorch computes them.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Var;
use serde::{Deserialize, Serialize};

use crate::backbone::Parameter;
use crate::finite::FiniteCheck;
use crate::{Error, Gradients, Params, Result};
use vxf_tensor::Scalar;
use vxf_tensor::adamw::{Kernel, Update};

/// AdamW's constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay: weights shrink by the factor `1 - rate * weight_decay` each step, except
    /// norms and biases.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW (Loshchilov and Hutter 2019), with public state.
///
/// Weights without a gradient do not change, and bias correction counts each weight's own updates,
/// as in PyTorch.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    decayed: BTreeSet<String>,
    /// First moments.
    pub first: Params,
    /// Second moments.
    pub second: Params,
    /// Steps taken.
    pub steps: u64,
    /// By weight, the number of steps without a gradient for it; weights that always had one are
    /// not listed.
    pub missed: BTreeMap<String, u64>,
    /// On a GPU: not zero if a weight is NaN or infinite after the last step.
    non_finite: Scalar,
}

impl AdamW {
    /// A new optimiser for `weights`.
    pub fn new(config: AdamWConfig, parameters: &[Parameter], weights: &Params) -> Result<Self> {
        let decayed = parameters.iter().filter(|parameter| parameter.decay);
        Ok(Self {
            config,
            decayed: decayed.map(|parameter| parameter.name.clone()).collect(),
            first: weights.zeros_like()?,
            second: weights.zeros_like()?,
            steps: 0,
            missed: BTreeMap::new(),
            non_finite: Scalar::default(),
        })
    }

    /// Updates `weights` along `gradients` times `factor`, at learning rate `rate`.
    ///
    /// Variables are updated in place. Any other tensor may share storage with the set that it was
    /// cloned from, so it is first replaced by a variable of its own. No other set changes.
    pub fn step(
        &mut self,
        weights: &mut Params,
        gradients: &Gradients,
        factor: f64,
        rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, weight_decay, .. } = self.config;
        own(weights, gradients)?;
        #[cfg(feature = "cuda")]
        let on_cuda = vxf_tensor::adamw::Launches::on(weights.iter().map(|(_, weight)| weight))?;
        let mut finite = FiniteCheck::new(self.steps - 1);
        for (name, gradient) in gradients.iter() {
            let missing = || Error::ParameterMismatch { name: name.to_owned() };
            let weight = weights.get(name).ok_or_else(missing)?;
            let first = self.first.get(name).ok_or_else(missing)?;
            let second = self.second.get(name).ok_or_else(missing)?;
            let gradient = gradient.contiguous()?;
            let decayed = self.decayed.contains(name);
            let shrink = if decayed { 1.0 - rate * weight_decay } else { 1.0 };
            let update = Update { shrink, ..self.update(name, rate) };
            #[cfg(feature = "cuda")]
            if let Some(launches) = &on_cuda {
                let moments = [(first, beta1), (second, beta2)];
                launches.update(weight, moments, &gradient, factor, update)?;
                continue;
            }
            if !weight.device().is_cpu() {
                let gradient = (gradient * factor)?;
                let first = ((first * beta1)? + (&gradient * (1.0 - beta1))?)?;
                let second = ((second * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
                update.compose(weight, &first, &second)?;
                self.first.insert(name, first);
                self.second.insert(name, second);
                finite.remember(name, weight)?;
                continue;
            }
            let kernel = Kernel { factor, keep: [beta1, beta2], update };
            if !kernel.apply(weight, [first, second], &gradient)? {
                return Err(finite.error(name, weight));
            }
        }
        #[cfg(feature = "cuda")]
        if let Some(launches) = on_cuda {
            self.non_finite = launches.non_finite()?;
        }
        for name in weights.names().filter(|name| gradients.get(name).is_none()) {
            *self.missed.entry(name.to_owned()).or_default() += 1;
        }
        finite.check(weights)
    }

    /// The update of the weight called `name` at learning rate `rate`, without decay.
    fn update(&self, name: &str, rate: f64) -> Update {
        let missed = self.missed.get(name).copied().unwrap_or(0);
        let updates = self.steps.saturating_sub(missed) as f64;
        let AdamWConfig { beta1, beta2, epsilon, .. } = self.config;
        Update {
            shrink: 1.0,
            size: rate / (1.0 - beta1.powf(updates)),
            root: (1.0 - beta2.powf(updates)).sqrt(),
            epsilon,
        }
    }

    /// On a GPU, a deferred flag: not zero if a weight is not finite after the last step.
    pub(crate) fn non_finite_flag(&self) -> Scalar {
        self.non_finite.clone()
    }

    /// Checks the non-finite flag fetched from the device.
    ///
    /// # Errors
    /// When a weight is not finite, naming it.
    pub(crate) fn check_flag(&mut self, flag: f64, weights: &Params) -> Result<()> {
        self.non_finite = Scalar::default();
        if flag == 0.0 { Ok(()) } else { FiniteCheck::new(self.steps - 1).search(weights) }
    }

    /// Waits for the last step and checks its weights.
    ///
    /// # Errors
    /// When a weight is not finite, naming it.
    pub(crate) fn wait_and_check(&self, weights: &Params) -> Result<()> {
        match self.non_finite.value()? {
            0.0 => Ok(()),
            _ => FiniteCheck::new(self.steps - 1).search(weights),
        }
    }
}

/// Replaces each weight with a gradient by a variable, if it is not one yet.
fn own(weights: &mut Params, gradients: &Gradients) -> Result<()> {
    for name in gradients.names() {
        if let Some(shared) = weights.get(name).filter(|weight| !weight.is_variable()) {
            let owned = Var::from_tensor(shared)?.into_inner();
            weights.insert(name, owned);
        }
    }
    Ok(())
}

/// The factor that clips a gradient of this norm to `limit`, as in PyTorch's `clip_grad_norm_`; 1
/// without a limit.
pub fn clip_factor(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests;
