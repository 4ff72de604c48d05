//! The record of a cell: what is stored, and what everything printed is rendered from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vxf_core::{Measurement, Stage, Trainable};
use vxf_untrusted::LARGE;

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
    /// Wall time of training and measuring, in seconds.
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
    let text = vxf_untrusted::text(path, LARGE).map_err(Error::io("read", path))?;
    vxf_untrusted::json(&text).map_err(|problem| Error::Unreadable { place: show(path), problem })
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Bytes of the answers that a cell keeps.
const MOST_ANSWERS: u64 = 1 << 30;

/// Reads a file of JSON lines.
pub(crate) fn read_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = vxf_untrusted::text(path, MOST_ANSWERS).map_err(Error::io("read", path))?;
    let row = |(index, line): (usize, &str)| {
        vxf_untrusted::json(line).map_err(|problem| {
            // Each line is read alone, and would be the first.
            let problem = problem.replace(" at line 1 column ", " at column ");
            Error::Unreadable { place: format!("{}:{}", show(path), index + 1), problem }
        })
    };
    text.lines().enumerate().map(row).collect()
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
