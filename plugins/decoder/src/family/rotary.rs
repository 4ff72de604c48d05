//! The rotary settings, in the older and the newer spelling.

use serde_json::{Map, Value};
use vxf_hf::Account;

use super::fields::{Fields, Problem, Read, broken, unsupported};
use crate::rope::{Rope, Scaling};

/// The key with the number of positions in pre-training.
const ORIGINAL: &str = "original_max_position_embeddings";

/// The key with the part of a head that is rotated.
const SHARE: &str = "partial_rotary_factor";

/// Reads `rope_theta` with `rope_scaling`, or `rope_parameters`, of a model with this number of
/// positions; with the unknown keys of that object.
pub(super) fn rope(fields: Fields<'_>, positions: usize) -> Read<(Rope, Vec<String>)> {
    rope_with(fields, positions, 10_000.0, false)
}

/// [`rope`] with this base where none is given; only a part of a head may be rotated if `partial`.
pub(super) fn rope_with(
    fields: Fields<'_>,
    positions: usize,
    theta: f64,
    partial: bool,
) -> Read<(Rope, Vec<String>)> {
    let nothing = serde_json::Map::new();
    let (key, object) = parameters(fields)?.unwrap_or(("rope_parameters", &nothing));
    let account = Account::of(object);
    let theta = fields.positive_or("rope_theta", theta)?;
    let (outer, inner) = (fields, Fields(&account));
    let rope = Settings { key, outer, inner, positions, partial }.rope(theta)?;
    let unknown = account.unread(&[ORIGINAL, "type", "rope_type"]);
    Ok((rope, unknown.into_iter().map(|inner| format!("{key}.{inner}")).collect()))
}

/// The settings of one rotation.
pub(super) struct Settings<'a> {
    /// The key of the object, for errors.
    pub(super) key: &'a str,
    /// The configuration.
    pub(super) outer: Fields<'a>,
    /// The object.
    pub(super) inner: Fields<'a>,
    pub(super) positions: usize,
    /// Whether only a part of a head may be rotated.
    pub(super) partial: bool,
}

impl Settings<'_> {
    pub(super) fn rope(&self, theta: f64) -> Read<Rope> {
        let Self { key, outer, inner, .. } = *self;
        let (beside, within) = (outer.number(SHARE)?, inner.number(SHARE)?);
        let share = within.or(beside).unwrap_or(1.0);
        if share != 1.0 && !self.partial {
            return unsupported(SHARE, share, "it must be 1");
        }
        if !(share > 0.0 && share <= 1.0) {
            return broken(SHARE, "above 0 and at most 1", share);
        }
        let theta = inner.positive_or("rope_theta", theta)?;
        let kind = inner.get("rope_type").or_else(|| inner.get("type"));
        let scaling = match kind.map_or(Some("default"), Value::as_str) {
            Some("default") => Scaling::None,
            Some("linear") => Scaling::Linear(self.needed("factor")?),
            // The frequencies change only beyond the model's number of positions, which no sequence
            // exceeds here.
            Some("dynamic") => {
                self.needed("factor")?;
                Scaling::None
            }
            Some("llama3") => Scaling::Llama3 {
                factor: self.needed("factor")?,
                low_frequency: self.needed("low_freq_factor")?,
                high_frequency: self.needed("high_freq_factor")?,
                original: self.original()?,
            },
            // Early files of Phi-3 have other names for it.
            Some("longrope" | "su") => self.longrope()?,
            Some("yarn") if inner.get("short_factor").is_some() => self.longrope()?,
            Some("yarn") => self.yarn(theta)?,
            _ => {
                let found = kind.unwrap_or(&Value::Null);
                let key = format!("{key}.rope_type");
                let instead = "supported are default, linear, dynamic, llama3, yarn and longrope";
                return unsupported(&key, found, instead);
            }
        };
        Ok(Rope { theta, share, scaling })
    }

    fn needed(&self, name: &str) -> Read<f64> {
        let key = self.key;
        match self.inner.number(name)? {
            Some(number) if number > 0.0 => Ok(number),
            _ => Err(Problem::Broken(format!("`{key}` must have a positive `{name}`"))),
        }
    }

    /// The number of positions in pre-training.
    fn original(&self) -> Read<f64> {
        match self.outer.number(ORIGINAL)? {
            Some(original) => Ok(original),
            None => self.inner.positive_or(ORIGINAL, self.positions as f64),
        }
    }

    /// The factor, by default the ratio of the model's positions to those in pre-training.
    fn factor(&self, original: f64) -> Read<f64> {
        self.inner.positive_or("factor", self.positions as f64 / original)
    }

    /// YaRN (Peng et al. 2023): low frequencies are interpolated, high ones are kept.
    fn yarn(&self, theta: f64) -> Read<Scaling> {
        let original = self.original()?;
        let factor = self.factor(original)?;
        let scale =
            |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let weights = (self.inner.number("mscale")?, self.inner.number("mscale_all_dim")?);
        let attention = match (self.inner.number("attention_factor")?, weights) {
            (Some(attention), _) => attention,
            (None, (Some(one), Some(all))) if one != 0.0 && all != 0.0 => scale(one) / scale(all),
            _ => scale(1.0),
        };
        let rotations = |key, default: f64| {
            self.inner.positive_or(key, default).map(|rotations| {
                (original / (rotations * std::f64::consts::TAU)).ln() / (2.0 * theta.ln())
            })
        };
        Ok(Scaling::Yarn {
            factor,
            attention,
            fast: rotations("beta_fast", 32.0)?,
            slow: rotations("beta_slow", 1.0)?,
            truncate: self.inner.flag_or("truncate", true)?,
        })
    }

    /// LongRoPE (Ding et al. 2024): a factor for each frequency, other ones for long sequences.
    fn longrope(&self) -> Read<Scaling> {
        let original = self.original()?;
        let factor = self.factor(original)?;
        let attention = match self.inner.number("attention_factor")? {
            Some(attention) => attention,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        let list = |name: &str| -> Read<Vec<f64>> {
            let list = self.inner.get(name).and_then(Value::as_array);
            let numbers =
                list.map(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
            match numbers.flatten().filter(|list| list.iter().all(|number| *number > 0.0)) {
                Some(numbers) => Ok(numbers),
                None => {
                    let key = self.key;
                    let rule = "a list of positive numbers";
                    Err(Problem::Broken(format!("`{key}` must have {rule} as `{name}`")))
                }
            }
        };
        let (short, long) = (list("short_factor")?, list("long_factor")?);
        Ok(Scaling::Long { short, long, original: original as usize, attention })
    }
}

/// The object with the settings, and its key.
fn parameters<'a>(fields: Fields<'a>) -> Read<Option<(&'static str, &'a Map<String, Value>)>> {
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = fields.get(key) else { continue };
        let Some(map) = value.as_object() else {
            return Err(Problem::Broken(format!("`{key}` must be an object, got {value}")));
        };
        if map.values().any(Value::is_object) {
            return unsupported(key, value, "all layers must have the same");
        }
        if !map.is_empty() {
            return Ok(Some((key, map)));
        }
    }
    Ok(None)
}
