//! Random Llama checkpoints in memory, for tests and benches.

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use vxf_core::checkpoint::Checkpoint;
use vxf_core::{Key, Params, Result};

/// The measures of a Llama to make.
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
    /// Added under the root of the norms.
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
    pub fn config(&self) -> serde_json::Value {
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
    ///
    /// Wide enough that attention is far from uniform, and gains are not one.
    pub fn tensors(&self, key: &Key, dtype: DType, device: &Device) -> Result<Params> {
        let head = self.head_dim.unwrap_or(self.hidden / self.heads);
        let mut tensors = Params::new();
        let mut linear = |name: String, out: usize, input: usize, scale: f64| -> Result<()> {
            let drawn = key.child(&name).normal(&[out, input], dtype, device)?;
            tensors.insert(format!("{name}.weight"), (drawn * scale)?);
            Ok(())
        };
        let fan_in = |input: usize| 1.0 / (input as f64).sqrt();
        linear("model.embed_tokens".into(), self.vocabulary, self.hidden, 1.0)?;
        if !self.tied {
            linear("lm_head".into(), self.vocabulary, self.hidden, fan_in(self.hidden))?;
        }
        for layer in 0..self.layers {
            let shapes = [
                ("self_attn.q_proj", self.heads * head, self.hidden),
                ("self_attn.k_proj", self.kv_heads * head, self.hidden),
                ("self_attn.v_proj", self.kv_heads * head, self.hidden),
                ("self_attn.o_proj", self.hidden, self.heads * head),
                ("mlp.gate_proj", self.intermediate, self.hidden),
                ("mlp.up_proj", self.intermediate, self.hidden),
                ("mlp.down_proj", self.hidden, self.intermediate),
            ];
            for (name, out, input) in shapes {
                linear(format!("model.layers.{layer}.{name}"), out, input, fan_in(input))?;
            }
        }
        let layer_norms = (0..self.layers).flat_map(|layer| {
            ["input_layernorm", "post_attention_layernorm"]
                .map(|name| format!("model.layers.{layer}.{name}"))
        });
        for name in layer_norms.chain(["model.norm".to_owned()]) {
            let drawn = key.child(&name).normal(&[self.hidden], dtype, device)?;
            let gain: Tensor = ((drawn * 0.1)? + 1.0)?;
            tensors.insert(format!("{name}.weight"), gain);
        }
        Ok(tensors)
    }

    /// The whole checkpoint, in f64 so that every type is rounded from the same values.
    pub fn checkpoint(&self, seed: u64) -> Result<Checkpoint> {
        let tensors = self.tensors(&Key::root(seed), DType::F64, &Device::Cpu)?;
        Ok(Checkpoint::made("random Llama", self.config(), tensors))
    }
}
