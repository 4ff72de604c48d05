//! Layers with frozen weights of their own and trainable weights from the pass.

use candle_core::Tensor;
use vxf_core::{Lora, Pass, Result, Trainable};

use vxf_nn::ops;
use vxf_tensor::autograd::add;

/// A frozen tensor, and the name under which a pass may have a trained one.
#[derive(Clone, Debug)]
struct Weight {
    name: String,
    frozen: Tensor,
}

impl Weight {
    fn new(name: String, frozen: Tensor) -> Self {
        Self { name, frozen }
    }

    fn of(&self, pass: &Pass<'_>) -> Result<Tensor> {
        pass.weight_or(&self.name, &self.frozen)
    }
}

/// A linear layer with an optional low-rank adapter.
///
/// `y = x W^T + b`, and with an adapter `y = x W^T + scale * dropout(x) A^T B^T + b` (Hu et al.
/// 2021). Which of W, b, A and B are trained depends on what the pass has under `<name>.weight`,
/// `<name>.bias`, `<name>.lora_A` and `<name>.lora_B`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    name: String,
    weight: Weight,
    bias: Option<Weight>,
    adapter: Option<Adapter>,
}

#[derive(Clone, Debug)]
struct Adapter {
    a_name: String,
    b_name: String,
    dropout: f64,
    scale: f64,
}

impl Linear {
    /// The layer called `name` with the frozen weight `[out, in]` and bias `[out]`.
    pub(crate) fn new(name: &str, weight: Tensor, bias: Option<Tensor>) -> Self {
        Self {
            name: name.to_owned(),
            weight: Weight::new(format!("{name}.weight"), weight),
            bias: bias.map(|bias| Weight::new(format!("{name}.bias"), bias)),
            adapter: None,
        }
    }

    /// Maps `[..., in]` to `[..., out]`.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let weight = &self.weight.of(pass)?;
        let adapter = self.adapter.as_ref().and_then(|adapter| {
            Some((adapter, pass.weight(&adapter.a_name)?, pass.weight(&adapter.b_name)?))
        });
        let y = match adapter {
            None => ops::linear(x, weight)?,
            Some((adapter, a, b)) => {
                let mask = pass.dropout(&adapter.a_name, adapter.dropout, x)?;
                ops::lora_linear(x, weight, a, b, adapter.scale, mask.as_ref())?
            }
        };
        match &self.bias {
            None => Ok(y),
            Some(bias) => Ok(ops::add_bias(&y, &bias.of(pass)?)?),
        }
    }

    /// Whether a training pass draws a dropout mask of the input's shape here.
    pub(crate) fn has_dropout(&self) -> bool {
        self.adapter.as_ref().is_some_and(|adapter| adapter.dropout > 0.0)
    }

    /// The layer with an adapter, if `trainable` targets it.
    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        let adapter = match trainable {
            Trainable::Lora(config) if config.targets(&self.name) => Some(Adapter {
                a_name: Lora::a_of(&self.name),
                b_name: Lora::b_of(&self.name),
                dropout: config.dropout,
                scale: config.scale(),
            }),
            _ => None,
        };
        Self { adapter, ..self.clone() }
    }
}

/// A normalisation over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    gain: Weight,
    /// The bias of a layer norm; an RMS norm has none.
    bias: Option<Weight>,
    /// Whether one is added to the gain.
    offset: bool,
    epsilon: f64,
}

impl Norm {
    /// The root-mean-square norm called `name` with the frozen gain `[width]`, to which one is added
    /// if `offset` is set.
    pub(crate) fn rms(name: &str, gain: Tensor, offset: bool, epsilon: f64) -> Self {
        Self { gain: Weight::new(format!("{name}.weight"), gain), bias: None, offset, epsilon }
    }

    /// The layer norm called `name` with the frozen gain and bias, `[width]` each.
    pub(crate) fn layer(name: &str, gain: Tensor, bias: Tensor, epsilon: f64) -> Self {
        let bias = Some(Weight::new(format!("{name}.bias"), bias));
        Self { bias, ..Self::rms(name, gain, false, epsilon) }
    }

    /// Normalises `[..., width]`.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let gain = self.gain.of(pass)?;
        let gain = &if self.offset { add(&gain, &gain.ones_like()?)? } else { gain };
        Ok(match &self.bias {
            None => ops::rms_norm(x, gain, self.epsilon)?,
            Some(bias) => ops::layer_norm(x, gain, &bias.of(pass)?, self.epsilon)?,
        })
    }
}
