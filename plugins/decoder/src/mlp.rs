//! The feed-forward block.

use crate::layers::{Group, Linear};
use candle_core::Tensor;
use vxf_core::backbone::Pass;
use vxf_core::site::SiteKind;
use vxf_core::{Result, Site, Trainable};
use vxf_nn::ops::{self, Values};

use crate::design;
use crate::parts::Parts;

/// The feed-forward block of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Mlp {
    layer: usize,
    kind: design::Mlp,
    /// Gate and up projection, two layers or one, or the up projection alone. With a gate its activation
    /// multiplies the output of the up projection.
    inner: Group,
    down: Linear,
}

impl Mlp {
    pub(crate) fn new(layer: usize, parts: &Parts<'_>) -> Result<Self> {
        let design = parts.design;
        Ok(Self {
            layer,
            kind: design.mlp,
            inner: parts.group(&design.gate_up(layer))?,
            down: parts.linear(&design.layer_name(layer, design.names.down))?,
        })
    }

    /// `[positions, width]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass<'_>, values: Values) -> Result<Tensor> {
        let x = &pass.tap(self.site(SiteKind::MlpInput), x)?;
        // GeGLU has no kernel for gate and up side by side.
        let joined = match self.kind {
            design::Mlp::GeGlu => None,
            design::Mlp::SwiGlu | design::Mlp::Relu => self.inner.joined(x, pass)?,
        };
        let outputs = match joined {
            Some(joined) => vec![joined],
            None => self.inner.apart(x, pass)?,
        };
        let inner = match (self.kind, &outputs[..]) {
            (design::Mlp::Relu, [up]) => ops::relu(up)?,
            (design::Mlp::SwiGlu, [joined]) => ops::swiglu_joint(joined)?,
            (design::Mlp::SwiGlu, [gate, up]) => ops::swiglu(gate, up)?,
            (design::Mlp::GeGlu, [gate, up]) => ops::geglu(gate, up)?,
            _ => unreachable!("one layer, or a gate and a layer"),
        };
        let inner = pass.tap(self.site(SiteKind::MlpInner), &inner)?;
        self.down.applied(&inner, pass, values)
    }

    fn site(&self, kind: SiteKind) -> Site {
        Site { layer: self.layer, kind }
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        Self {
            inner: self.inner.with_trainable(trainable),
            down: self.down.with_trainable(trainable),
            ..self.clone()
        }
    }
}
