//! Incremental decoding with a key-value cache.

use candle_core::Tensor;
use vxf_core::backbone::{Backbone, Decoder, Pass};
use vxf_core::{Params, Result, Rows};
use vxf_nn::ops;

use crate::cache::{Cache, Kept};
use crate::model::Transformer;

/// A model with a key-value cache per layer.
pub(crate) struct Cached<'a> {
    model: &'a Transformer,
    weights: Params,
    caches: Vec<Cache>,
    /// The number of cached positions of each sample.
    past: Vec<usize>,
}

impl<'a> Cached<'a> {
    pub(crate) fn new(model: &'a Transformer, weights: &Params) -> Self {
        let cache = |_| match model.has_own_kernels() {
            true => Cache::Own(ops::KeyValues::default()),
            false => Cache::Tensors(Kept::default()),
        };
        let caches = (0..model.architecture().layers).map(cache).collect();
        Self { model, weights: weights.detach(), caches, past: Vec::new() }
    }
}

impl Decoder for Cached<'_> {
    fn advance(&mut self, tokens: &Tensor, rows: &Rows) -> Result<Tensor> {
        self.past.resize(rows.samples(), 0);
        let rows = rows.clone().after(&self.past);
        let pass = Pass::new(&self.weights, &rows);
        let positions = self.model.positions(&rows)?;
        let mut hidden = self.model.embed(tokens, &pass)?;
        for (block, cache) in self.model.blocks().iter().zip(&mut self.caches) {
            hidden = block.forward(&hidden, &positions, Some(cache), &pass)?;
        }
        for (past, range) in self.past.iter_mut().zip(rows.ranges()) {
            *past += range.len();
        }
        self.model.head(&rows.last_of_each(&hidden)?, &pass)
    }

    fn takes_any_lengths(&self) -> bool {
        self.model.has_own_kernels()
    }

    fn keep(&mut self, samples: &[usize]) -> Result<bool> {
        let of = self.past.len();
        self.caches.iter_mut().try_for_each(|cache| cache.keep(samples, of))?;
        self.past = samples.iter().map(|&sample| self.past[sample]).collect();
        Ok(true)
    }
}
