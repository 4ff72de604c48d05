//! The record of a cell: what is stored, and what everything printed is rendered from.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vxf_core::metric::Better;
use vxf_core::{Measurement, Stage};

use crate::plan::CellId;
use crate::{Error, Result};

/// Version of the layout of records and manifests.
pub const SCHEMA_VERSION: u32 = 1;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The metric that took it.
    pub metric: String,
    /// What was measured.
    pub name: String,
    /// The figure; none if it could not be formed.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// How many samples it is made of.
    pub n: usize,
    /// A 95 % interval over the samples, where it is a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// How it was taken, and its parts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Value>,
}

impl Row {
    /// The figure that `metric` took.
    pub fn new(metric: &str, figure: Measurement) -> Self {
        let Measurement { name, value, unit, better, n, interval, details } = figure;
        let value = value.is_finite().then_some(value);
        Self { metric: metric.to_owned(), name, value, unit, better, n, interval, details }
    }
}

/// What is known of a finished cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this layout.
    pub schema_version: u32,
    /// The alignment's or the arm's label.
    pub label: String,
    /// The last stage that was done.
    pub stage: Stage,
    /// The harmful ratio; none for an aligned model.
    pub ratio: Option<f64>,
    /// The seed.
    pub seed: u64,
    /// The defence of that stage, with all its settings.
    pub defense: Value,
    /// Its inner player, with all its settings.
    pub perturber: Value,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Samples trained on.
    pub samples: usize,
    /// Samples that lost a part of their answer to truncation.
    pub truncated: usize,
    /// Samples that lost all of it, and were left out.
    pub dropped: usize,
    /// Wall time of training and measuring, in seconds.
    pub seconds: f64,
    /// All figures.
    pub measurements: Vec<Row>,
}

impl Record {
    /// Which cell it is of.
    pub fn cell(&self) -> CellId {
        CellId { label: self.label.clone(), ratio: self.ratio, seed: self.seed }
    }

    /// The figure called `name`.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.measurements.iter().find(|row| row.name == name).and_then(|row| row.value)
    }
}

/// An answer kept in `generations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The set of prompts it belongs to: `harmful`, `benign` or `task`.
    pub probe: String,
    /// The question.
    pub prompt: String,
    /// The right answer, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What the model said.
    pub answer: String,
}

/// Reads a JSON file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let record = |source| Error::Record { path: path.to_owned(), source };
    serde_json::from_str(&text).map_err(record)
}

/// Reads a file of JSON lines.
pub(crate) fn read_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let record = |source| Error::Record { path: path.to_owned(), source };
    text.lines().map(|line| serde_json::from_str(line).map_err(record)).collect()
}

/// Writes values as JSON lines.
pub(crate) fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let record = |source| Error::Record { path: path.to_owned(), source };
    let mut text = String::new();
    for value in values {
        text.push_str(&serde_json::to_string(value).map_err(record)?);
        text.push('\n');
    }
    std::fs::write(path, text).map_err(Error::io("write", path))
}

/// Writes a value as indented JSON.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let record = |source| Error::Record { path: path.to_owned(), source };
    let text = serde_json::to_string_pretty(value).map_err(record)? + "\n";
    std::fs::write(path, text).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_that_could_not_be_formed_survive() {
        let figure = Measurement::new("drift", f64::NAN, "l2", Better::Lower, 0);
        let row = Row::new("drift", figure);
        let text = serde_json::to_string(&row).expect("plain values");
        assert_eq!(serde_json::from_str::<Row>(&text).expect("as written"), row);
        assert_eq!(row.value, None);
    }
}
