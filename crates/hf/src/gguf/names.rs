//! The names of tensors in GGUF files, and how llama.cpp changed their values.

use candle_core::Tensor;
use serde_json::{Map, Value};

/// The parts of a layer: the name in GGUF files, and that of Hugging Face.
const PARTS: [(&str, &str); 13] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// What llama.cpp did to a tensor, to be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// The rows of each of so many heads were interleaved for its kind of rotation.
    Interleaved(usize),
    /// One was added to the gains of Gemma's norms.
    PlusOne,
}

impl Change {
    /// The tensor without the change.
    pub(super) fn apply(self, tensor: Tensor) -> candle_core::Result<Tensor> {
        match self {
            Self::None => Ok(tensor),
            Self::PlusOne => tensor - 1.0,
            Self::Interleaved(heads) => {
                let (rows, width) = (tensor.dim(0)?, tensor.elem_count() / tensor.dim(0)?.max(1));
                let pairs = tensor.reshape((heads, rows / heads / 2, 2, width))?;
                pairs.transpose(1, 2)?.contiguous()?.reshape(tensor.dims())
            }
        }
    }
}

/// The naming of one file.
pub(super) struct Naming {
    heads: usize,
    kv_heads: usize,
    /// Whether queries and keys are interleaved.
    interleaved: bool,
    gemma: bool,
}

impl Naming {
    /// The naming of a file with this metadata.
    ///
    /// # Errors
    /// When the architecture is missing.
    pub(super) fn of(metadata: &Map<String, Value>) -> Result<Self, String> {
        let architecture = super::config::architecture(metadata)?;
        let count = |key: &str| {
            let value = metadata.get(&format!("{architecture}.{key}"));
            value.and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok())
        };
        let heads = count("attention.head_count").filter(|heads| *heads > 0);
        let heads = heads.ok_or_else(|| format!("has no `{architecture}.attention.head_count`"))?;
        let kv_heads = count("attention.head_count_kv").filter(|heads| *heads > 0);
        Ok(Self {
            heads,
            kv_heads: kv_heads.unwrap_or(heads),
            interleaved: architecture == "llama",
            gemma: architecture.starts_with("gemma"),
        })
    }

    /// The Hugging Face name of a tensor, and how it was changed. An unknown name stays as it is.
    ///
    /// # Errors
    /// For frequencies of a scaled rotation, which are not supported.
    pub(super) fn tensor(&self, name: &str) -> Result<(String, Change), String> {
        if name.starts_with("rope_freqs") || name.starts_with("rope_factors") {
            return Err(format!(
                "scales its rotary positions by the tensor `{name}`, which is not supported; use \
                 the model's own directory"
            ));
        }
        let gain = if self.gemma { Change::PlusOne } else { Change::None };
        let outer = [
            ("token_embd.weight", "model.embed_tokens.weight", Change::None),
            ("output.weight", "lm_head.weight", Change::None),
            ("output_norm.weight", "model.norm.weight", gain),
        ];
        if let Some((_, new, change)) = outer.into_iter().find(|(old, ..)| *old == name) {
            return Ok((new.to_owned(), change));
        }
        let layer = name.strip_prefix("blk.").and_then(|rest| {
            let (layer, part) = rest.split_once('.')?;
            let (part, weight) = part.rsplit_once('.')?;
            let (_, new) = PARTS.into_iter().find(|(old, _)| *old == part)?;
            // Gemma has a norm after attention, and another before the MLP.
            let new =
                if self.gemma && part == "ffn_norm" { "pre_feedforward_layernorm" } else { new };
            let change = match part {
                "attn_q" if self.interleaved => Change::Interleaved(self.heads),
                "attn_k" if self.interleaved => Change::Interleaved(self.kv_heads),
                part if part.ends_with("_norm") => gain,
                _ => Change::None,
            };
            Some((format!("model.layers.{layer}.{new}.{weight}"), change))
        });
        Ok(layer.unwrap_or_else(|| (name.to_owned(), Change::None)))
    }
}

/// Interleaves rows as llama.cpp does, for tests.
#[cfg(test)]
fn interleave(tensor: &Tensor, heads: usize) -> candle_core::Result<Tensor> {
    let (rows, width) = tensor.dims2()?;
    let halves = tensor.reshape((heads, 2, rows / heads / 2, width))?;
    halves.transpose(1, 2)?.contiguous()?.reshape((rows, width))
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device};

    use super::*;

    #[test]
    fn changes_are_undone() {
        let tensor = Tensor::arange(0_f32, 48.0, &Device::Cpu).and_then(|it| it.reshape((12, 4)));
        let tensor = tensor.expect("a tensor");
        let changed = interleave(&tensor, 3).expect("interleaved");
        let same = |one: &Tensor, other: &Tensor| {
            let differing = one.sub(other)?.abs()?.max(D::Minus1)?.max(0)?.to_scalar::<f32>()?;
            Ok::<_, candle_core::Error>(differing == 0.0)
        };
        assert!(!same(&changed, &tensor).expect("compared"));
        let back = Change::Interleaved(3).apply(changed).expect("undone");
        assert!(same(&back, &tensor).expect("compared"));
    }

    #[test]
    fn names_are_those_of_hugging_face() {
        let metadata = serde_json::json!({
            "general.architecture": "llama", "llama.attention.head_count": 4,
            "llama.attention.head_count_kv": 2,
        });
        let naming = Naming::of(metadata.as_object().expect("an object")).expect("a naming");
        for (old, new, change) in [
            ("token_embd.weight", "model.embed_tokens.weight", Change::None),
            (
                "blk.7.attn_q.weight",
                "model.layers.7.self_attn.q_proj.weight",
                Change::Interleaved(4),
            ),
            (
                "blk.7.attn_k.weight",
                "model.layers.7.self_attn.k_proj.weight",
                Change::Interleaved(2),
            ),
            (
                "blk.0.ffn_norm.weight",
                "model.layers.0.post_attention_layernorm.weight",
                Change::None,
            ),
            ("blk.0.strange.weight", "blk.0.strange.weight", Change::None),
        ] {
            assert_eq!(naming.tensor(old), Ok((new.to_owned(), change)));
        }
        assert!(naming.tensor("rope_freqs.weight").is_err());
    }
}
