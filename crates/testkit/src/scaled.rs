//! A backbone whose loss is multiplied.

use candle_core::Tensor;
use vxf_core::{Backbone, Pass, Result};

/// The same model with its loss multiplied by a constant; 0 makes every gradient zero.
pub struct Scaled<'a> {
    inner: &'a dyn Backbone,
    factor: f64,
}

impl<'a> Scaled<'a> {
    /// `inner` with `factor` times its loss.
    pub fn new(inner: &'a dyn Backbone, factor: f64) -> Self {
        Self { inner, factor }
    }
}

impl Backbone for Scaled<'_> {
    describe_as!(inner);

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.inner.embed(tokens, pass)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.inner.block(layer, hidden, pass)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.inner.head(hidden, pass)
    }

    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        Ok((self.inner.head_loss(hidden, targets, pass)? * self.factor)?)
    }
}
