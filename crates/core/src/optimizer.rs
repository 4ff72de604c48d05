//! AdamW with decoupled weight decay and global-norm clipping, as PyTorch computes them.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::Var;
use serde::{Deserialize, Serialize};

use crate::backbone::Parameter;
use crate::finite::Finite;
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
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled decay: weights shrink by `rate * weight_decay` each step, norms and biases not.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW (Loshchilov and Hutter 2019), with all of its state in the open.
///
/// Weights without a gradient are left alone, and bias correction counts each weight's own updates, as
/// in PyTorch.
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
    /// In how many of them a weight had no gradient; weights that always had one are not listed.
    pub missed: BTreeMap<String, u64>,
    /// On a GPU: not zero if the last step left a weight that is no number.
    broken: Scalar,
}

impl AdamW {
    /// An optimiser at rest for `weights`.
    pub fn new(config: AdamWConfig, parameters: &[Parameter], weights: &Params) -> Result<Self> {
        let decayed = parameters.iter().filter(|parameter| parameter.decay);
        Ok(Self {
            config,
            decayed: decayed.map(|parameter| parameter.name.clone()).collect(),
            first: weights.zeros_like()?,
            second: weights.zeros_like()?,
            steps: 0,
            missed: BTreeMap::new(),
            broken: Scalar::default(),
        })
    }

    /// Moves `weights` along `gradients` times `factor`, at learning rate `rate`.
    ///
    /// Variables are moved in place. Any other tensor may share its storage with a set that it was
    /// cloned from, and is replaced by a variable of its own first: only an independent set moves.
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
        let mut finite = Finite::new(self.steps - 1);
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
            self.broken = launches.broken()?;
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

    /// Not zero if the last step left a weight that is no number, which on a GPU is not known at once.
    pub(crate) fn suspicion(&self) -> Scalar {
        self.broken.clone()
    }

    /// Hears what the suspicion came to.
    ///
    /// # Errors
    /// When it was right, naming the weight.
    pub(crate) fn clear(&mut self, suspicion: f64, weights: &Params) -> Result<()> {
        self.broken = Scalar::default();
        if suspicion == 0.0 { Ok(()) } else { Finite::new(self.steps - 1).search(weights) }
    }

    /// Waits for what the last step left.
    ///
    /// # Errors
    /// When a weight is no number, naming it.
    pub(crate) fn look(&self, weights: &Params) -> Result<()> {
        match self.broken.value()? {
            0.0 => Ok(()),
            _ => Finite::new(self.steps - 1).search(weights),
        }
    }
}

/// Replaces the tensors that `gradients` moves by variables, where they are none yet.
fn own(weights: &mut Params, gradients: &Gradients) -> Result<()> {
    for name in gradients.names() {
        if let Some(shared) = weights.get(name).filter(|weight| !weight.is_variable()) {
            let owned = Var::from_tensor(shared)?.into_inner();
            weights.insert(name, owned);
        }
    }
    Ok(())
}

/// What to multiply a gradient of this norm by so that it is at most `limit`, as PyTorch's
/// `clip_grad_norm_`; 1 without a limit.
pub fn clip_factor(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests;
