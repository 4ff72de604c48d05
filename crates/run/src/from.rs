//! Starting the user's stage from the aligned run of another experiment.

use std::path::Path;

use serde_json::json;

use crate::Result;
use crate::finished::{self, Run};
use crate::layer::{Layer, Place};
use crate::settings::Stages;

/// The settings that a fine-tuning stage from `run` starts with: those of its experiment.
///
/// # Errors
/// When `run` is no aligned run.
pub fn layer(run: &Path) -> Result<Layer> {
    let place = Place::Flag(format!("--from {}", run.display()));
    let Run { record, root, place: place_of_run, .. } = Run::aligned(run)?;
    let mut layer = Layer::new();
    layer.set("defense", record.defense, place.clone())?;
    layer.set("perturber", record.perturber, place.clone())?;
    layer.set("seeds", json!([record.seed]), place.clone())?;
    layer.set("stages", json!(Stages::FineTuning), place.clone())?;
    layer.set("from", json!(place_of_run.display().to_string()), place)?;
    Ok(layer.over(finished::layer(&root)?))
}
