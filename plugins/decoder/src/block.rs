//! One layer: attention and MLP, each with a residual connection.

use crate::layers::Norm;
use candle_core::Tensor;
use vxf_core::backbone::Pass;
use vxf_core::{Result, Site, Trainable};
use vxf_nn::ops::{self, Values};
use vxf_tensor::autograd::add;

use crate::attention::{Attention, Positions};
use crate::cache::Cache;
use crate::mlp::Mlp;
use crate::parts::Parts;

/// The weights of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    layer: usize,
    name: String,
    norm_first: bool,
    dropout: f64,
    attention: Attention,
    attention_norm: Norm,
    mlp: Mlp,
    mlp_norm: Norm,
    /// The norms of what attention and MLP add, if the design has them.
    output_norms: Option<[Norm; 2]>,
}

impl Block {
    pub(crate) fn new(layer: usize, parts: &Parts<'_>) -> Result<Self> {
        let design = parts.design;
        let norm = |part| parts.norm(&design.layer_name(layer, part));
        Ok(Self {
            layer,
            name: format!("layers.{layer}"),
            norm_first: design.norm_first,
            dropout: design.dropout,
            attention: Attention::new(layer, parts)?,
            attention_norm: norm(design.names.attention_norm)?,
            mlp: Mlp::new(layer, parts)?,
            mlp_norm: norm(design.names.mlp_norm)?,
            output_norms: match design.names.output_norms {
                Some([attention, mlp]) => Some([norm(attention)?, norm(mlp)?]),
                None => None,
            },
        })
    }

    /// The layer's output for `hidden` `[positions, width]`.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        positions: &Positions,
        cache: Option<&mut Cache>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let input = self.before(&self.attention_norm, hidden, pass)?;
        let attended = self.attention.forward(&input, positions, cache, pass)?;
        let attended = pass.tap(Site::attention_output(self.layer), &attended)?;
        let attended = self.added(0, attended, pass)?;
        let attended = self.dropped("attention", attended, pass)?;
        let [hidden, input] = if self.norm_first {
            self.mlp_norm.of_sum(hidden, &attended, pass)?
        } else {
            let hidden = self.attention_norm.forward(&add(hidden, &attended)?, pass)?;
            [hidden.clone(), hidden]
        };

        // The gradient of a norm after it would need it.
        let is_last = self.norm_first && self.output_norms.is_none();
        let values = match pass.output_unread() && is_last {
            true => Values::Unread,
            false => Values::Read,
        };
        let fed = self.mlp.forward(&input, pass, values)?;
        let fed = pass.tap(Site::mlp_output(self.layer), &fed)?;
        let fed = self.added(1, fed, pass)?;
        let hidden = add(&hidden, &self.dropped("mlp", fed, pass)?)?;
        let hidden = self.after(&self.mlp_norm, hidden, pass)?;
        pass.tap(Site::block_output(self.layer), &hidden)
    }

    /// See [`Attention::first_token`].
    pub(crate) fn first_token(
        &self,
        input: &Tensor,
        positions: &Positions,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        self.attention.first_token(input, positions, pass)
    }

    /// What attention (0) or the MLP (1) adds to the residual stream.
    fn added(&self, part: usize, x: Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        match &self.output_norms {
            Some(norms) => norms[part].forward(&x, pass),
            None => Ok(x),
        }
    }

    fn before(&self, norm: &Norm, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        if self.norm_first { norm.forward(x, pass) } else { Ok(x.clone()) }
    }

    fn after(&self, norm: &Norm, x: Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        if self.norm_first { Ok(x) } else { norm.forward(&x, pass) }
    }

    fn dropped(&self, part: &str, x: Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        if self.dropout == 0.0 {
            return Ok(x);
        }
        match pass.dropout(&format!("{}.{part}", self.name), self.dropout, &x)? {
            Some(mask) => Ok(ops::masked(&x, &mask)?),
            None => Ok(x),
        }
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        Self {
            attention: self.attention.with_trainable(trainable),
            mlp: self.mlp.with_trainable(trainable),
            ..self.clone()
        }
    }
}
