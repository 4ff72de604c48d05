//! Incremental decoding with a key-value cache.

use std::collections::BTreeMap;

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
    /// All samples in one group, unless their rotation depends on their length.
    groups: Vec<Group>,
    /// The tokens of each sample, where the rotation depends on the length.
    texts: Option<Vec<Vec<u32>>>,
}

/// Samples that are computed together.
struct Group {
    /// Their places in the batch.
    samples: Vec<usize>,
    caches: Vec<Cache>,
    /// The number of cached positions of each.
    past: Vec<usize>,
}

impl<'a> Cached<'a> {
    pub(crate) fn new(model: &'a Transformer, weights: &Params) -> Self {
        let texts = model.rotates_by_length().then(Vec::new);
        Self { model, weights: weights.detach(), groups: Vec::new(), texts }
    }
}

/// Computes new tokens of a model whose rotation depends on the length of a text (`LongRoPE`).
///
/// A text that grows beyond the length is computed anew with all its tokens, because its cached keys
/// have the rotation of shorter texts; transformers drops the cache there, too. Samples whose rotation
/// is not the same are computed apart. transformers takes the rotation of the longest for all of a
/// batch, so that an answer would depend on the other prompts.
fn advance_by_length(
    model: &Transformer,
    weights: &Params,
    groups: &mut Vec<Group>,
    texts: &mut Vec<Vec<u32>>,
    tokens: &Tensor,
    rows: &Rows,
) -> Result<Tensor> {
    texts.resize(rows.samples(), Vec::new());
    let tokens = tokens.to_vec1::<u32>()?;
    let mut anew: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (sample, (text, range)) in texts.iter_mut().zip(rows.ranges()).enumerate() {
        let before = text.len();
        text.extend_from_slice(&tokens[range]);
        let rotation = model.rotation_of(text.len());
        if before == 0 || model.rotation_of(before) != rotation {
            anew.entry(rotation).or_default().push(sample);
        }
    }
    let moves = |sample: &usize| anew.values().any(|samples| samples.contains(sample));
    for group in groups.iter_mut() {
        group.keep(|sample| !moves(&sample))?;
    }
    groups.retain(|group| !group.samples.is_empty());
    groups.extend(anew.values().map(|samples| Group::new(model, samples.clone())));

    let mut logits = Vec::with_capacity(groups.len());
    for group in groups.iter_mut() {
        let parts = group.samples.iter().zip(&group.past);
        let parts: Vec<&[u32]> = parts.map(|(&sample, &past)| &texts[sample][past..]).collect();
        let rows = Rows::dense(&parts.iter().map(|part| part.len()).collect::<Vec<_>>());
        let tokens = Tensor::new(parts.concat(), model.device())?;
        logits.push(group.advance(model, weights, &tokens, &rows)?);
    }
    let mut places = vec![0u32; rows.samples()];
    let samples = groups.iter().flat_map(|group| &group.samples);
    samples.zip(0..).for_each(|(&sample, place)| places[sample] = place);
    let logits = Tensor::cat(&logits, 0)?;
    Ok(logits.index_select(&Tensor::new(places, model.device())?, 0)?)
}

impl Group {
    fn new(model: &Transformer, samples: Vec<usize>) -> Self {
        let cache = |_| match model.has_own_kernels() {
            true => Cache::Own(ops::KeyValues::default()),
            false => Cache::Tensors(Kept::default()),
        };
        let caches = (0..model.architecture().layers).map(cache).collect();
        Self { past: vec![0; samples.len()], samples, caches }
    }

    /// The logits after new tokens of each sample.
    fn advance(
        &mut self,
        model: &Transformer,
        weights: &Params,
        tokens: &Tensor,
        rows: &Rows,
    ) -> Result<Tensor> {
        let rows = rows.clone().after(&self.past);
        let pass = Pass::new(weights, &rows);
        let positions = model.positions(&rows)?;
        let mut hidden = model.embed(tokens, &pass)?;
        for (block, cache) in model.blocks().iter().zip(&mut self.caches) {
            hidden = block.forward(&hidden, &positions, Some(cache), &pass)?;
        }
        for (past, range) in self.past.iter_mut().zip(rows.ranges()) {
            *past += range.len();
        }
        model.head(&rows.last_of_each(&hidden)?, &pass)
    }

    /// Forgets all samples but those that `stays` accepts.
    fn keep(&mut self, stays: impl Fn(usize) -> bool) -> Result<()> {
        let of = self.samples.len();
        let kept: Vec<usize> = (0..of).filter(|&place| stays(self.samples[place])).collect();
        if kept.len() < of && !kept.is_empty() {
            self.caches.iter_mut().try_for_each(|cache| cache.keep(&kept, of))?;
        }
        self.past = kept.iter().map(|&place| self.past[place]).collect();
        self.samples = kept.iter().map(|&place| self.samples[place]).collect();
        Ok(())
    }
}

impl Decoder for Cached<'_> {
    fn advance(&mut self, tokens: &Tensor, rows: &Rows) -> Result<Tensor> {
        let Self { model, weights, groups, texts } = self;
        if let Some(texts) = texts {
            return advance_by_length(model, weights, groups, texts, tokens, rows);
        }
        if groups.is_empty() {
            groups.push(Group::new(model, (0..rows.samples()).collect()));
        }
        groups[0].advance(model, weights, tokens, rows)
    }

    fn takes_any_lengths(&self) -> bool {
        self.model.has_own_kernels()
    }

    fn keep(&mut self, samples: &[usize]) -> Result<bool> {
        for group in &mut self.groups {
            group.keep(|sample| samples.contains(&sample))?;
            for sample in &mut group.samples {
                // Those that stay are in ascending order, as their new places are.
                *sample = samples.partition_point(|kept| kept < sample);
            }
        }
        self.groups.retain(|group| !group.samples.is_empty());
        if let Some(texts) = &mut self.texts {
            *texts = samples.iter().map(|&sample| std::mem::take(&mut texts[sample])).collect();
        }
        Ok(true)
    }
}
