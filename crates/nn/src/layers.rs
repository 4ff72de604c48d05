//! Layers that take their trainable weights from the pass and keep their frozen ones.

use candle_core::Tensor;
use vxf_core::backbone::Parameter;
use vxf_core::{Key, Lora, Params, Pass, Result, Trainable};

use crate::ops;

/// A linear layer without bias, with a place for a low-rank adapter.
///
/// `y = x W^T`, and with an adapter `y = x W^T + scale * dropout(x) A^T B^T` (Hu et al. 2021). Which
/// of W, A and B are trained depends on what the pass brings under `<name>.weight`,
/// `<name>.lora_A` and `<name>.lora_B`.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    weight_name: String,
    adapter: Option<Adapter>,
}

#[derive(Clone, Debug)]
struct Adapter {
    a_name: String,
    b_name: String,
    config: Lora,
}

impl Linear {
    /// The layer called `name` with the frozen weight `[out, in]`.
    pub fn new(name: &str, weight: Tensor) -> Self {
        Self { weight, weight_name: format!("{name}.weight"), adapter: None }
    }

    /// `[..., in]` to `[..., out]`.
    pub fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let weight = pass.weight(&self.weight_name).unwrap_or(&self.weight);
        let adapter = self.adapter.as_ref().and_then(|adapter| {
            Some((adapter, pass.weight(&adapter.a_name)?, pass.weight(&adapter.b_name)?))
        });
        let Some((adapter, a, b)) = adapter else {
            return Ok(ops::linear(x, weight)?);
        };
        let mask = pass.dropout(&adapter.a_name, adapter.config.dropout, x)?;
        Ok(ops::lora_linear(x, weight, a, b, adapter.config.scale(), mask.as_ref())?)
    }

    /// The frozen weight.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The weight's name, `<name>.weight`.
    pub fn weight_name(&self) -> &str {
        &self.weight_name
    }

    /// The layer's name.
    pub fn name(&self) -> &str {
        self.weight_name.strip_suffix(".weight").unwrap_or(&self.weight_name)
    }

    /// The same layer, with a place for an adapter if `trainable` targets it.
    pub fn with_trainable(&self, trainable: &Trainable) -> Self {
        let adapter = match trainable {
            Trainable::Lora(config) if config.targets(self.name()) => Some(Adapter {
                a_name: format!("{}.lora_A", self.name()),
                b_name: format!("{}.lora_B", self.name()),
                config: config.clone(),
            }),
            _ => None,
        };
        Self { adapter, ..self.clone() }
    }

    /// The adapter's trainable tensors, if it has a place for one: A `[r, in]` and B `[out, r]`.
    pub fn adapter_parameters(&self) -> Vec<Parameter> {
        let Some(adapter) = &self.adapter else {
            return Vec::new();
        };
        let (rank, dims) = (adapter.config.rank, self.weight.dims());
        let parameter = |name: &String, shape| Parameter { name: name.clone(), shape, decay: true };
        vec![
            parameter(&adapter.a_name, vec![rank, dims[1]]),
            parameter(&adapter.b_name, vec![dims[0], rank]),
        ]
    }

    /// A fresh adapter as PEFT makes it: A uniform within `1 / sqrt(in)`, B zero.
    pub fn initial_adapter(&self, key: &Key) -> Result<Params> {
        let mut fresh = Params::new();
        let Some(adapter) = &self.adapter else {
            return Ok(fresh);
        };
        let (rank, dims) = (adapter.config.rank, self.weight.dims());
        let (dtype, device) = (self.weight.dtype(), self.weight.device());
        // Kaiming-uniform with a = sqrt(5): bound sqrt(6 / ((1 + 5) * in)).
        let bound = 1.0 / (dims[1] as f64).sqrt();
        let a = key.child(&adapter.a_name).uniform(bound, &[rank, dims[1]], dtype, device)?;
        fresh.insert(&adapter.a_name, a);
        fresh.insert(&adapter.b_name, Tensor::zeros((dims[0], rank), dtype, device)?);
        Ok(fresh)
    }

    /// The same layer with `weights` folded into its frozen one: a weight of its name replaces it,
    /// an adapter is added to it as `scale * B A`, in the frozen weight's type.
    pub fn merged(&self, weights: &Params) -> Result<Self> {
        let mut weight = match weights.get(&self.weight_name) {
            Some(weight) => weight.detach().copy()?,
            None => self.weight.clone(),
        };
        if let Some(adapter) = &self.adapter
            && let (Some(a), Some(b)) = (weights.get(&adapter.a_name), weights.get(&adapter.b_name))
        {
            let delta = (b.detach().matmul(&a.detach())? * adapter.config.scale())?;
            weight = (weight + delta.to_dtype(self.weight.dtype())?)?;
        }
        Ok(Self { weight, weight_name: self.weight_name.clone(), adapter: None })
    }
}

/// Root-mean-square normalisation with a gain.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    gain: Tensor,
    name: String,
    epsilon: f64,
}

impl RmsNorm {
    /// The layer called `name` with the frozen gain `[width]`.
    pub fn new(name: &str, gain: Tensor, epsilon: f64) -> Self {
        Self { gain, name: format!("{name}.weight"), epsilon }
    }

    /// `[..., width]` to the same.
    pub fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let gain = pass.weight(&self.name).unwrap_or(&self.gain);
        Ok(ops::rms_norm(x, gain, self.epsilon)?)
    }

    /// The gain's name, `<name>.weight`.
    pub fn weight_name(&self) -> &str {
        &self.name
    }

    /// The frozen gain.
    pub fn weight(&self) -> &Tensor {
        &self.gain
    }

    /// The same layer with a gain of its name in `weights` as its frozen one.
    pub fn merged(&self, weights: &Params) -> Result<Self> {
        match weights.get(&self.name) {
            Some(gain) => Ok(Self { gain: gain.detach().copy()?, ..self.clone() }),
            None => Ok(self.clone()),
        }
    }
}
