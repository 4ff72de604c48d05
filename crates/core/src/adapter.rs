//! What is trained: every weight, or a low-rank adapter in PEFT's terms.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::backbone::Parameter;
use crate::registry::ConfigError;
use crate::{Params, Result};
use vxf_tensor::Key;

/// The trainable set of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Trainable {
    /// All weights.
    Full,
    /// A low-rank adapter beside frozen weights.
    Lora(Lora),
}

/// A low-rank adapter (Hu et al. 2021), in PEFT's vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lora {
    /// Rank r.
    #[serde(alias = "r")]
    pub rank: usize,
    /// Scale numerator alpha: the adapter's output is multiplied by alpha / r.
    #[serde(alias = "lora_alpha")]
    pub alpha: f64,
    /// Dropout on the adapter's input.
    #[serde(alias = "lora_dropout")]
    pub dropout: f64,
    /// Scale by alpha / sqrt(r) instead (rank-stabilised LoRA).
    pub use_rslora: bool,
    /// The linear layers that get an adapter, by the last part of their name; `all-linear` stands for
    /// all of them.
    #[serde(deserialize_with = "one_or_more")]
    pub target_modules: Vec<String>,
}

impl Lora {
    /// Names of settings in PEFT, and their names here.
    pub const ALIASES: [(&str, &str); 3] =
        [("r", "rank"), ("lora_alpha", "alpha"), ("lora_dropout", "dropout")];

    /// The factor on the adapter's output.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// The name of the matrix A `[r, in]` on the linear layer called `module`.
    pub fn a_of(module: &str) -> String {
        format!("{module}.lora_A")
    }

    /// The name of the matrix B `[out, r]` on the linear layer called `module`.
    pub fn b_of(module: &str) -> String {
        format!("{module}.lora_B")
    }

    /// Layers of some models, and what other models have in their place.
    pub const JOINED: [(&str, &[&str]); 2] = [
        ("qkv_proj", &["q_proj", "k_proj", "v_proj"]),
        ("gate_up_proj", &["gate_proj", "up_proj"]),
    ];

    /// Whether the linear layer called `module` gets an adapter. The names of queries, keys and values
    /// together stand for a layer that computes all three, those of gate and up for one of both.
    pub fn targets(&self, module: &str) -> bool {
        let named = |target: &str| {
            let rest = module.strip_suffix(target);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let listed = |name: &str| self.target_modules.iter().any(|target| target == name);
        self.all_linear()
            || self.target_modules.iter().any(|target| named(target))
            || Self::JOINED
                .iter()
                .any(|(joined, parts)| named(joined) && parts.iter().all(|part| listed(part)))
    }

    /// A fresh adapter of these parameters as PEFT makes it: A uniform within `1 / sqrt(in)`, B
    /// zero.
    ///
    /// # Errors
    /// When the device cannot create the tensors.
    pub fn fresh(
        parameters: &[Parameter],
        key: &Key,
        dtype: DType,
        device: &Device,
    ) -> Result<Params> {
        let tensor = |parameter: &Parameter| -> Result<(String, Tensor)> {
            let Parameter { name, shape, .. } = parameter;
            let tensor = match (name.ends_with(".lora_A"), shape.as_slice()) {
                // Kaiming-uniform with a = sqrt(5): bound sqrt(6 / ((1 + 5) * in)).
                (true, &[_, input]) => {
                    key.child(name).uniform(1.0 / (input as f64).sqrt(), shape, dtype, device)?
                }
                _ => Tensor::zeros(shape.as_slice(), dtype, device)?,
            };
            Ok((name.clone(), tensor))
        };
        parameters.iter().map(tensor).collect()
    }

    /// Whether it is on all linear layers, whatever their names.
    pub fn all_linear(&self) -> bool {
        self.target_modules.iter().any(|target| target == ALL_LINEAR)
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(self.rank > 0, "rank", "must be at least 1", self.rank)?;
        ConfigError::unless(self.alpha.is_finite(), "alpha", "must be finite", self.alpha)?;
        let dropout = (0.0..1.0).contains(&self.dropout);
        ConfigError::unless(dropout, "dropout", "must be at least 0 and below 1", self.dropout)?;
        let targets = !self.target_modules.is_empty();
        ConfigError::unless(targets, "target_modules", "must name at least one layer", "[]")
    }
}

/// The name that stands for all linear layers, as in PEFT.
const ALL_LINEAR: &str = "all-linear";

/// A list of names, or a single one.
fn one_or_more<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        List(Vec<String>),
    }
    match Names::deserialize(from)? {
        Names::List(names) => Ok(names),
        Names::One(name) if name == ALL_LINEAR => Ok(vec![name]),
        Names::One(name) => Err(serde::de::Error::custom(format!(
            "`target_modules` = {name:?} must be a list of layers, or \"all-linear\" (regular \
             expressions are not supported here)"
        ))),
    }
}

impl Default for Lora {
    /// The published alignment adapter: rank 8, alpha 4, dropout 0.1, all seven projections.
    fn default() -> Self {
        let targets = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"];
        Self {
            rank: 8,
            alpha: 4.0,
            dropout: 0.1,
            use_rslora: false,
            target_modules: targets.map(str::to_owned).to_vec(),
        }
    }
}
