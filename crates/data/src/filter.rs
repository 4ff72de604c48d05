//! Filters rows by the values of their columns.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::files::{Row, kind};
use crate::schema::found;

/// The number of different values of a column that are kept for a message.
const REMEMBERED: usize = 8;

/// The accepted values of each column, and the values that occurred.
pub(crate) struct Filter<'a> {
    accepted: Vec<(&'a str, &'a [Value])>,
    met: Vec<BTreeSet<String>>,
}

impl<'a> Filter<'a> {
    /// A filter of `accepted`: for each column a value, or a list of them.
    pub(crate) fn new(accepted: &'a BTreeMap<String, Value>) -> Self {
        let accepted: Vec<_> = accepted
            .iter()
            .map(|(column, values)| {
                let values = match values {
                    Value::Array(values) => &values[..],
                    one => std::slice::from_ref(one),
                };
                (column.as_str(), values)
            })
            .collect();
        let met = vec![BTreeSet::new(); accepted.len()];
        Self { accepted, met }
    }

    /// The error of an invalid filter: columns must have plain values.
    pub(crate) fn problem(accepted: &BTreeMap<String, Value>) -> Option<(String, String)> {
        let plain = |value: &Value| !matches!(value, Value::Array(_) | Value::Object(_));
        let good = |values: &Value| match values {
            Value::Array(values) => !values.is_empty() && values.iter().all(plain),
            one => plain(one),
        };
        let (column, values) = accepted.iter().find(|(_, values)| !good(values))?;
        Some((column.clone(), values.to_string()))
    }

    /// Checks that the columns exist.
    pub(crate) fn check(&self, first: &Row) -> Result<(), String> {
        match self.accepted.iter().find(|(column, _)| !first.contains_key(*column)) {
            Some((column, _)) => {
                Err(format!("`filter` names the column `{column}`; {}", found(first)))
            }
            None => Ok(()),
        }
    }

    /// Whether the filter reads `column`.
    pub(crate) fn reads(&self, column: &str) -> bool {
        self.accepted.iter().any(|(known, _)| *known == column)
    }

    /// Whether a row has an accepted value in every filtered column.
    pub(crate) fn takes(&mut self, row: &Row) -> bool {
        let mut taken = true;
        for ((column, values), met) in self.accepted.iter().zip(&mut self.met) {
            let value = row.get(*column).unwrap_or(&Value::Null);
            if met.len() < REMEMBERED {
                met.insert(match value {
                    Value::Array(_) | Value::Object(_) => kind(value).to_owned(),
                    plain => plain.to_string().chars().take(40).collect(),
                });
            }
            taken &= values.iter().any(|wanted| same(wanted, value));
        }
        taken
    }

    /// The values that occurred, for a message about a filter that accepted no row.
    pub(crate) fn met(&self) -> String {
        let columns = self.accepted.iter().zip(&self.met).map(|((column, values), met)| {
            let wanted: Vec<String> = values.iter().map(Value::to_string).collect();
            let met: Vec<&str> = met.iter().map(String::as_str).collect();
            format!("`{column}` must be {}, but is {}", wanted.join(" or "), met.join(", "))
        });
        columns.collect::<Vec<_>>().join("; ")
    }
}

/// Equality of values; 1 equals 1.0.
fn same(wanted: &Value, found: &Value) -> bool {
    wanted == found || matches!((wanted.as_f64(), found.as_f64()), (Some(a), Some(b)) if a == b)
}
