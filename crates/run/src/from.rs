//! Starting a later stage from a run of another experiment.

use std::path::Path;

use serde_json::json;
use vxf_core::Stage;
use vxf_recipe::{Layer, Place};

use crate::Result;
use crate::store::Run;

/// The settings of a stage that starts from `run`: those of its experiment. After an aligned run comes
/// the user's fine-tuning; after a fine-tuned run come the stages behind it.
///
/// # Errors
/// When `run` is not a run.
pub fn layer(run: &Path) -> Result<Layer> {
    let place = Place::Flag(format!("--from {}", run.display()));
    let run = Run::to_start_from(run)?;
    let stage = match run.record.id.ratio {
        None => Stage::FineTuning,
        Some(_) => Stage::PostTuning,
    };
    let mut layer = Layer::new();
    layer.set("seeds", json!([run.record.id.seed]), place.clone())?;
    if let Some(ratio) = run.record.id.ratio {
        layer.set("harmful_ratios", json!([ratio]), place.clone())?;
    }
    layer.set("stages", json!(stage), place.clone())?;
    layer.set("from", json!(run.place.display().to_string()), place)?;
    let mut below = run.layer()?;
    // The run is a single point of its experiment's axes.
    below.take("axes");
    Ok(layer.over(below))
}
