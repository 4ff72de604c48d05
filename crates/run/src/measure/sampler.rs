//! Answers drawn at random: temperature, nucleus and top-k, over candle's `LogitsProcessor`.
//!
//! The draws for a prompt depend on the key, the name of its set and its place in it, and on
//! nothing else: not on what it was batched with, nor on what was drawn before.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as Cut};
use rand::Rng;
use vxf_core::generate::{Choices, Greedy, Sampler};
use vxf_core::{Key, Result};
use vxf_data::Sampling;

/// The sampler with these settings, all draws under `key`.
pub(crate) fn of(sampling: &Sampling, key: &Key) -> Arc<dyn Sampler> {
    let temperature = sampling.temperature;
    let cut = match (sampling.top_k, sampling.top_p) {
        _ if temperature == 0.0 => return Arc::new(Greedy),
        (0, 1.0) => Cut::All { temperature },
        (0, p) => Cut::TopP { p, temperature },
        (k, 1.0) => Cut::TopK { k, temperature },
        (k, p) => Cut::TopKThenTopP { k, p, temperature },
    };
    Arc::new(Random { cut, key: key.clone() })
}

struct Random {
    cut: Cut,
    key: Key,
}

impl Sampler for Random {
    fn start(&self, set: &str, index: usize) -> Box<dyn Choices> {
        let seed = self.key.child(set).index(index as u64).rng().random();
        Box::new(Draws(LogitsProcessor::from_sampling(seed, self.cut.clone())))
    }
}

struct Draws(LogitsProcessor);

impl Choices for Draws {
    fn next(&mut self, logits: &[f32]) -> Result<u32> {
        Ok(self.0.sample(&Tensor::new(logits, &Device::Cpu)?)?)
    }
}
