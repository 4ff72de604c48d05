//! Plugin settings: typed, documented, with defaults, written and read by name.
//!
//! Each plugin kind has a configuration trait, which `typetag` writes into resolved recipes and
//! reads back. What a user writes goes through the registry entry's own function instead, because
//! typetag loses the place of an error.

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

/// One documented setting.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Setting {
    /// Its key.
    pub name: &'static str,
    /// What it means.
    pub meaning: String,
    /// Its default.
    pub default: serde_json::Value,
}

/// A configuration whose settings are documented; [`config!`](crate::config!) implements it.
pub trait Documented: Default {
    /// All settings, in order.
    fn settings() -> Vec<Setting>;
}

/// Defines a configuration: a serde struct with defaults, documentation of each setting and
/// unknown keys refused.
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
                pub $field:ident : $type:ty = $default:expr
            ),* $(,)?
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $type, )*
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

/// A value as JSON, for the documentation of defaults.
pub fn json(value: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or(serde_json::Value::Null)
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

    /// Whether the stage trains at all; a model that is never aligned and an edit of finished
    /// weights do not.
    fn trains(&self) -> bool {
        true
    }

    /// Whether it makes the gradient of a step. In a composition at most one member does; the
    /// others adjust gradients, follow the weights, or edit them at the end.
    fn makes_gradient(&self) -> bool {
        true
    }

    /// The registered name of the inner player it uses unless another is asked for.
    fn perturber(&self) -> &'static str {
        "none"
    }

    /// The share of its steps in which it asks the inner player, for plans.
    fn perturbed_share(&self) -> f64 {
        1.0
    }

    /// Passes, forward and backward, that one step takes without the inner player's, for plans.
    fn passes(&self) -> f64 {
        1.0
    }

    /// Copies of the trained weights that it keeps, for plans.
    fn copies(&self) -> f64 {
        0.0
    }

    /// Whether it works on one adapter that all stages train further, and not on merged ones.
    fn needs_single_adapter(&self) -> bool {
        false
    }

    /// Settings with another default in the embedded world, whose model is a hundred thousandth of
    /// a real one.
    fn world_defaults(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The method with these settings.
    ///
    /// # Errors
    /// When what it works with is not there: this is said before anything is trained.
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

    /// How many passes it takes of its own, before the one whose gradient is applied.
    fn passes(&self) -> usize {
        0
    }

    /// The sites it perturbs, if hidden embeddings are what it perturbs.
    fn sites(&self) -> Option<&SiteSelection> {
        None
    }

    /// Settings with another default in the embedded world.
    fn world_defaults(&self) -> Map<String, Value> {
        Map::new()
    }

    /// The inner player with these settings.
    ///
    /// # Errors
    /// When what it works with is not there.
    fn build(&self, context: &BuildContext<'_>) -> crate::Result<Box<dyn Perturber>>;
}

/// A figure's place in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The figure, as [`Measurement::name`](crate::Measurement::name) has it.
    pub figure: &'static str,
    /// The header, with the unit where it is not plain.
    pub header: &'static str,
    /// Decimals shown.
    pub decimals: usize,
    /// Whether it says something about a model that no user has fine-tuned yet.
    pub of_aligned: bool,
    /// Whether it belongs in every table, and not only in a full one.
    pub standard: bool,
}

impl Column {
    /// A figure of every model that belongs in every table.
    pub const fn standard(figure: &'static str, header: &'static str, decimals: usize) -> Self {
        Self { figure, header, decimals, of_aligned: true, standard: true }
    }

    /// A figure of every model that is shown in full tables, and where its metric was asked for.
    pub const fn further(figure: &'static str, header: &'static str, decimals: usize) -> Self {
        Self { standard: false, ..Self::standard(figure, header, decimals) }
    }

    /// The same, of models that a user has fine-tuned.
    pub const fn of_users(self) -> Self {
        Self { of_aligned: false, ..self }
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

    /// What of it belongs in a comparison, in this order.
    fn columns(&self) -> &[Column] {
        &[]
    }

    /// Whether it is cheap enough to be followed during the user's fine-tuning.
    fn follows_training(&self) -> bool {
        false
    }

    /// The metric with these settings.
    ///
    /// # Errors
    /// When what it works with is not there.
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
    /// When what it judges with is not there: this is said before anything is trained.
    fn build(&self, context: &BuildContext<'_>) -> crate::Result<Box<dyn Judge>>;
}

/// What the program around a plugin lends it while it is built.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// Where the run computes.
    pub device: &'a Device,
    /// The directory of a model that is named by path or hub id.
    pub model: &'a dyn Fn(&str) -> crate::Result<PathBuf>,
}

impl BuildContext<'_> {
    /// A context on the CPU that knows no models.
    pub fn bare() -> BuildContext<'static> {
        BuildContext {
            device: &Device::Cpu,
            model: &|name| {
                let path = name.to_owned();
                Err(crate::Error::Checkpoint { path, problem: "no models here".into() })
            },
        }
    }
}
