//! The record of a run: what is stored, and what everything printed is rendered from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use vxf_core::{Measurement, Stage, Trainable};

/// Version of the layout of records and manifests.
pub const SCHEMA_VERSION: u32 = 2;

/// Which run of an experiment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunId {
    /// Its methods, as tables and directories name them.
    pub label: String,
    /// The share of harmful samples that the user trained on; none before any user.
    pub ratio: Option<f64>,
    /// The seed.
    pub seed: u64,
    /// Further axes on which runs of this name differ, each with the value of this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<(String, String)>,
}

impl RunId {
    /// Where it lies within its experiment.
    pub fn path(&self) -> PathBuf {
        let ratio = self.ratio.map_or("aligned".to_owned(), |ratio| ratio.to_string());
        let axes = self.axes.iter().map(|(key, value)| format!("{key}={value}"));
        [self.label.clone(), ratio, self.seed.to_string()].into_iter().chain(axes).collect()
    }

    /// What its row is called: the label with the values of further axes.
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

/// The training loss of a stage, at its beginning and at its end.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingLoss {
    /// Mean over the first steps.
    pub first: f64,
    /// Mean over as many last steps.
    pub last: f64,
    /// How many steps that is: an epoch, or a tenth of one.
    pub steps: u64,
}

impl TrainingLoss {
    /// Whether training lowered it.
    pub fn fell(&self) -> bool {
        self.last < self.first
    }
}

/// What is known of a run that is done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this layout.
    pub schema_version: u32,
    /// Which run it is.
    #[serde(flatten)]
    pub id: RunId,
    /// SHA-256 of all that decides its weights; none in records of version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its stage.
    pub stage: Stage,
    /// The method of that stage with all its settings; of a composition, a list.
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
    /// The run that this one started from, within the experiment or elsewhere; none if it started
    /// from the base model.
    #[serde(default, alias = "below", skip_serializing_if = "Option::is_none")]
    pub parent: Option<PathBuf>,
    /// Whether its method edited the weights without training.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
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
    /// Whether it left weights of its own.
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

/// An answer kept in `generations.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The set of prompts it belongs to, such as `harmful`, `benign` or `task`.
    pub probe: String,
    /// The question.
    pub prompt: String,
    /// The right answer, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What the model said.
    pub answer: String,
}
