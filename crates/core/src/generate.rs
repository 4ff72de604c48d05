//! Greedy answers, many prompts at a time.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::backbone::{Decoder, Pass};
use crate::metric::{Generation, Model, Probes, Prompt};
use crate::{Params, Result};

/// Greedy answers to `prompts`, in order.
///
/// Prompts of one length go together, so that no padding is needed.
pub fn greedy(model: Model<'_>, prompts: &[Prompt], probes: &Probes) -> Result<Vec<Generation>> {
    let weights = model.weights.detach();
    let mut answers = vec![Vec::new(); prompts.len()];
    for group in groups_of_one_length(prompts, 64) {
        let rows: Vec<_> = group.iter().map(|&index| prompts[index].tokens.as_slice()).collect();
        let model = Model { weights: &weights, ..model };
        let made = answer(model, &rows, probes.max_new_tokens, probes.text.end())?;
        for (index, answer) in group.into_iter().zip(made) {
            answers[index] = answer;
        }
    }
    let generation = |(prompt, answer): (&Prompt, Vec<u32>)| {
        Ok(Generation { prompt: prompt.clone(), answer: probes.text.decode(&answer)? })
    };
    prompts.iter().zip(answers).map(generation).collect()
}

/// Indices of prompts that are equally long, at most `most` together, the shortest first.
pub fn groups_of_one_length(prompts: &[Prompt], most: usize) -> Vec<Vec<usize>> {
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, prompt) in prompts.iter().enumerate() {
        by_length.entry(prompt.tokens.len()).or_default().push(index);
    }
    by_length.values().flat_map(|group| group.chunks(most.max(1))).map(<[_]>::to_vec).collect()
}

/// Greedy answers to token rows of one length; stops when all rows have ended.
fn answer(model: Model<'_>, rows: &[&[u32]], most: usize, end: u32) -> Result<Vec<Vec<u32>>> {
    let device = model.backbone.device();
    let mut decoder = match model.backbone.decoder(model.weights) {
        Some(decoder) => decoder,
        None => Box::new(WithoutCache { model, tokens: None }),
    };
    let (count, length) = (rows.len(), rows.first().map_or(0, |row| row.len()));
    let mut input = Tensor::from_vec(rows.concat(), (count, length), device)?;
    let mut answers = vec![Vec::new(); count];
    let mut done = vec![false; count];
    for _ in 0..most {
        let logits = decoder.advance(&input)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let mut next = Vec::with_capacity(count);
        for (row, logits) in logits.iter().enumerate() {
            let best = argmax(logits);
            done[row] |= best == end;
            if !done[row] {
                answers[row].push(best);
            }
            next.push(best);
        }
        if done.iter().all(|&done| done) {
            break;
        }
        input = Tensor::from_vec(next, (count, 1), device)?;
    }
    Ok(answers)
}

/// The first of the largest entries.
fn argmax(values: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best as u32
}

/// For backbones without a cache: the whole sequence again for every token.
struct WithoutCache<'a> {
    model: Model<'a>,
    tokens: Option<Tensor>,
}

impl Decoder for WithoutCache<'_> {
    fn advance(&mut self, tokens: &Tensor) -> Result<Tensor> {
        let all = match &self.tokens {
            Some(before) => Tensor::cat(&[before, tokens], 1)?,
            None => tokens.clone(),
        };
        let Model { backbone, weights } = self.model;
        let weights: &Params = weights;
        let pass = Pass::new(weights);
        let mut hidden = backbone.embed(&all, &pass)?;
        for layer in 0..backbone.architecture().layers {
            hidden = backbone.block(layer, &hidden, &pass)?;
        }
        let last = hidden.narrow(1, all.dim(1)? - 1, 1)?.contiguous()?;
        let logits = backbone.head(&last, &pass)?.squeeze(1)?;
        self.tokens = Some(all);
        Ok(logits)
    }
}
