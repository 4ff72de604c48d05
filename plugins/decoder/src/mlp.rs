//! The feed-forward block.

use crate::layers::Linear;
use candle_core::Tensor;
use vxf_core::backbone::Pass;
use vxf_core::{Result, Trainable};
use vxf_nn::ops;

use crate::design;
use crate::parts::Parts;

/// The feed-forward block of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    /// The layer whose activated output multiplies that of `up`; none in a plain block.
    gate: Option<Linear>,
    activation: design::Mlp,
    up: Linear,
    down: Linear,
}

impl Mlp {
    pub(crate) fn new(layer: usize, parts: &Parts<'_>) -> Result<Self> {
        let design = parts.design;
        let linear = |part| parts.linear(&design.layer_name(layer, part));
        Ok(Self {
            gate: match design.mlp {
                design::Mlp::SwiGlu | design::Mlp::GeGlu => Some(linear("mlp.gate_proj")?),
                design::Mlp::Relu => None,
            },
            activation: design.mlp,
            up: linear(design.names.up)?,
            down: linear(design.names.down)?,
        })
    }

    /// `[batch, sequence, width]` in and out; zero at padded positions whose outputs are unused.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let (batch, len, _) = x.dims3()?;
        match pass.real_rows() {
            // The copies in and out are about a tenth of a position's memory traffic here: with
            // less than a sixteenth of padding they are not worth it (an estimate, not measured).
            Some(lengths)
                if self.packs(x) && lengths.iter().sum::<usize>() * 16 < batch * len * 15 =>
            {
                let fed = self.each(&ops::packed(x, lengths)?, pass)?;
                Ok(ops::padded(&fed, lengths, len)?)
            }
            _ => self.each(x, pass),
        }
    }

    /// Whether padding can be removed: dropout masks are drawn for all positions, and only the CPU
    /// has kernels for it.
    fn packs(&self, x: &Tensor) -> bool {
        let mut layers = self.gate.iter().chain([&self.up, &self.down]);
        x.device().is_cpu() && !layers.any(Linear::has_dropout)
    }

    /// Computes each position by itself.
    fn each(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let gate = self.gate.as_ref().map(|gate| gate.forward(x, pass)).transpose()?;
        let up = self.up.forward(x, pass)?;
        let inner = match gate {
            Some(gate) if self.activation == design::Mlp::GeGlu => ops::geglu(&gate, &up)?,
            Some(gate) => ops::swiglu(&gate, &up)?,
            None => ops::relu(&up)?,
        };
        self.down.forward(&inner, pass)
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        Self {
            gate: self.gate.as_ref().map(|gate| gate.with_trainable(trainable)),
            activation: self.activation,
            up: self.up.with_trainable(trainable),
            down: self.down.with_trainable(trainable),
        }
    }
}
