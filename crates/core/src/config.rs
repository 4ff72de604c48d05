//! Plugin settings: typed and documented, with defaults, stored by name.
//!
//! Each plugin kind has a configuration trait, which `typetag` writes into resolved recipes and
//! reads back. Settings from a user are read by the registry entry's own function instead, because
//! typetag loses the position of an error.

use std::fmt::Debug;
use std::path::PathBuf;

use candle_core::Device;
use serde_json::{Map, Value};

use crate::defense::Defense;
use crate::metric::{Judge, Metric};
use crate::needs::Needs;
use crate::perturber::Perturber;
use crate::registry::ConfigError;
use crate::site::SiteSelection;

pub use crate::precision::Precision;

/// One documented setting.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Setting {
    /// Its key.
    pub name: &'static str,
    /// Its description.
    pub meaning: String,
    /// Its default.
    pub default: serde_json::Value,
}

/// A configuration whose settings are documented; [`config!`](crate::config!) implements it.
pub trait Documented: Default {
    /// All settings, in order.
    fn settings() -> Vec<Setting>;
}

/// Defines a configuration: a serde struct with defaults, documentation of each setting, and an
/// error for unknown keys.
///
/// ```
/// vxf_core::config! {
///     /// Settings of an example.
///     pub struct ExampleConfig {
///         /// How strong it is.
///         pub strength: f64 = 1.0,
///     }
/// }
/// use vxf_core::config::Documented;
/// assert_eq!(ExampleConfig::default().strength, 1.0);
/// assert_eq!(ExampleConfig::settings()[0].meaning, "How strong it is.");
/// ```
#[macro_export]
macro_rules! config {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])+
                $(#[serde($serde:meta)])?
                pub $field:ident : $type:ty = $default:expr
            ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])+ $(#[serde($serde)])? pub $field: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::Documented for $name {
            fn settings() -> Vec<$crate::config::Setting> {
                #[allow(unused_variables)]
                let defaults = Self::default();
                vec![ $(
                    $crate::config::Setting {
                        name: stringify!($field),
                        meaning: [$($doc.trim()),+].join(" "),
                        default: $crate::config::json(&defaults.$field),
                    },
                )* ]
            }
        }
    };
}

/// Converts a value to JSON, for the documentation of defaults.
pub fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
}

/// A figure that a defence claims to lower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The metric that measures it, by its registered name.
    pub metric: &'static str,
    /// The figure.
    pub figure: &'static str,
}

impl Claim {
    /// How far the hidden embeddings of alignment samples move, relative to their norm.
    pub const DRIFT: Self = Self { metric: "drift", figure: "relative_drift" };
}

/// The settings of a defence: what it is, what it needs, and how it is built.
///
/// A configuration answers every question about the method without building it.
#[typetag::serde(tag = "name")]
pub trait DefenseConfig: Debug + Send + Sync {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// What it reads beyond the main stream.
    fn needs(&self) -> Needs {
        Needs::none()
    }

    /// Whether the stage trains at all. A model that is left unaligned and an edit of finished
    /// weights do not.
    fn trains(&self) -> bool {
        true
    }

    /// Whether it makes the gradient of a step. In a composition at most one member does; the
    /// others adjust gradients, follow the weights, or edit them at the end.
    fn makes_gradient(&self) -> bool {
        true
    }

    /// The registered name of its default inner player.
    fn perturber(&self) -> &'static str {
        "none"
    }

    /// The share of its steps that use the inner player, for cost estimates.
    fn perturbed_share(&self) -> f64 {
        1.0
    }

    /// Forward-backward passes of one step without the inner player's, for cost estimates.
    fn passes(&self) -> f64 {
        1.0
    }

    /// Copies of the trained weights that it keeps, for memory estimates.
    fn copies(&self) -> f64 {
        0.0
    }

    /// Whether it [runs](crate::Step::with_reference) a reference model beside the trained one, for memory
    /// estimates.
    fn runs_references(&self) -> bool {
        false
    }

    /// Whether all stages must train one and the same adapter, without merging between stages.
    fn needs_single_adapter(&self) -> bool {
        false
    }

    /// Whether it is an attack and no defence: the baselines of an experiment are attacked in the same
    /// way, and it has no part in the label of a defended model.
    fn attacks(&self) -> bool {
        false
    }

    /// Whether its stage has to train, or edit, all weights: an adapter cannot carry what it does.
    fn needs_full_weights(&self) -> bool {
        false
    }

    /// The figures that it claims to lower: what its paper says that it works by. A durability card asks
    /// whether they are lower than plain alignment's after the same attack.
    fn claims(&self) -> &'static [Claim] {
        &[]
    }

    /// The method of the user's stage, with its settings, by which an attacker who knows this defence would
    /// train. A durability test adds it to its attacks.
    fn attacker(&self) -> Option<Value> {
        None
    }

    /// The ranges that `vxf search` draws its settings from where none are given: `KEY=LOW..HIGH`,
    /// `KEY=LOW..HIGH:log` or `KEY=a,b,c`. They hold the defaults, the published and the embedded world's.
    fn ranges(&self) -> &'static [&'static str] {
        &[]
    }

    /// Defaults that differ in the embedded world, whose model is a hundred thousand times smaller.
    fn world_defaults(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The method with these settings.
    ///
    /// # Errors
    /// When something that it needs is missing. The error comes before any training.
    fn build(&self, context: &BuildContext<'_>) -> crate::Result<Box<dyn Defense>>;
}

/// The settings of a perturber.
#[typetag::serde(tag = "name")]
pub trait PerturberConfig: Debug + Send + Sync {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// What it reads beyond the main stream.
    fn needs(&self) -> Needs {
        Needs::none()
    }

    /// The number of its own passes, before the one whose gradient is applied.
    fn passes(&self) -> usize {
        0
    }

    /// The sites it perturbs, if it perturbs hidden embeddings.
    fn sites(&self) -> Option<&SiteSelection> {
        None
    }

    /// The ranges that `vxf search` draws its settings from where none are given: `KEY=LOW..HIGH`,
    /// `KEY=LOW..HIGH:log` or `KEY=a,b,c`. They hold the defaults, the published and the embedded world's.
    fn ranges(&self) -> &'static [&'static str] {
        &[]
    }

    /// Defaults that differ in the embedded world.
    fn world_defaults(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The inner player with these settings.
    ///
    /// # Errors
    /// When something that it needs is missing.
    fn build(&self, context: &BuildContext<'_>) -> crate::Result<Box<dyn Perturber>>;
}

/// A column of the comparison table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The figure, by its [`Measurement::name`](crate::Measurement::name).
    pub figure: &'static str,
    /// The header, with the unit where it is not obvious.
    pub header: &'static str,
    /// Decimals shown.
    pub decimals: usize,
    /// Whether it is meaningful for an aligned model before the user's fine-tuning.
    pub of_aligned: bool,
    /// Whether it belongs in every table, and not only in a full one.
    pub standard: bool,
    /// How the sentences of a report read it, if they do.
    pub reading: Option<Reading>,
}

/// How the sentences of a report read a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Methods are compared by it. The first such figure of an experiment gives the report's first
    /// sentence and its family of tests.
    Compared,
    /// A rate that a defence should keep: named as a method's price. A model with less than half of the
    /// best one's is in doubt, for this reason.
    Kept(&'static str),
    /// A share of answers, in percent, that tell nothing. A model with more than half of them is in doubt,
    /// for this reason.
    Unclear(&'static str),
    /// A figure that stays of one size in working models. A model with ten times the least one's is in
    /// doubt, for this reason.
    Bounded(&'static str),
}

impl Column {
    /// A figure of every model that belongs in every table.
    pub const fn standard(figure: &'static str, header: &'static str, decimals: usize) -> Self {
        Self { figure, header, decimals, of_aligned: true, standard: true, reading: None }
    }

    /// A figure of every model that is shown in full tables, and where its metric was asked for.
    pub const fn further(figure: &'static str, header: &'static str, decimals: usize) -> Self {
        Self { standard: false, ..Self::standard(figure, header, decimals) }
    }

    /// The same, of models that a user has fine-tuned.
    pub const fn of_users(self) -> Self {
        Self { of_aligned: false, ..self }
    }

    /// The same, read so by the sentences of a report.
    pub const fn with_reading(self, reading: Reading) -> Self {
        Self { reading: Some(reading), ..self }
    }
}

/// The settings of a metric.
#[typetag::serde(tag = "name")]
pub trait MetricConfig: Debug + Send + Sync {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The samples, prompts and reference models that it measures with.
    fn needs(&self) -> Needs {
        Needs::none()
    }

    /// Its columns in a comparison, in this order.
    fn columns(&self) -> &[Column] {
        &[]
    }

    /// Whether it is cheap enough to measure during the user's fine-tuning.
    fn follows_training(&self) -> bool {
        false
    }

    /// The metric with these settings.
    ///
    /// # Errors
    /// When something that it needs is missing.
    fn build(&self, context: &BuildContext<'_>) -> crate::Result<Box<dyn Metric>>;
}

/// The settings of a judge.
#[typetag::serde(tag = "name")]
pub trait JudgeConfig: Debug + Send + Sync {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The judge with these settings.
    ///
    /// # Errors
    /// When something that it needs is missing. The error comes before any training.
    fn build(&self, context: &BuildContext<'_>) -> crate::Result<Box<dyn Judge>>;
}

/// What the program gives a plugin to build with.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// The device of the run.
    pub device: &'a Device,
    /// Finds the directory of a model from a path or a hub id.
    pub model: &'a dyn Fn(&str) -> crate::Result<PathBuf>,
}

impl BuildContext<'_> {
    /// A context on the CPU without access to models.
    pub fn bare() -> BuildContext<'static> {
        BuildContext {
            device: &Device::Cpu,
            model: &|name| {
                let path = name.to_owned();
                Err(crate::Error::Checkpoint {
                    path,
                    problem: "this context has no access to models".into(),
                })
            },
        }
    }
}
