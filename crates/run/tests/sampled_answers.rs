//! A model's answers depend neither on the cache nor on the other prompts of the batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use vxf_core::backbone::{Architecture, Decoder, Parameter};
use vxf_core::generate::{self, answers};
use vxf_core::metric::{Model, Probes, Prompt, Text};
use vxf_core::{Backbone, Key, Params, Pass, Result, Trainable};
use vxf_data::Sampling;
use vxf_decoder as _;
use vxf_hf::load_backbone;
use vxf_run::measure::sampler;
use vxf_testkit::checkpoint::random;
use vxf_testkit::metric::probes;

/// A model without its cache.
struct Forgetful(Arc<dyn Backbone>);

impl Backbone for Forgetful {
    fn architecture(&self) -> &Architecture {
        self.0.architecture()
    }

    fn device(&self) -> &Device {
        self.0.device()
    }

    fn dtype(&self) -> DType {
        self.0.dtype()
    }

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.0.embed(tokens, pass)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.0.block(layer, hidden, pass)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.0.head(hidden, pass)
    }

    fn decoder<'a>(&'a self, _weights: &'a Params) -> Option<Box<dyn Decoder + 'a>> {
        None
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.0.parameters()
    }

    fn initial(&self, key: &Key) -> Result<Params> {
        self.0.initial(key)
    }

    fn with_trainable(&self, trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        self.0.with_trainable(trainable)
    }

    fn trainable(&self) -> &Trainable {
        self.0.trainable()
    }

    fn tensors(&self) -> Params {
        self.0.tensors()
    }
}

/// Writes tokens as numbers; 0 and 1 end an answer.
struct Numbers;

impl Text for Numbers {
    fn decode(&self, tokens: &[u32]) -> Result<String> {
        Ok(tokens.iter().map(u32::to_string).collect::<Vec<_>>().join(" "))
    }

    fn is_end(&self, token: u32) -> bool {
        token < 2
    }

    fn opening(&self, _word: &str) -> Option<u32> {
        None
    }
}

fn models() -> Result<Vec<Arc<dyn Backbone>>> {
    let llama = json!({"model_type": "llama", "hidden_size": 16, "intermediate_size": 20,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": 37, "max_position_embeddings": 64});
    let opt = json!({"model_type": "opt", "hidden_size": 16, "ffn_dim": 20, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 37, "max_position_embeddings": 64,
        "word_embed_proj_dim": 16, "do_layer_norm_before": true});
    let load = |config| load_backbone(&random(config, 5)?, DType::F32, &Device::Cpu);
    [llama, opt].into_iter().map(load).collect()
}

/// Answers to prompts of several lengths, in batches of `batch_size`.
fn made(model: &dyn Backbone, sampling: &Sampling, batch_size: usize) -> Result<Vec<String>> {
    let prompt = |index: u32| Prompt {
        text: index.to_string(),
        tokens: (0..=index % 4).map(|place| 2 + (7 * index + place) % 35).collect(),
        expected: None,
    };
    let prompts: Vec<_> = (0..11).map(prompt).collect();
    let probes = Probes {
        text: Box::new(Numbers),
        sampler: Box::new(sampler::of(sampling, &Key::root(9))),
        ..probes(BTreeMap::new(), batch_size)
    };
    let model = Model { backbone: model, weights: &Params::new() };
    let all = answers(model, "set", &prompts, 24, &probes, &generate::NoCache)?;
    Ok(all.into_iter().map(|made| made.answer).collect())
}

#[test]
fn answers_depend_on_neither_cache_nor_batch() -> Result<()> {
    let warm = Sampling { temperature: 0.9, top_p: 0.95, top_k: 20 };
    for model in models()? {
        for sampling in [Sampling::default(), warm.clone()] {
            let whole = made(&*model, &sampling, 64)?;
            assert!(whole.iter().any(|answer| answer.split(' ').count() > 3), "{whole:?}");
            assert_eq!(made(&*model, &sampling, 1)?, whole);
            assert_eq!(made(&*model, &sampling, 3)?, whole);
            assert_eq!(made(&Forgetful(model.clone()), &sampling, 64)?, whole);
            assert_eq!(made(&Forgetful(model.clone()), &sampling, 2)?, whole);
        }
        assert_ne!(made(&*model, &warm, 64)?, made(&*model, &Sampling::default(), 64)?);
    }
    Ok(())
}
