//! The sections of a recipe that do not belong to plugins: settings with defaults and descriptions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vxf_core::config::{Precision, json};
use vxf_core::engine::Recompute;
use vxf_core::quantized::Scheme;
use vxf_core::registry::ConfigError;
use vxf_core::schedule::Decay;
use vxf_core::stream::Order;
use vxf_core::{Stage, Trainable};

use crate::resolve::USUAL;

/// Which stages to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Stages {
    /// All stages of the pipeline.
    All,
    /// Only one; a later stage starts from the run in `from`.
    One(Stage),
}

impl Stages {
    /// Whether `stage` is among them.
    pub fn include(self, stage: Stage) -> bool {
        self == Self::All || self == Self::One(stage)
    }

    /// Whether they start from a run instead of the base model.
    fn start_from_a_run(self) -> bool {
        self != Self::All && !self.include(USUAL[0].kind)
    }
}

impl TryFrom<String> for Stages {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "all" => Ok(Self::All),
            stage => stage.parse().map(Self::One).map_err(|problem| format!("{problem}, or all")),
        }
    }
}

impl From<Stages> for String {
    fn from(stages: Stages) -> Self {
        match stages {
            Stages::All => "all".to_owned(),
            Stages::One(stage) => stage.to_string(),
        }
    }
}

vxf_core::config! {
    /// The top-level settings of a recipe.
    pub struct Settings {
        /// Seeds; each fixes data, order, adapters and noise, in the same way for every defence.
        pub seeds: Vec<u64> = vec![1, 2, 3],
        /// Shares p of harmful demonstrations in the user's data.
        pub harmful_ratios: Vec<f64> = vec![0.0, 0.1, 0.2],
        /// Whether to run plain supervised fine-tuning beside the defence.
        pub baseline: bool = true,
        /// Whether to fine-tune the model that was never aligned, too.
        pub undefended: bool = true,
        /// Stages to run: all, alignment, fine_tuning or post_tuning.
        pub stages: Stages = Stages::All,
        /// The run that a single stage starts from; empty for the base model.
        pub from: String = String::new(),
        /// Steps between measurements during the user's fine-tuning; 0 measures only at the end.
        pub eval_every: u64 = 0,
        /// Prompts of each set that are answered at every such measurement, the first ones of the set, for
        /// curves of the attack's cost; 0 follows losses and drift alone.
        pub eval_prompts: usize = 0,
        /// Computing device: cpu, cuda, cuda:N, or auto (a usable GPU if there is one).
        pub device: String = "cpu".to_owned(),
        /// Number of worker threads; 0 uses all cores. Figures do not depend on it.
        pub threads: usize = 0,
        /// What to recompute in the backward pass: none, block (slower, far less memory), or auto, which
        /// depends on the free memory. Figures do not depend on it.
        pub recompute: Keep = Keep::Auto,
        /// What to keep on disk of a finished run: weights, adapters (full weights are removed), or none.
        /// A run without weights still counts as done.
        pub keep: Retain = Retain::Weights,
        /// Metrics to show in full, with all parts of their figures.
        pub detail: Vec<String> = Vec::new(),
    }
}

/// What to keep on disk of a finished run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retain {
    /// All trained weights.
    Weights,
    /// Only adapters.
    Adapters,
    /// Only the record.
    None,
}

/// What to keep of a forward pass for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// `none` if there is enough memory, otherwise `block`.
    Auto,
    /// All tensors.
    None,
    /// Only each block's input; the rest is recomputed.
    Block,
}

impl Keep {
    /// The choice; `None` for `auto`.
    pub fn chosen(self) -> Option<Recompute> {
        match self {
            Self::Auto => None,
            Self::None => Some(Recompute::None),
            Self::Block => Some(Recompute::Block),
        }
    }
}

impl From<Recompute> for Keep {
    fn from(recompute: Recompute) -> Self {
        match recompute {
            Recompute::None => Self::None,
            Recompute::Block => Self::Block,
        }
    }
}

vxf_core::config! {
    /// The section `model`.
    pub struct ModelSettings {
        /// A directory in the Hugging Face layout, a hub id such as owner/name or owner/name@revision
        /// (hf:owner/name if a directory `owner` exists), or `embedded` for the built-in model.
        pub path: String = EMBEDDED.to_owned(),
        /// Type of weights and activations, whatever the stored type: f32, f64, bf16 or f16.
        pub dtype: Precision = Precision::F32,
        /// How the frozen matrices of linear layers are held: none (as `dtype` says), nf4 (four bits, blocks of
        /// 64, scales in eight bits, as in QLoRA) or int8 (a scale for each row). Stages train adapters.
        pub quantize: Quantize = Quantize::None,
        /// The model that an adapter belongs to, if `path` is an adapter; by default the one that the
        /// adapter names.
        pub base: String = String::new(),
        /// Adapters in PEFT's layout that are merged into the weights first, in this order.
        pub adapters: Vec<String> = Vec::new(),
        /// Values that its `config.json` must have. If the model is missing, `vxf validate` estimates the
        /// cost from them.
        pub shape: Map<String, Value> = Map::new(),
    }
}

/// How the frozen matrices of a model are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantize {
    /// As tensors.
    None,
    /// In four bits.
    #[serde(alias = "4bit")]
    Nf4,
    /// In eight bits.
    #[serde(alias = "8bit")]
    Int8,
}

impl Quantize {
    /// The scheme, if there is one.
    pub fn scheme(self) -> Option<Scheme> {
        match self {
            Self::None => None,
            Self::Nf4 => Some(Scheme::Nf4),
            Self::Int8 => Some(Scheme::Int8),
        }
    }
}

/// The path of the built-in model.
pub const EMBEDDED: &str = "embedded";
/// The default output directory.
pub const RUNS: &str = "runs";
/// The data source of the embedded model, and the section of its settings.
pub const WORLD: &str = "world";
/// The data source of a section `data` that names none.
pub const FILES: &str = "files";

vxf_core::config! {
    /// The sections `alignment`, `fine_tuning` and `post_tuning`: how a stage is trained.
    pub struct TrainingSettings {
        /// Trained weights: full, or lora with rank, alpha, dropout, use_rslora, target_modules.
        pub trainable: Trainable = Trainable::Full,
        /// Peak learning rate.
        pub learning_rate: f64 = 1e-3,
        /// Passes over the stage's samples.
        pub epochs: u64 = 8,
        /// The number of optimiser steps, over as many passes as it takes; if not 0, it replaces epochs.
        #[serde(skip_serializing_if = "is_zero")]
        pub max_steps: u64 = 0,
        /// Samples in a batch. Vaccine's global rho is a budget per batch, so change both together.
        pub batch_size: usize = 8,
        /// Batches in an optimiser step.
        pub accumulation: usize = 1,
        /// Learning-rate schedule after warm-up: constant, linear or cosine.
        pub schedule: Decay = Decay::Cosine,
        /// Share of the steps used for warm-up, in which the rate rises from 0.
        pub warmup_ratio: f64 = 0.1,
        /// Number of warm-up steps; if not 0, it replaces warmup_ratio.
        pub warmup_steps: u64 = 0,
        /// AdamW's decoupled weight decay, for all weights except norms and biases.
        pub weight_decay: f64 = 0.0,
        /// Gradient norm above which gradients are clipped; 0 does not clip.
        pub max_gradient_norm: f64 = 1.0,
        /// Order of the samples: shuffled, sequential, or by_length (shuffled, with samples of similar length
        /// in a batch, to reduce padding).
        pub order: Order = Order::Shuffled,
        /// Train the parent stage's adapter further (Single-LoRA), instead of merging it and training a new
        /// one (Double-LoRA).
        pub continue_adapter: bool = false,
    }
}

/// A setting that came later is not written at its default, so that runs made before it keep their identity.
fn is_zero(value: &u64) -> bool {
    *value == 0
}

pub(crate) type Checked = Result<(), ConfigError>;

impl Settings {
    /// Checks value ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    pub fn validate(&self) -> Checked {
        let Self { seeds, harmful_ratios, .. } = self;
        let list = "must list at least one";
        ConfigError::unless(!seeds.is_empty(), "seeds", list, "[]")?;
        ConfigError::unless(!harmful_ratios.is_empty(), "harmful_ratios", list, "[]")?;
        for (index, seed) in seeds.iter().enumerate() {
            // Resolved recipes are TOML, which has no larger integers.
            let largest = i64::MAX as u64;
            let rule = format!("must be at most {largest}");
            ConfigError::unless(*seed <= largest, &format!("seeds.{index}"), &rule, seed)?;
            let new = !seeds[..index].contains(seed);
            ConfigError::unless(new, &format!("seeds.{index}"), "must not be listed twice", seed)?;
        }
        for (index, ratio) in harmful_ratios.iter().enumerate() {
            let key = format!("harmful_ratios.{index}");
            share(&key, *ratio)?;
            let new = !harmful_ratios[..index].contains(ratio);
            ConfigError::unless(new, &key, "must not be listed twice", ratio)?;
        }
        let followed = self.eval_prompts == 0 || self.eval_every > 0;
        let rule = "needs `eval_every`, the steps between measurements";
        ConfigError::unless(followed, "eval_prompts", rule, self.eval_prompts)?;
        let from = !self.from.is_empty();
        let later = self.stages.start_from_a_run();
        let rule = "needs `from`, the run to start from";
        ConfigError::unless(from || !later, "stages", rule, json(&self.stages))?;
        let [_, user, after] = USUAL.map(|usual| usual.kind);
        let rule = format!("needs `stages = \"{user}\"` or `stages = \"{after}\"`");
        ConfigError::unless(later || !from, "from", &rule, format!("{:?}", self.from))
    }
}

impl TrainingSettings {
    /// Checks value ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    pub fn validate(&self) -> Checked {
        let positive = [
            ("epochs", self.epochs),
            ("batch_size", self.batch_size as u64),
            ("accumulation", self.accumulation as u64),
        ];
        for (key, value) in positive {
            ConfigError::unless(value > 0, key, "must be at least 1", value)?;
        }
        let at_least_zero = [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("max_gradient_norm", self.max_gradient_norm),
        ];
        for (key, value) in at_least_zero {
            ConfigError::unless(value >= 0.0, key, "must be at least 0", value)?;
        }
        share("warmup_ratio", self.warmup_ratio)?;
        match &self.trainable {
            Trainable::Full => Ok(()),
            Trainable::Lora(lora) => lora
                .validate()
                .map_err(|error| ConfigError { key: format!("trainable.{}", error.key), ..error }),
        }
    }

    /// Number of optimiser steps of a stage with this many samples. The last step of an epoch may have
    /// fewer micro-batches.
    pub fn steps(&self, samples: usize) -> u64 {
        match self.max_steps {
            0 => self.epochs.saturating_mul(self.steps_of_a_pass(samples)),
            given => given,
        }
    }

    /// Passes over this many samples: `epochs`, or what `max_steps` takes.
    pub fn passes(&self, samples: usize) -> f64 {
        match self.max_steps {
            0 => self.epochs as f64,
            given => given as f64 / self.steps_of_a_pass(samples).max(1) as f64,
        }
    }

    fn steps_of_a_pass(&self, samples: usize) -> u64 {
        let batches = samples.div_ceil(self.batch_size.max(1)) as u64;
        batches.div_ceil(self.accumulation.max(1) as u64)
    }

    /// Number of warm-up steps among `steps`.
    pub fn warmup(&self, steps: u64) -> u64 {
        match self.warmup_steps {
            0 => (self.warmup_ratio * steps as f64).ceil() as u64,
            given => given.min(steps),
        }
    }
}

pub(crate) fn share(key: &str, value: f64) -> Checked {
    ConfigError::unless((0.0..=1.0).contains(&value), key, "must lie between 0 and 1", value)
}
