//! The feed-forward block.

use crate::layers::{Group, Linear};
use candle_core::Tensor;
use vxf_core::backbone::Pass;
use vxf_core::{Result, Trainable};
use vxf_nn::ops::{self, Values};

use crate::design;
use crate::parts::Parts;

/// The feed-forward block of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    kind: design::Mlp,
    /// Gate and up projection, or the up projection alone. With a gate the activation is `silu(gate) * up`,
    /// without one `relu(up)`.
    inner: Group,
    down: Linear,
}

impl Mlp {
    pub(crate) fn new(layer: usize, parts: &Parts<'_>) -> Result<Self> {
        let design = parts.design;
        Ok(Self {
            kind: design.mlp,
            inner: parts.group(&design.gate_up(layer))?,
            down: parts.linear(&design.layer_name(layer, design.names.down))?,
        })
    }

    /// `[positions, width]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>, values: Values) -> Result<Tensor> {
        let inner = match (self.kind, self.inner.joined(x, pass)?) {
            (design::Mlp::Gated, Some(joined)) => ops::swiglu_joint(&joined)?,
            (design::Mlp::Relu, Some(up)) => ops::relu(&up)?,
            (_, None) => match &self.inner.apart(x, pass)?[..] {
                [gate, up] => ops::swiglu(gate, up)?,
                [up] => ops::relu(up)?,
                _ => unreachable!("one layer or two"),
            },
        };
        self.down.applied(&inner, pass, values)
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        Self {
            inner: self.inner.with_trainable(trainable),
            down: self.down.with_trainable(trainable),
            ..self.clone()
        }
    }
}
