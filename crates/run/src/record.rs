//! The record of a cell: what is stored, and what everything printed is rendered from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vxf_core::outside::{self, LARGE};
use vxf_core::{Measurement, Stage, Trainable};

use crate::health::TrainingLoss;
use crate::plan::CellId;
use crate::{Error, Result};

/// Version of the layout of records and manifests.
pub const SCHEMA_VERSION: u32 = 1;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The metric that took it.
    pub metric: String,
    /// What it measured.
    #[serde(flatten)]
    pub figure: Measurement,
}

impl Row {
    /// The figure, if it could be formed.
    pub fn value(&self) -> Option<f64> {
        Some(self.figure.value).filter(|value| value.is_finite())
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
    /// Wall time of training and of all measuring, in seconds.
    pub seconds: f64,
    /// What was trained.
    pub trainable: Trainable,
    /// The aligned run that this one began with, within the experiment or elsewhere; none if it
    /// began with the base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<PathBuf>,
    /// Whether that run's adapter was trained further, and not merged.
    #[serde(default)]
    pub continues: bool,
    /// The user's own training loss, first and last; none where it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_loss: Option<TrainingLoss>,
    /// All figures.
    pub measurements: Vec<Row>,
    /// Each metric that was measured, with a digest of what its figures depend on besides the run:
    /// its settings, the test sets, the judges, how answers are generated.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, String>,
    /// Each metric that failed, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, String>,
    /// What the answers in `generations.jsonl` were generated from; none in records of versions that
    /// did not note it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Generated>,
}

/// What a file of answers was generated from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// SHA-256 of the file.
    pub file: String,
    /// For each set of prompts a digest of the prompts and of how their answers are generated.
    pub sets: BTreeMap<String, String>,
}

impl Record {
    /// Which cell it is of.
    pub fn cell(&self) -> CellId {
        CellId { label: self.label.clone(), ratio: self.ratio, seed: self.seed }
    }

    /// The figure called `name`.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.measurements.iter().find(|row| row.figure.name == name).and_then(Row::value)
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
    let text = outside::text(path, LARGE).map_err(Error::io("read", path))?;
    outside::json(&text).map_err(|problem| Error::Unreadable { place: show(path), problem })
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Bytes of the answers that a cell keeps.
const MOST_ANSWERS: u64 = 1 << 30;

/// Reads a file of JSON lines.
pub(crate) fn read_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = outside::text(path, MOST_ANSWERS).map_err(Error::io("read", path))?;
    let row = |(index, line): (usize, &str)| {
        outside::json(line).map_err(|problem| {
            // Each line is read alone, and would be the first.
            let problem = problem.replace(" at line 1 column ", " at column ");
            Error::Unreadable { place: format!("{}:{}", show(path), index + 1), problem }
        })
    };
    text.lines().enumerate().map(row).collect()
}

/// Values as JSON lines, for the file at `path`.
pub(crate) fn lines<T: Serialize>(path: &Path, values: &[T]) -> Result<String> {
    let record = |source| Error::Record { path: path.to_owned(), source };
    let mut text = String::new();
    for value in values {
        text.push_str(&serde_json::to_string(value).map_err(record)?);
        text.push('\n');
    }
    Ok(text)
}

/// A value as indented JSON, for the file at `path`.
pub(crate) fn pretty(path: &Path, value: &impl Serialize) -> Result<String> {
    let record = |source| Error::Record { path: path.to_owned(), source };
    Ok(serde_json::to_string_pretty(value).map_err(record)? + "\n")
}
