//! The record of a run: the stored data that all output is rendered from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vxf_core::{Measurement, Stage, Trainable};

/// Schema version of records and manifests.
pub const SCHEMA_VERSION: u32 = 2;

/// Identifies a run within its experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunId {
    /// Its methods, as used in tables and paths.
    pub label: String,
    /// The share of harmful samples in the user's data; `None` before the first fine-tuning stage.
    pub ratio: Option<f64>,
    /// The seed.
    pub seed: u64,
    /// Name and value of each further axis on which runs with this label differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<(String, String)>,
}

impl RunId {
    /// Path of the run, relative to its experiment.
    pub fn path(&self) -> PathBuf {
        let ratio = self.ratio.map_or("aligned".to_owned(), |ratio| ratio.to_string());
        let axes = self.axes.iter().map(|(key, value)| format!("{key}={value}"));
        [self.label.clone(), ratio, self.seed.to_string()].into_iter().chain(axes).collect()
    }

    /// Name of the run's row: the label and the values of further axes.
    pub fn row(&self) -> String {
        let axes = self.axes.iter().map(|(key, value)| format!(" {key}={value}"));
        self.label.clone() + &axes.collect::<String>()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ratio {
            None => write!(f, "{} aligned, seed {}", self.row(), self.seed),
            Some(ratio) => write!(f, "{} p={ratio}, seed {}", self.row(), self.seed),
        }
    }
}

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The metric that took it.
    pub metric: String,
    /// The figure.
    #[serde(flatten)]
    pub figure: Measurement,
}

impl Row {
    /// The value, if it is finite.
    pub fn value(&self) -> Option<f64> {
        Some(self.figure.value).filter(|value| value.is_finite())
    }
}

/// The figures that were measured after some step of a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Followed {
    /// Steps taken.
    pub step: u64,
    /// Samples trained on, each as often as it was seen.
    pub samples: u64,
    /// The figures. Those made of answers are of a few prompts of each set.
    pub rows: Vec<Row>,
}

impl Followed {
    /// The figure called `name`, if it is finite.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.figure.name == name).and_then(Row::value)
    }
}

/// The training loss at the beginning and at the end of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingLoss {
    /// Mean over the first steps.
    pub first: f64,
    /// Mean over the same number of last steps.
    pub last: f64,
    /// Number of steps in each mean: an epoch, or a tenth of one.
    pub steps: u64,
}

impl TrainingLoss {
    /// Whether training lowered it.
    pub fn fell(&self) -> bool {
        self.last < self.first
    }
}

/// The stored record of a completed run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Schema version.
    pub schema_version: u32,
    /// Identifies the run.
    #[serde(flatten)]
    pub id: RunId,
    /// SHA-256 of everything that decides its weights; missing in records of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its stage.
    pub stage: Stage,
    /// The method of the stage with all its settings; a list for a composition.
    pub defense: Value,
    /// The perturber with all its settings.
    pub perturber: Value,
    /// Optimiser steps taken.
    pub steps: u64,
    /// Samples trained on.
    pub samples: usize,
    /// Samples whose answer was truncated.
    pub truncated: usize,
    /// Samples dropped because truncation removed the whole answer.
    pub dropped: usize,
    /// Wall time of training and measuring, in seconds.
    pub seconds: f64,
    /// The set of trained weights.
    pub trainable: Trainable,
    /// Path of the parent run, within the experiment or elsewhere; `None` if the run started from the
    /// base model.
    #[serde(default, alias = "below", skip_serializing_if = "Option::is_none")]
    pub parent: Option<PathBuf>,
    /// The run of another experiment from which it was copied, because both have one digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<PathBuf>,
    /// Whether its method edited the weights without training.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
    /// Whether it trained the parent's adapter further instead of merging it.
    #[serde(default)]
    pub continues: bool,
    /// The user's training loss at the beginning and at the end; `None` if there are too few steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_loss: Option<TrainingLoss>,
    /// The figures that were followed during training, by step.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub followed: Vec<Followed>,
    /// All figures.
    pub measurements: Vec<Row>,
    /// For each measured metric, a digest of everything its figures depend on besides the run: its
    /// settings, the test sets, the judges, the generation settings.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub measured: BTreeMap<String, String>,
    /// Failed metrics with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, String>,
    /// Where the answers in `generations.jsonl` come from; missing in older records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Generated>,
}

/// What a file of answers was generated from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generated {
    /// SHA-256 of the file.
    pub file: String,
    /// For each set of prompts, a digest of the prompts and the generation settings.
    pub sets: BTreeMap<String, String>,
}

impl Record {
    /// Whether the run saved weights.
    pub fn has_weights(&self) -> bool {
        self.steps > 0 || self.edited
    }

    /// The row called `name`.
    pub fn row(&self, name: &str) -> Option<&Row> {
        self.measurements.iter().find(|row| row.figure.name == name)
    }

    /// The figure called `name`.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.row(name).and_then(Row::value)
    }
}

/// One line of `generations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The set of prompts, such as `harmful`, `benign` or `task`.
    pub probe: String,
    /// The prompt.
    pub prompt: String,
    /// The correct answer, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The model's answer.
    pub answer: String,
}
