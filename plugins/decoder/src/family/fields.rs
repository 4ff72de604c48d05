//! Reads the keys of a `config.json`.
//!
//! A null counts as a missing key, as in transformers. A family that distinguishes the two uses
//! [`Fields::optional_size`].

use serde_json::Value;
use vxf_hf::Account;

/// The reason why a configuration cannot be used.
pub(crate) enum Problem {
    /// It is invalid.
    Broken(String),
    /// It is valid, but asks for something that is not supported.
    Unsupported(String),
}

pub(crate) type Read<T> = Result<T, Problem>;

/// The error of an invalid `key`.
pub(crate) fn broken<T>(key: &str, rule: &str, found: impl std::fmt::Display) -> Read<T> {
    Err(Problem::Broken(format!("`{key}` must be {rule}, got {found}")))
}

/// The error of an unsupported value of `key`.
pub(crate) fn unsupported<T>(key: &str, found: impl std::fmt::Display, instead: &str) -> Read<T> {
    Err(Problem::Unsupported(format!("`{key}` = {found} is not supported ({instead})")))
}

/// The largest accepted size; the product of two sizes fits into 64 bits.
const LARGEST: u64 = u32::MAX as u64;

/// The keys of an object, which remembers those that were read.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a Account<'a>);

impl<'a> Fields<'a> {
    /// The value of `key`; none for null.
    pub(crate) fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A required size of at least 1.
    pub(crate) fn size(self, key: &str) -> Read<usize> {
        match self.optional_size(key, None)? {
            Some(size) => Ok(size),
            None => Err(Problem::Broken(format!("`{key}` is missing"))),
        }
    }

    /// A size of at least 1; the default if missing or null.
    pub(crate) fn size_or(self, key: &str, default: usize) -> Read<usize> {
        Ok(self.optional_size(key, None)?.unwrap_or(default))
    }

    /// A size of at least 1; `absent` if the key is missing, none for null.
    pub(crate) fn optional_size(self, key: &str, absent: Option<usize>) -> Read<Option<usize>> {
        match self.0.get(key) {
            None => Ok(absent),
            Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64() {
                Some(size @ 1..=LARGEST) => Ok(Some(size as usize)),
                _ => broken(key, "a whole number of at least 1", value),
            },
        }
    }

    /// A count, which may be zero.
    pub(crate) fn count_or(self, key: &str, default: usize) -> Read<usize> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => match value.as_u64() {
                Some(count @ ..=LARGEST) => Ok(count as usize),
                None | Some(_) => broken(key, "a whole number", value),
            },
        }
    }

    /// A number.
    pub(crate) fn number(self, key: &str) -> Read<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => broken(key, "a number", value),
            },
        }
    }

    /// A positive number.
    pub(crate) fn positive_or(self, key: &str, default: f64) -> Read<f64> {
        let number = self.number(key)?.unwrap_or(default);
        if number > 0.0 { Ok(number) } else { broken(key, "positive", number) }
    }

    /// A boolean.
    pub(crate) fn flag_or(self, key: &str, default: bool) -> Read<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(value) => broken(key, "true or false", value),
        }
    }

    /// Rejects any values of `key` but these; the first is the default.
    pub(crate) fn only(self, key: &str, supported: &[&str]) -> Read<()> {
        match self.get(key) {
            None => Ok(()),
            Some(value) if value.as_str().is_some_and(|text| supported.contains(&text)) => Ok(()),
            Some(value) => unsupported(key, value, &format!("it must be {}", supported[0])),
        }
    }

    /// A rate of dropout, at least 0 and below 1.
    pub(crate) fn rate_or(self, key: &str, default: f64) -> Read<f64> {
        let rate = self.number(key)?.unwrap_or(default);
        match (0.0..1.0).contains(&rate) {
            true => Ok(rate),
            false => broken(key, "at least 0 and below 1", rate),
        }
    }

    /// Rejects any value but zero.
    pub(crate) fn zero(self, key: &str) -> Read<()> {
        match self.number(key)? {
            None | Some(0.0) => Ok(()),
            Some(number) => unsupported(key, number, "it must be 0"),
        }
    }
}
