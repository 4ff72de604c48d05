//! Generates answers, many prompts at a time.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use crate::backbone::{Decoder, Pass, run_layers};
use crate::metric::{Generation, Model, Probes, Prompt};
use crate::{Params, Result};
use vxf_tensor::Rows;

/// How the next token is chosen.
///
/// The choices for a prompt depend on its set and index alone, not on the prompts in the same
/// batch.
pub trait Sampler: Send + Sync {
    /// The choices after `prompt`, which has this index in the set called `set`, from the first token
    /// of the answer on.
    fn start(&self, set: &str, index: usize, prompt: &[u32]) -> Box<dyn Choices>;
}

impl<S: Sampler + ?Sized> Sampler for Arc<S> {
    fn start(&self, set: &str, index: usize, prompt: &[u32]) -> Box<dyn Choices> {
        (**self).start(set, index, prompt)
    }
}

/// The choices for one prompt, token after token.
pub trait Choices {
    /// The next token, given the logits `[vocabulary]`.
    fn next(&mut self, logits: &[f32]) -> Result<u32>;
}

/// Greedy decoding: the likeliest token, the first of equals.
#[derive(Clone, Copy, Debug)]
pub struct Greedy;

impl Sampler for Greedy {
    fn start(&self, _set: &str, _index: usize, _prompt: &[u32]) -> Box<dyn Choices> {
        Box::new(Self)
    }
}

impl Choices for Greedy {
    fn next(&mut self, logits: &[f32]) -> Result<u32> {
        Ok(argmax(logits))
    }
}

/// A cache of answers, so that an interrupted process need not generate them again.
pub trait AnswerCache {
    /// The cached answer to prompt `index` of `set`.
    fn get(&self, set: &str, index: usize) -> Option<String>;
    /// Stores answers by their prompts' indices.
    ///
    /// # Errors
    /// When they cannot be stored; [`crate::Error::Stopped`] to stop generating.
    fn store(&self, set: &str, made: &[(usize, String)]) -> Result<()>;
}

/// A cache that stores nothing.
pub struct NoCache;

impl AnswerCache for NoCache {
    fn get(&self, _: &str, _: usize) -> Option<String> {
        None
    }

    fn store(&self, _: &str, _: &[(usize, String)]) -> Result<()> {
        Ok(())
    }
}

/// Answers of at most `most` tokens to the first `prompts` of the set called `set`, in order,
/// [`Probes::draws`] to each. Answers that `cache` has are taken from it.
///
/// Prompts of similar length share a batch; of equal length, if the decoder needs that.
pub fn answers(
    model: Model<'_>,
    set: &str,
    prompts: &[Prompt],
    most: usize,
    probes: &Probes,
    cache: &dyn AnswerCache,
) -> Result<Vec<Generation>> {
    let weights = model.weights.detach();
    let model = Model { weights: &weights, ..model };
    // The draws for one prompt stand side by side: an answer's index is a function of both.
    let several = |prompt: &Prompt| std::iter::repeat_n(prompt.clone(), probes.draws.max(1));
    let prompts: Vec<_> = prompts.iter().flat_map(several).collect();
    let mut answers = vec![String::new(); prompts.len()];
    let groups = match model.backbone.decoder(model.weights) {
        Some(decoder) if decoder.takes_any_lengths() => by_length(&prompts, probes.batch_size),
        _ => groups_of_one_length(&prompts, probes.batch_size),
    };
    for group in groups {
        let kept: Vec<_> = group.iter().map_while(|&index| cache.get(set, index)).collect();
        if kept.len() == group.len() {
            group.into_iter().zip(kept).for_each(|(index, answer)| answers[index] = answer);
            continue;
        }
        let rows: Vec<_> = group.iter().map(|&index| prompts[index].tokens.as_slice()).collect();
        let start = |&index: &usize| probes.sampler.start(set, index, &prompts[index].tokens);
        let mut choices: Vec<_> = group.iter().map(start).collect();
        let is_end = |token| probes.text.is_end(token);
        let made = answer(model, &rows, most, &is_end, &mut choices)?;
        let text = |(index, tokens): (usize, Vec<u32>)| Ok((index, probes.text.decode(&tokens)?));
        let made = group.into_iter().zip(made).map(text).collect::<Result<Vec<_>>>()?;
        cache.store(set, &made)?;
        made.into_iter().for_each(|(index, answer)| answers[index] = answer);
    }
    let generation = |(prompt, answer)| Generation { prompt, answer };
    Ok(prompts.into_iter().zip(answers).map(generation).collect())
}

/// Indices of prompts in groups of equal length, at most `most` in a group, the shortest first.
pub fn groups_of_one_length(prompts: &[Prompt], most: usize) -> Vec<Vec<usize>> {
    let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, prompt) in prompts.iter().enumerate() {
        by_length.entry(prompt.tokens.len()).or_default().push(index);
    }
    by_length.values().flat_map(|group| group.chunks(most.max(1))).map(<[_]>::to_vec).collect()
}

/// Indices of prompts in groups of similar length, at most `most` in a group, the shortest first.
fn by_length(prompts: &[Prompt], most: usize) -> Vec<Vec<usize>> {
    let mut indices: Vec<usize> = (0..prompts.len()).collect();
    indices.sort_by_key(|&index| prompts[index].tokens.len());
    indices.chunks(most.max(1)).map(<[_]>::to_vec).collect()
}

/// Answers to rows of tokens; stops when all have ended.
fn answer(
    model: Model<'_>,
    rows: &[&[u32]],
    most: usize,
    is_end: &dyn Fn(u32) -> bool,
    choices: &mut [Box<dyn Choices>],
) -> Result<Vec<Vec<u32>>> {
    let device = model.backbone.device();
    let mut decoder = match model.backbone.decoder(model.weights) {
        Some(decoder) => decoder,
        None => Box::new(WithoutCache { model, tokens: None }),
    };
    // The rows that the decoder still has, by their index in `rows`.
    let mut live: Vec<usize> = (0..rows.len()).collect();
    let mut input = Tensor::new(rows.concat(), device)?;
    let mut new = Rows::dense(&rows.iter().map(|row| row.len()).collect::<Vec<_>>());
    let mut answers = vec![Vec::new(); rows.len()];
    let mut done = vec![false; rows.len()];
    for _ in 0..most {
        let logits = decoder.advance(&input, &new)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        let mut next = Vec::with_capacity(live.len());
        for (&row, logits) in live.iter().zip(&logits) {
            let token = choices[row].next(logits)?;
            done[row] |= is_end(token);
            if !done[row] {
                answers[row].push(token);
            }
            next.push(token);
        }
        let going: Vec<usize> = (0..live.len()).filter(|&place| !done[live[place]]).collect();
        if going.is_empty() {
            break;
        }
        if going.len() < live.len() && decoder.keep(&going)? {
            live = going.iter().map(|&place| live[place]).collect();
            next = going.iter().map(|&place| next[place]).collect();
        }
        input = Tensor::from_vec(next, live.len(), device)?;
        new = Rows::rectangle(live.len(), 1);
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

/// For backbones without a key-value cache: computes the whole sequence for every token.
struct WithoutCache<'a> {
    model: Model<'a>,
    tokens: Option<Tensor>,
}

impl Decoder for WithoutCache<'_> {
    fn advance(&mut self, tokens: &Tensor, rows: &Rows) -> Result<Tensor> {
        let tokens = tokens.reshape((rows.samples(), rows.longest()))?;
        let all = match &self.tokens {
            Some(before) => Tensor::cat(&[before, &tokens], 1)?,
            None => tokens,
        };
        let Model { backbone, weights } = self.model;
        let weights: &Params = weights;
        let rows = Rows::rectangle(rows.samples(), all.dim(1)?);
        let pass = Pass::new(weights, &rows);
        let hidden = run_layers(backbone, &all.flatten_all()?, &pass)?;
        let logits = backbone.head(&rows.last_of_each(&hidden)?, &pass)?;
        self.tokens = Some(all);
        Ok(logits)
    }

    fn keep(&mut self, samples: &[usize]) -> Result<bool> {
        if let Some(tokens) = &mut self.tokens {
            let samples: Vec<u32> = samples.iter().map(|&sample| sample as u32).collect();
            *tokens = tokens.index_select(&Tensor::new(samples, tokens.device())?, 0)?;
        }
        Ok(true)
    }
}
