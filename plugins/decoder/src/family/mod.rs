//! The families; each reads its own `config.json` into a [`Design`].
//!
//! Defaults are those of transformers for the family, because files omit them.

mod fields;
mod gemma;
mod harmless;
mod layer_types;
mod llama;
mod mistral;
mod opt;
mod phi;
mod qwen;
mod rotary;

use serde_json::Value;
use vxf_core::{Error, Result};
use vxf_hf::Account;

use crate::design::{Design, Output, Position};
use crate::rope::Scaling;
use fields::{Fields, Problem, Read, broken, unsupported};

/// The configuration reader of a family.
#[derive(Clone, Copy)]
pub(crate) struct Reader(fn(Fields<'_>) -> Read<Design>);

/// Llama 1 to 3 and models of their shape.
pub(crate) const LLAMA: Reader = Reader(llama::design);
/// Mistral: Llama with a sliding window.
pub(crate) const MISTRAL: Reader = Reader(mistral::design);
/// Qwen2: Llama with biases on queries, keys and values.
pub(crate) const QWEN2: Reader = Reader(qwen::second);
/// Qwen3: Llama with a norm on each head's queries and keys.
pub(crate) const QWEN3: Reader = Reader(qwen::third);
/// Gemma 2: four norms, scaled embeddings, soft caps, alternating windows.
pub(crate) const GEMMA2: Reader = Reader(gemma::second);
/// Gemma 3: four norms, scaled embeddings, windows with a rotation of their own.
pub(crate) const GEMMA3: Reader = Reader(gemma::third);
/// Phi-3 and Phi-4-mini: joined projections, partial rotary positions, LongRoPE.
pub(crate) const PHI3: Reader = Reader(phi::third);
/// OPT: layer norms, learned positions, a plain MLP.
pub(crate) const OPT: Reader = Reader(opt::design);

/// A bound on layers, above that of any model.
const MOST_LAYERS: usize = 10_000;

impl Reader {
    /// Reads and checks a configuration; `origin` is its place, for errors.
    ///
    /// # Errors
    /// Names the missing, invalid or unsupported key and its value.
    pub(crate) fn read(self, config: &Value, origin: &str) -> Result<Design> {
        self.design(config).map_err(|problem| {
            let path = origin.to_owned();
            match problem {
                Problem::Broken(problem) => {
                    Error::Checkpoint { path, problem: format!("config.json: {problem}") }
                }
                Problem::Unsupported(problem) => {
                    Error::Unsupported { path, problem: format!("config.json: {problem}") }
                }
            }
        })
    }

    fn design(self, config: &Value) -> Read<Design> {
        let Some(config) = config.as_object() else {
            return Err(Problem::Broken("is not an object of keys and values".to_owned()));
        };
        let account = Account::of(config);
        let fields = Fields(&account);
        if let Some(quantization) = fields.get("quantization_config") {
            return unsupported(
                "quantization_config",
                quantization,
                "weights must be plain numbers",
            );
        }
        if !fields.flag_or("is_causal", true)? {
            return unsupported("is_causal", false, "a language model sees what comes before");
        }
        let design = (self.0)(fields)?;
        check(&design)?;
        let mut unknown = account.unread(&harmless::KEYS);
        unknown.extend(design.unknown);
        Ok(Design { unknown, ..design })
    }
}

/// Checks the rules of all families.
fn check(design: &Design) -> Read<()> {
    let Design { heads, kv_heads, head_width, .. } = *design;
    if !heads.is_multiple_of(kv_heads) {
        let rule = format!("a divisor of `num_attention_heads` ({heads})");
        return broken("num_key_value_heads", &rule, kv_heads);
    }
    let Position::Rotary(rope) = &design.position else { return Ok(()) };
    let rotated = rope.width(head_width);
    if rotated == 0 {
        return broken("partial_rotary_factor", "enough for two elements of a head", rope.share);
    }
    if !rotated.is_multiple_of(2) {
        return broken("head_dim", "even, where it is rotated", rotated);
    }
    if let Scaling::Long { short, long, .. } = &rope.scaling
        && let Some(list) = [short, long].into_iter().find(|list| list.len() != rotated / 2)
    {
        let rule = format!("lists of {} numbers, half the rotated width of a head", rotated / 2);
        return broken("short_factor` and `long_factor", &rule, list.len());
    }
    Ok(())
}

/// Number of layers.
fn layers(fields: Fields<'_>) -> Read<usize> {
    let layers = fields.size("num_hidden_layers")?;
    if layers <= MOST_LAYERS {
        return Ok(layers);
    }
    broken("num_hidden_layers", &format!("at most {MOST_LAYERS}"), layers)
}

/// The default width of a head: the model's width divided by the number of heads.
fn shared_width(width: usize, heads: usize) -> Read<usize> {
    match width.is_multiple_of(heads) {
        true => Ok(width / heads),
        false => {
            let rule = format!("a multiple of `num_attention_heads` ({heads})");
            broken("hidden_size", &rule, width)
        }
    }
}

/// The kind of output of the model.
///
/// Heads for other tasks are refused: without its own, the embeddings of a tied model would stand in.
fn output(fields: Fields<'_>, tied: bool) -> Read<Output> {
    let classes = fields.get("architectures").and_then(Value::as_array);
    let classes: Vec<&str> = classes.into_iter().flatten().filter_map(Value::as_str).collect();
    if classes.iter().any(|class| class.ends_with("ForSequenceClassification")) {
        let named = fields.get("id2label").and_then(Value::as_object).map(|labels| labels.len());
        return Ok(Output::Labels(fields.size_or("num_labels", named.unwrap_or(2))?));
    }
    let of_language = |class: &str| match class.split_once("For") {
        Some((_, task)) => {
            task.starts_with("CausalLM") || task.starts_with("ConditionalGeneration")
        }
        None => !class.contains("Reward"),
    };
    if let Some(class) = classes.into_iter().find(|class| !of_language(class)) {
        let instead = "its head is not that of a language model or a sequence classifier";
        return unsupported("architectures", class, instead);
    }
    let tied = fields.flag_or("tie_word_embeddings", tied)?;
    Ok(if tied { Output::Tied } else { Output::Head })
}

/// The token whose embedding gets no gradient as an input; negative ones count from the end.
fn padding(fields: Fields<'_>, absent: Option<u32>, vocabulary: usize) -> Read<Option<u32>> {
    let token = match fields.0.get("pad_token_id") {
        None => return Ok(absent),
        Some(Value::Null) => return Ok(None),
        Some(value) => match value.as_i64() {
            Some(token) => token,
            None => return broken("pad_token_id", "a token", value),
        },
    };
    let token = if token < 0 { token.saturating_add(vocabulary as i64) } else { token };
    Ok(u32::try_from(token).ok().filter(|token| (*token as usize) < vocabulary))
}
