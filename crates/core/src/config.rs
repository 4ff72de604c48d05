//! Plugin settings: typed, documented, with defaults, written and read by name.
//!
//! Each plugin kind has a configuration trait, which `typetag` writes into resolved recipes and
//! reads back. What a user writes goes through the registry entry's own function instead, because
//! typetag loses the place of an error.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};

use crate::backbone::Backbone;
use crate::checkpoint::Checkpoint;
use crate::defense::Defense;
use crate::metric::{Judge, Metric};
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

/// The settings of a defence.
#[typetag::serde(tag = "name")]
pub trait DefenseConfig: Debug + Send + Sync {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// The method with these settings.
    fn build(&self) -> Box<dyn Defense>;

    /// The registered name of the inner player it uses unless another is asked for.
    fn perturber(&self) -> &'static str {
        "none"
    }
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

    /// The inner player with these settings.
    fn build(&self) -> Box<dyn Perturber>;

    /// The sites it perturbs, if hidden embeddings are what it perturbs.
    fn sites(&self) -> Option<&SiteSelection> {
        None
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

    /// The metric with these settings.
    fn build(&self) -> Box<dyn Metric>;

    /// Whether it is cheap enough to be followed during the user's fine-tuning.
    fn follows_training(&self) -> bool {
        false
    }
}

/// The settings of a judge.
#[typetag::serde(tag = "name")]
pub trait JudgeConfig: Debug + Send + Sync {
    /// The judge with these settings.
    fn build(&self) -> Box<dyn Judge>;
}

/// A model family: reads a checkpoint in the Hugging Face layout.
#[derive(Clone, Copy)]
pub struct Family {
    /// The `model_type` values of `config.json` that it reads.
    pub model_types: &'static [&'static str],
    /// Makes the model.
    pub load: fn(&Checkpoint, DType, &Device) -> crate::Result<Arc<dyn Backbone>>,
}

/// Loads the model in `checkpoint` with the family that reads its `model_type`.
///
/// # Errors
/// When no registered family reads it, naming those that there are; when tensors are missing or
/// of another shape than the configuration says.
pub fn load_backbone(
    checkpoint: &Checkpoint,
    dtype: DType,
    device: &Device,
) -> crate::Result<Arc<dyn Backbone>> {
    let families = crate::registry::backbones()?;
    let model_type = checkpoint.model_type()?;
    let found = families.iter().find(|entry| entry.family.model_types.contains(&model_type));
    match found {
        Some(entry) => (entry.family.load)(checkpoint, dtype, device),
        None => {
            let known: Vec<_> =
                families.iter().flat_map(|entry| entry.family.model_types).copied().collect();
            Err(checkpoint.unsupported(format!(
                "`model_type` is `{model_type}`; registered families read {}",
                known.join(", ")
            )))
        }
    }
}

/// Loads the model in the directory `path` in the Hugging Face layout.
///
/// # Errors
/// As [`load_backbone`], and when the directory cannot be read.
pub fn load_directory(
    path: &Path,
    dtype: DType,
    device: &Device,
) -> crate::Result<Arc<dyn Backbone>> {
    load_backbone(&Checkpoint::open(path)?, dtype, device)
}
