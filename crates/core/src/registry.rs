//! The registry of plugins.
//!
//! A plugin submits one entry per method with [`register!`](crate::register!); `inventory`
//! collects them at link time. A crate that is only listed in `Cargo.toml` registers nothing: the
//! program names it once with `use that_crate as _;`.

use serde::de::DeserializeOwned;

use crate::config::{
    DefenseConfig, Documented, JudgeConfig, MetricConfig, PerturberConfig, Setting,
};
use crate::defense::Stage;
use crate::{Error, Result};

/// An error in a plugin's settings.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("`{key}` {rule}{}", if .found.is_empty() { String::new() } else { format!(", got {found}") })]
pub struct ConfigError {
    /// Path of the key within the settings, such as `rho`; empty if the error is not about one key.
    pub key: String,
    /// The broken rule, as "must be ...".
    pub rule: String,
    /// The offending value; empty if the key itself is wrong.
    pub found: String,
}

impl ConfigError {
    /// An error about `key`, at the path `at`, where only `known` keys are allowed.
    pub fn unknown_key(at: &str, key: &str, known: &[String]) -> Self {
        let rule = match (nearest(key, known).first(), known.is_empty()) {
            (Some(near), _) => format!("is not a setting here; did you mean `{near}`?"),
            (None, false) => {
                format!("is not a setting here; the settings are {}", known.join(", "))
            }
            (None, true) => "is not a setting here; there are none".to_owned(),
        };
        Self { key: at.to_owned(), rule, found: String::new() }
    }

    /// An error unless the number is finite and not negative.
    ///
    /// # Errors
    /// When it is not.
    pub fn not_negative(key: &str, found: f64) -> Result<(), Self> {
        let holds = found.is_finite() && found >= 0.0;
        Self::unless(holds, key, "must be finite and at least 0", found)
    }

    /// An error if the count is 0.
    ///
    /// # Errors
    /// When it is.
    pub fn positive(
        key: &str,
        found: impl TryInto<u64> + std::fmt::Display + Copy,
    ) -> Result<(), Self> {
        let holds = found.try_into().is_ok_and(|count| count > 0);
        Self::unless(holds, key, "must be at least 1", found)
    }

    /// An error unless `holds`.
    ///
    /// # Errors
    /// When `holds` is false.
    pub fn unless(
        holds: bool,
        key: &str,
        rule: &str,
        found: impl std::fmt::Display,
    ) -> Result<(), Self> {
        match holds {
            true => Ok(()),
            false => Err(Self { key: key.into(), rule: rule.into(), found: found.to_string() }),
        }
    }
}

/// A registered plugin of the kind that `C` configures.
pub struct Entry<C: ?Sized + 'static> {
    /// The method's published name, lower case.
    pub name: &'static str,
    /// What it does, in under eighty characters.
    pub summary: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// The stages it belongs to; empty for kinds without stages.
    pub stages: &'static [Stage],
    /// The crate it comes from.
    pub package: &'static str,
    /// All its settings.
    pub settings: fn() -> Vec<Setting>,
    /// Reads and validates settings; missing ones take their defaults.
    pub parse: fn(serde_json::Value) -> Result<Box<C>, ConfigError>,
}

inventory::collect!(Entry<dyn DefenseConfig>);
inventory::collect!(Entry<dyn PerturberConfig>);
inventory::collect!(Entry<dyn MetricConfig>);
inventory::collect!(Entry<dyn JudgeConfig>);

/// A kind of plugin with entries of its own.
pub trait Kind: 'static {
    /// The name of the kind.
    const NAME: &'static str;
    /// The key that holds a plugin's name in serialised settings.
    const TAG: &'static str = "name";
    /// All entries, in the linker's order.
    fn all() -> Vec<&'static Entry<Self>>;
}

macro_rules! kind {
    ($config:ty, $name:literal) => {
        impl Kind for $config {
            const NAME: &'static str = $name;
            fn all() -> Vec<&'static Entry<Self>> {
                inventory::iter::<Entry<Self>>.into_iter().collect()
            }
        }
    };
}

kind!(dyn DefenseConfig, "defense");
kind!(dyn PerturberConfig, "perturber");
kind!(dyn MetricConfig, "metric");
kind!(dyn JudgeConfig, "judge");

/// All entries of a kind, sorted by name.
///
/// # Errors
/// When two plugins have the same name.
pub fn entries<C: Kind + ?Sized>() -> Result<Vec<&'static Entry<C>>> {
    sorted(C::NAME, C::all(), |entry| (entry.name, entry.package))
}

/// `all` sorted by label: a name and the package it comes from.
///
/// # Errors
/// When two plugins have the same name.
pub fn sorted<T>(
    kind: &'static str,
    mut all: Vec<T>,
    label: impl Fn(&T) -> (&'static str, &'static str),
) -> Result<Vec<T>> {
    all.sort_by_key(&label);
    for pair in all.windows(2) {
        let ((name, first), (other, second)) = (label(&pair[0]), label(&pair[1]));
        if name == other {
            return Err(Error::DuplicatePlugin { kind, name: name.to_owned(), first, second });
        }
    }
    Ok(all)
}

/// The entry called `name`.
///
/// # Errors
/// When there is none; the error names the nearest, or all.
pub fn find<C: Kind + ?Sized>(name: &str) -> Result<&'static Entry<C>> {
    let all = entries::<C>()?;
    if let Some(entry) = all.iter().find(|entry| entry.name == name) {
        return Ok(entry);
    }
    let known: Vec<_> = all.iter().map(|entry| entry.name.to_owned()).collect();
    let nearest = nearest(name, &known);
    Err(Error::UnknownPlugin { kind: C::NAME, name: name.to_owned(), nearest, known })
}

/// Those of `known` that `name` may be a misspelling of, the likeliest first.
pub fn nearest(name: &str, known: &[String]) -> Vec<String> {
    let mut scored: Vec<_> = known
        .iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(score, known)| *score > 0.82 || known.starts_with(name))
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, known)| known.clone()).collect()
}

/// The settings of `name` with everything at its default.
///
/// # Errors
/// When there is no such plugin.
pub fn default_of<C: Kind + ?Sized>(name: &str) -> Result<Box<C>> {
    Ok((find::<C>(name)?.parse)(serde_json::json!({}))?)
}

/// Reads settings of type `T`; errors name the wrong key.
///
/// # Errors
/// On an unknown key, a wrong type or a value out of range.
pub fn parse<T: DeserializeOwned + Documented>(value: serde_json::Value) -> Result<T, ConfigError> {
    let known: Vec<_> = T::settings().iter().map(|setting| setting.name.to_owned()).collect();
    if let Some(object) = value.as_object()
        && let Some(key) = object.keys().find(|key| !known.contains(key))
    {
        return Err(ConfigError::unknown_key(key, key, &known));
    }
    let text = value.clone();
    serde_path_to_error::deserialize(value).map_err(|error| {
        let key = error.path().to_string();
        let found = key.split('.').try_fold(&text, |at, part| at.get(part));
        ConfigError {
            rule: format!("cannot be read ({})", error.inner()),
            found: found.unwrap_or(&text).to_string(),
            key,
        }
    })
}

/// Registers a plugin under its published name.
///
/// ```text
/// vxf_core::register! {
///     defense "vaccine" => VaccineConfig,
///     summary: "Perturbation-aware alignment",
///     paper: "Huang, Hu, Liu, NeurIPS 2024",
///     stages: [Alignment],
/// }
/// ```
#[macro_export]
macro_rules! register {
    (defense $($rest:tt)*) => { $crate::register!(@ $crate::config::DefenseConfig, $($rest)*); };
    (perturber $($rest:tt)*) => { $crate::register!(@ $crate::config::PerturberConfig, $($rest)*); };
    (metric $($rest:tt)*) => { $crate::register!(@ $crate::config::MetricConfig, $($rest)*); };
    (judge $($rest:tt)*) => { $crate::register!(@ $crate::config::JudgeConfig, $($rest)*); };
    (@ $kind:path, $name:literal => $config:ty, summary: $summary:literal, paper: $paper:literal
        $(, stages: [$($stage:ident),*])? $(,)?) => {
        $crate::inventory::submit! {
            $crate::registry::Entry::<dyn $kind> {
                name: $name,
                summary: $summary,
                paper: $paper,
                stages: &[$($($crate::defense::Stage::$stage),*)?],
                package: env!("CARGO_PKG_NAME"),
                settings: <$config as $crate::config::Documented>::settings,
                parse: |value| {
                    let config: $config = $crate::registry::parse(value)?;
                    let config: Box<dyn $kind> = Box::new(config);
                    $crate::registry::Checked::check(&*config)?;
                    Ok(config)
                },
            }
        }
    };
}

/// Settings that can be validated; [`register!`](crate::register!) does so after reading them.
pub trait Checked {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn check(&self) -> Result<(), ConfigError>;
}

impl Checked for dyn DefenseConfig {
    fn check(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

impl Checked for dyn PerturberConfig {
    fn check(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

impl Checked for dyn MetricConfig {
    fn check(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}

impl Checked for dyn JudgeConfig {
    fn check(&self) -> Result<(), ConfigError> {
        self.validate()
    }
}
