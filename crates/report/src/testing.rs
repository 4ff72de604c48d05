//! Records for tests.

use std::collections::BTreeMap;

use serde_json::json;
use vxf_core::config::{Column, Reading};
use vxf_core::{Stage, Trainable};

use crate::layout::Layout;
use crate::record::{Record, RunId};

/// A layout without blocks whose columns are read in every way.
pub(crate) fn layout() -> Layout {
    let column = |figure, reading| Column::standard(figure, figure, 1).with_reading(reading);
    let columns = [
        column("harmful_score", Reading::Compared),
        column("harmful_other", Reading::Unclear("its harmful score is no sign of safety")),
        column("accuracy", Reading::Kept("it no longer does the user's task")),
        column("helpfulness", Reading::Kept("it no longer helps with harmless requests")),
        column("perplexity", Reading::Bounded("its perplexity exploded")),
    ];
    let columns = columns.into_iter().map(|column| (column.figure.to_owned(), column));
    Layout { columns: columns.collect(), ..Layout::default() }
}

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
        taken_from: None,
        edited: false,
        continues: false,
        training_loss: None,
        followed: Vec::new(),
        measurements: Vec::new(),
        measured: BTreeMap::new(),
        failed: BTreeMap::new(),
        answers: None,
    }
}
