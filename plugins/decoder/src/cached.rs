//! Incremental decoding with a key-value cache.

use candle_core::Tensor;
use vxf_core::backbone::{Backbone, Decoder, Pass};
use vxf_core::{Params, Result};

use crate::cache::Cache;
use crate::model::Transformer;

/// A model with a key-value cache per layer.
pub(crate) struct Cached<'a> {
    model: &'a Transformer,
    weights: Params,
    caches: Vec<Cache>,
    offset: usize,
}

impl<'a> Cached<'a> {
    pub(crate) fn new(model: &'a Transformer, weights: &Params) -> Self {
        let layers = model.architecture().layers;
        let caches = (0..layers).map(|_| Cache::default()).collect();
        Self { model, weights: weights.detach(), caches, offset: 0 }
    }
}

impl Decoder for Cached<'_> {
    fn advance(&mut self, tokens: &Tensor) -> Result<Tensor> {
        let pass = Pass::new(&self.weights);
        let new = tokens.dim(1)?;
        let positions = self.model.positions_from(self.offset, new)?;
        let mut hidden = self.model.embed_from(tokens, self.offset, &pass)?;
        for (block, cache) in self.model.blocks().iter().zip(&mut self.caches) {
            hidden = block.forward(&hidden, &positions, Some(cache), &pass)?;
        }
        self.offset += new;
        let last = hidden.narrow(1, new - 1, 1)?.contiguous()?;
        Ok(self.model.head(&last, &pass)?.squeeze(1)?)
    }
}
