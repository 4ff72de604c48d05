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
    /// Gate and up projection, or the up projection alone. With a gate its activation multiplies the
    /// output of the up projection.
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
        // GeGLU has no kernel for gate and up side by side.
        let joined = match self.kind {
            design::Mlp::GeGlu => None,
            design::Mlp::SwiGlu | design::Mlp::Relu => self.inner.joined(x, pass)?,
        };
        let inner = match (self.kind, joined) {
            (design::Mlp::Relu, Some(up)) => ops::relu(&up)?,
            (_, Some(joined)) => ops::swiglu_joint(&joined)?,
            (kind, None) => match &self.inner.apart(x, pass)?[..] {
                [gate, up] if kind == design::Mlp::GeGlu => ops::geglu(gate, up)?,
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
