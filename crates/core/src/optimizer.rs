//! AdamW with decoupled weight decay and global-norm clipping, as PyTorch computes them.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use std::collections::BTreeSet;

use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::backbone::Parameter;
use crate::finite::Finite;
use crate::{Error, Gradients, Params, Result};
use cpu::Kernel;
use vxf_tensor::Scalar;

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
/// Weights without a gradient are left alone, as PyTorch does.
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
            broken: Scalar::default(),
        })
    }

    /// Moves `weights` in place along `gradients` times `factor`, at learning rate `rate`.
    pub fn step(
        &mut self,
        weights: &Params,
        gradients: &Gradients,
        factor: f64,
        rate: f64,
    ) -> Result<()> {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let steps = self.steps as f64;
        let update = Update {
            shrink: 1.0,
            size: rate / (1.0 - beta1.powf(steps)),
            root: (1.0 - beta2.powf(steps)).sqrt(),
            epsilon,
        };
        #[cfg(feature = "cuda")]
        let on_cuda = cuda::Launches::on(weights)?;
        let mut finite = Finite::new(self.steps - 1);
        for (name, gradient) in gradients.iter() {
            let missing = || Error::ParameterMismatch { name: name.to_owned() };
            let weight = weights.get(name).ok_or_else(missing)?;
            let first = self.first.get(name).ok_or_else(missing)?;
            let second = self.second.get(name).ok_or_else(missing)?;
            let gradient = gradient.contiguous()?;
            let decayed = self.decayed.contains(name);
            let shrink = if decayed { 1.0 - rate * weight_decay } else { 1.0 };
            let update = Update { shrink, ..update };
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
        finite.check(weights)
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

/// What to multiply a gradient of this norm by so that it is at most `limit`, as PyTorch's
/// `clip_grad_norm_`; 1 without a limit.
pub fn clip_factor(norm: f64, limit: Option<f64>) -> f64 {
    limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0))
}

/// `w <- shrink * w - size * m / (sqrt(v) / root + epsilon)`.
#[derive(Clone, Copy)]
struct Update {
    shrink: f64,
    size: f64,
    root: f64,
    epsilon: f64,
}

impl Update {
    /// The same from candle operations, for devices without a kernel of ours.
    fn compose(&self, weight: &Tensor, first: &Tensor, second: &Tensor) -> Result<()> {
        let direction = (first / ((second.sqrt()? / self.root)? + self.epsilon)?)?;
        let moved = ((weight.detach() * self.shrink)? - (direction * self.size)?)?;
        Ok(Var::from_tensor(weight)?.set(&moved)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Three steps by hand in f64, on one decayed and one undecayed weight.
    #[test]
    fn steps_follow_the_formula() -> Result<()> {
        let config = AdamWConfig { weight_decay: 0.1, ..Default::default() };
        let parameter = |name: &str, decay| Parameter { name: name.into(), shape: vec![2], decay };
        let parameters = [parameter("a.weight", true), parameter("norm.weight", false)];
        let start = Tensor::new(&[0.5f64, -1.5], &Device::Cpu)?;
        let weights: Params =
            parameters.iter().map(|p| (p.name.clone(), start.copy().expect("cpu"))).collect();
        let mut adam = AdamW::new(config, &parameters, &weights)?;
        let mut expected = [[0.5f64, -1.5], [0.5, -1.5]];
        let (mut m, mut v) = ([0.0f64; 2], [0.0f64; 2]);
        for step in 1..=3i32 {
            let g = [0.3 * f64::from(step), -2.0];
            let gradients =
                weights.map(|_| Ok(Tensor::new(&[g[0] * 2.0, g[1] * 2.0], &Device::Cpu)?))?;
            adam.step(&weights, &gradients, 0.5, 0.01)?;
            for i in 0..2 {
                m[i] = 0.9 * m[i] + 0.1 * g[i];
                v[i] = 0.999 * v[i] + 0.001 * g[i] * g[i];
                let m_hat = m[i] / (1.0 - 0.9f64.powi(step));
                let v_hat = v[i] / (1.0 - 0.999f64.powi(step));
                let move_by = 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
                expected[0][i] = expected[0][i] * (1.0 - 0.01 * 0.1) - move_by;
                expected[1][i] -= move_by;
            }
        }
        for (parameter, expected) in parameters.iter().zip(expected) {
            let got = weights.get(&parameter.name).expect("inserted").to_vec1::<f64>()?;
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-9, "{got} {expected}");
            }
        }
        Ok(())
    }

    /// A gradient that is the weight itself moves it as one of the same numbers elsewhere.
    #[test]
    fn a_weight_may_be_its_own_gradient() -> Result<()> {
        let parameters = [Parameter { name: "w".into(), shape: vec![3], decay: true }];
        let moved = |gradient: fn(&Tensor) -> Result<Tensor>| {
            let start = Tensor::new(&[0.5f32, -1.5, 2.0], &Device::Cpu)?;
            let weights: Params = [("w".to_owned(), start)].into_iter().collect();
            let mut adam = AdamW::new(AdamWConfig::default(), &parameters, &weights)?;
            for _ in 0..2 {
                adam.step(&weights, &weights.map(gradient)?, 1.0, 0.1)?;
            }
            Ok::<_, Error>(weights.get("w").expect("inserted").to_vec1::<f32>()?)
        };
        assert_eq!(moved(|w| Ok(w.detach()))?, moved(|w| Ok(w.copy()?))?);
        let error = moved(|w| Ok(w.narrow(0, 0, 2)?)).expect_err("a gradient of another shape");
        assert!(error.to_string().contains("is [2], its weight [3]"), "{error}");
        Ok(())
    }

    /// The gradient is fine and so is the step before; what the update makes is not.
    #[test]
    fn a_weight_that_is_no_number_any_more_is_named_with_its_step() -> Result<()> {
        let parameter =
            |name: &str| Parameter { name: name.into(), shape: vec![40_000], decay: false };
        let parameters = [parameter("fine"), parameter("large")];
        let value = |value: f32| Tensor::full(value, 40_000, &Device::Cpu);
        let weights: Params =
            [("fine".to_owned(), value(1.0)?), ("large".to_owned(), value(-3.395e38)?)]
                .into_iter()
                .collect();
        let gradients = weights.map(|_| Ok(value(1.0)?))?;
        let mut adam = AdamW::new(AdamWConfig::default(), &parameters, &weights)?;
        adam.step(&weights, &gradients, 1.0, 0.1)?;
        let error = adam.step(&weights, &gradients, 1.0, 1e37).expect_err("beyond f32");
        assert_eq!(
            error.to_string(),
            "a weight of `large` is -inf at step 1; training cannot go on"
        );
        Ok(())
    }

    #[test]
    fn clipping_leaves_small_gradients_alone() {
        assert_eq!(clip_factor(0.5, Some(1.0)), 1.0);
        assert!((clip_factor(4.0, Some(1.0)) - 0.25).abs() < 1e-6);
        assert_eq!(clip_factor(1e9, None), 1.0);
    }
}
