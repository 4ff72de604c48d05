//! Random checkpoints in memory, for tests and benches.

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use vxf_core::{Key, Params, Result};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::outline;

/// The dimensions of a random Llama.
#[derive(Clone, Debug)]
pub struct LlamaShape {
    /// Width of the hidden embeddings.
    pub hidden: usize,
    /// Number of layers.
    pub layers: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads.
    pub kv_heads: usize,
    /// Width of a head; `None` leaves it to `hidden / heads`.
    pub head_dim: Option<usize>,
    /// Width inside the gated MLP.
    pub intermediate: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// Whether the output projection is the embedding.
    pub tied: bool,
    /// The epsilon of the norms.
    pub epsilon: f64,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// The longest sequence.
    pub positions: usize,
}

impl Default for LlamaShape {
    /// Two layers of width 16, four heads, an odd vocabulary.
    fn default() -> Self {
        Self {
            hidden: 16,
            layers: 2,
            heads: 4,
            kv_heads: 4,
            head_dim: None,
            intermediate: 20,
            vocabulary: 37,
            tied: false,
            epsilon: 1e-5,
            rope_theta: 10_000.0,
            positions: 32,
        }
    }
}

impl LlamaShape {
    /// `config.json` in Hugging Face's spelling.
    pub fn config(&self) -> Value {
        let mut config = json!({
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocabulary,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": self.positions,
        });
        if let Some(width) = self.head_dim {
            config["head_dim"] = json!(width);
        }
        config
    }

    /// Random weights under Hugging Face's names, the same values in every type.
    pub fn tensors(&self, key: &Key, dtype: DType, device: &Device) -> Result<Params> {
        tensors(&self.config(), key, dtype, device)
    }

    /// The whole checkpoint, in f64 so that every type is rounded from the same values.
    pub fn checkpoint(&self, seed: u64) -> Result<Checkpoint> {
        random(self.config(), seed)
    }
}

/// Random weights for a configuration of any registered family, the same values in every type.
///
/// They are large enough for attention to be far from uniform; gains differ from one and biases
/// from zero.
pub fn tensors(config: &Value, key: &Key, dtype: DType, device: &Device) -> Result<Params> {
    let draw = |(name, shape): (String, Vec<usize>)| -> Result<(String, Tensor)> {
        let (scale, mean) = match shape.as_slice() {
            [_] if name.ends_with(".bias") => (0.1, 0.0),
            [_] => (0.1, 1.0),
            _ if name.contains("embed_tokens") => (1.0, 0.0),
            _ if name.contains("embed_positions") => (0.5, 0.0),
            [_, fan_in] => ((*fan_in as f64).recip().sqrt(), 0.0),
            _ => (1.0, 0.0),
        };
        let drawn = key.child(&name).normal(&shape, dtype, device)?;
        Ok((name, drawn.affine(scale, mean)?))
    };
    outline(config, "random weights")?.tensors.into_iter().map(draw).collect()
}

/// A checkpoint with random weights, in f64 so that every type is rounded from the same values.
pub fn random(config: Value, seed: u64) -> Result<Checkpoint> {
    let tensors = tensors(&config, &Key::root(seed), DType::F64, &Device::Cpu)?;
    Ok(Checkpoint::made("random weights", config, tensors))
}
