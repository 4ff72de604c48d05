//! Records for tests.

use std::collections::BTreeMap;

use serde_json::json;
use vxf_core::{Stage, Trainable};

use crate::record::{Record, RunId};

/// A record without figures.
pub(crate) fn record(label: &str, ratio: Option<f64>, seed: u64) -> Record {
    Record {
        schema_version: crate::SCHEMA_VERSION,
        id: RunId { label: label.to_owned(), ratio, seed, axes: Vec::new() },
        digest: None,
        stage: if ratio.is_some() { Stage::FineTuning } else { Stage::Alignment },
        defense: json!({}),
        perturber: json!({}),
        steps: 10,
        samples: 1,
        truncated: 0,
        dropped: 0,
        seconds: 0.0,
        trainable: Trainable::Full,
        parent: None,
        edited: false,
        continues: false,
        training_loss: None,
        measurements: Vec::new(),
        measured: BTreeMap::new(),
        failed: BTreeMap::new(),
        answers: None,
    }
}
