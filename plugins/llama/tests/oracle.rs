//! The same logits as candle-transformers' Llama, which was written by others.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama as theirs;
use vxf_core::metric::Model;
use vxf_core::{Batch, Key, Params, Result};
use vxf_llama::Llama;
use vxf_testkit::batches;
use vxf_testkit::case::property;
use vxf_testkit::checkpoint::LlamaShape;
use vxf_testkit::numbers::entries;

/// Logits after the last token of each prefix: all that theirs returns.
fn oracle(shape: &LlamaShape, tensors: &Params, batch: &Batch) -> Result<Vec<Tensor>> {
    let config = theirs::Config {
        hidden_size: shape.hidden,
        intermediate_size: shape.intermediate,
        vocab_size: shape.vocabulary,
        num_hidden_layers: shape.layers,
        num_attention_heads: shape.heads,
        num_key_value_heads: shape.kv_heads,
        use_flash_attn: false,
        rms_norm_eps: shape.epsilon,
        rope_theta: shape.rope_theta as f32,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling: None,
        max_position_embeddings: shape.positions,
        tie_word_embeddings: shape.tied,
    };
    let named = tensors.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
    let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
    let model = theirs::Llama::load(builder, &config)?;
    (1..=batch.shape().1)
        .map(|length| {
            let mut cache = theirs::Cache::new(false, DType::F32, &config, &Device::Cpu)?;
            let prefix = batch.tokens.narrow(1, 0, length)?.contiguous()?;
            Ok(model.forward(&prefix, 0, &mut cache)?)
        })
        .collect()
}

#[test]
fn logits_are_those_of_candle_transformers() {
    use proptest::prelude::*;
    let heads = prop_oneof![Just((4usize, 4usize)), Just((4, 2)), Just((4, 1)), Just((6, 3))];
    let theta = prop_oneof![Just(10_000.0), Just(500_000.0), Just(100.0)];
    let epsilon = prop_oneof![Just(1e-6), Just(1e-5), Just(1e-2)];
    let sizes = (1usize..=3, 1usize..=3, 5usize..=41);
    let cases = (heads, theta, epsilon, sizes, any::<bool>(), any::<u64>());
    property(16, cases, |(heads, rope_theta, epsilon, sizes, tied, seed)| {
        let ((heads, kv_heads), (layers, half, vocabulary)) = (heads, sizes);
        let shape = LlamaShape {
            hidden: heads * half * 2,
            layers,
            heads,
            kv_heads,
            head_dim: None,
            intermediate: 10 + vocabulary / 2,
            vocabulary,
            tied,
            epsilon,
            rope_theta,
            positions: 16,
        };
        let key = Key::root(seed);
        let ours = Llama::load(&shape.checkpoint(seed)?, DType::F32, &Device::Cpu)?;
        let tensors = shape.tensors(&key, DType::F32, &Device::Cpu)?;
        // Whole rows: theirs knows no padding.
        let batch = batches::batch(2, 9, vocabulary, &key)?;
        let batch = Batch { mask_padding: false, ..batch };
        let logits = Model { backbone: &ours, weights: &Params::new() }.logits(&batch)?;
        for (position, theirs) in oracle(&shape, &tensors, &batch)?.iter().enumerate() {
            let own = logits.narrow(1, position, 1)?.squeeze(1)?;
            for (a, b) in entries(&own)?.iter().zip(entries(theirs)?) {
                // Two f32 programs: up to three layers of sums over some dozen products of
                // entries near one, and angles rounded in different places.
                assert!((a - b).abs() <= 2e-5 * b.abs().max(1.0), "{position}: {a} {b}");
            }
        }
        Ok(())
    });
}
