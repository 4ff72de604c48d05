//! Sampling of answers: temperature, nucleus and top-k, with candle's `LogitsProcessor`.
//!
//! The draws for a prompt depend only on the key, the name of its set and its index in the set, not on
//! the other prompts of its batch or on earlier draws.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling as Cut};
use rand::Rng;
use vxf_core::generate::{Choices, Greedy, Sampler};
use vxf_core::{Key, Result};
use vxf_data::{Codec, Sampling};

/// The sampler for answers of the model of `codec`: with these settings, keyed by `key`, after the
/// changes of the model's `generation_config.json`.
pub fn for_model(sampling: &Sampling, key: &Key, codec: &Arc<Codec>) -> Arc<dyn Sampler> {
    let inner = of(sampling, key);
    match codec.generation().is_plain() {
        true => inner,
        false => Arc::new(Changed { inner, codec: codec.clone() }),
    }
}

/// Changes the logits as [`Codec::generation`] says before `inner` chooses.
struct Changed {
    inner: Arc<dyn Sampler>,
    codec: Arc<Codec>,
}

impl Sampler for Changed {
    fn start(&self, set: &str, index: usize, prompt: &[u32]) -> Box<dyn Choices> {
        let inner = self.inner.start(set, index, prompt);
        let (codec, prompt) = (self.codec.clone(), prompt.to_vec());
        Box::new(ChangedChoices { inner, codec, prompt, answer: Vec::new() })
    }
}

struct ChangedChoices {
    inner: Box<dyn Choices>,
    codec: Arc<Codec>,
    prompt: Vec<u32>,
    answer: Vec<u32>,
}

impl Choices for ChangedChoices {
    fn next(&mut self, logits: &[f32]) -> Result<u32> {
        let Self { inner, codec, prompt, answer } = self;
        let mut logits = logits.to_vec();
        codec.generation().apply(prompt, answer, &mut logits, |token| codec.is_end(token));
        let token = inner.next(&logits)?;
        answer.push(token);
        Ok(token)
    }
}

/// A sampler with these settings, keyed by `key`.
pub fn of(sampling: &Sampling, key: &Key) -> Arc<dyn Sampler> {
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
    fn start(&self, set: &str, index: usize, _prompt: &[u32]) -> Box<dyn Choices> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 2.0, 1.0, -30.0, 1.5];

    /// Counts of each token in 4000 first draws.
    fn counts(sampling: &Sampling) -> Vec<usize> {
        let sampler = of(sampling, &Key::root(3));
        let mut counts = vec![0; LOGITS.len()];
        for index in 0..4000 {
            let token = sampler.start("set", index, &[]).next(&LOGITS).expect("finite logits");
            counts[token as usize] += 1;
        }
        counts
    }

    #[test]
    fn tokens_are_drawn_by_their_probability() {
        let temperature = 0.7;
        let weights = LOGITS.map(|logit| (f64::from(logit) / temperature).exp());
        let total: f64 = weights.iter().sum();
        let counts = counts(&Sampling { temperature, ..Sampling::default() });
        for (count, weight) in counts.iter().zip(weights) {
            // Five standard errors of a share at n = 4000 are at most 0.04.
            assert!((*count as f64 / 4000.0 - weight / total).abs() < 0.04, "{counts:?}");
        }
    }

    #[test]
    fn top_p_and_top_k_keep_the_most_likely() {
        let one = Sampling { temperature: 1.0, ..Sampling::default() };
        let kept = |sampling: &Sampling| -> Vec<usize> {
            let counts = counts(sampling).into_iter().enumerate();
            counts.filter(|(_, count)| *count > 0).map(|(token, _)| token).collect()
        };
        assert_eq!(kept(&one), [0, 1, 2, 4]);
        assert_eq!(kept(&Sampling { top_k: 2, ..one.clone() }), [1, 4]);
        // Probabilities 0.46, 0.28, 0.17, 0.06 for the tokens 1, 4, 2, 0.
        assert_eq!(kept(&Sampling { top_p: 0.7, ..one.clone() }), [1, 4]);
        assert_eq!(kept(&Sampling { top_p: 0.8, ..one.clone() }), [1, 2, 4]);
        assert_eq!(kept(&Sampling { top_p: 0.8, top_k: 1, ..one }), [1]);
        assert_eq!(kept(&Sampling::default()), [1]);
    }

    #[test]
    fn draws_depend_only_on_key_set_and_index() {
        let sampling = Sampling { temperature: 5.0, ..Sampling::default() };
        let row = |key: &Key, set: &str, index| -> Vec<u32> {
            let mut choices = of(&sampling, key).start(set, index, &[]);
            (0..32).map(|_| choices.next(&LOGITS).expect("finite logits")).collect()
        };
        let key = Key::root(1);
        assert_eq!(row(&key, "harmful", 7), row(&Key::root(1), "harmful", 7));
        assert_ne!(row(&key, "harmful", 7), row(&key, "harmful", 8));
        assert_ne!(row(&key, "harmful", 7), row(&key, "task", 7));
        assert_ne!(row(&key, "harmful", 7), row(&Key::root(2), "harmful", 7));
        assert!(of(&sampling, &key).start("set", 0, &[]).next(&[f32::NAN; 3]).is_err());
    }

    #[test]
    fn ranges_are_checked_by_name() {
        assert!(Sampling::default().validate().is_ok());
        for (sampling, key) in [
            (Sampling { temperature: -1.0, ..Sampling::default() }, "temperature"),
            (Sampling { temperature: f64::NAN, ..Sampling::default() }, "temperature"),
            (Sampling { top_p: 0.0, ..Sampling::default() }, "top_p"),
            (Sampling { top_p: 1.5, ..Sampling::default() }, "top_p"),
            (Sampling { samples_per_prompt: 0, ..Sampling::default() }, "samples_per_prompt"),
            (Sampling { samples_per_prompt: 3, ..Sampling::default() }, "samples_per_prompt"),
        ] {
            assert_eq!(sampling.validate().expect_err(key).key, key);
        }
        let read: Sampling = serde_json::from_str(r#"{"temperature": 0.9}"#).expect("defaults");
        assert_eq!((read.temperature, read.top_p), (0.9, 1.0));
    }
}
