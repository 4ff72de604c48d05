//! Starting the user's stage from the aligned run of another experiment.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::layer::{Layer, Place};
use crate::record::{Record, read_json};
use crate::settings::Stages;
use crate::{Error, Result, recipe_file};

/// The settings that a fine-tuning stage from `run` starts with: those of its experiment.
///
/// # Errors
/// When `run` is not `EXPERIMENT/<defense>/aligned/<seed>`.
pub fn layer(run: &Path) -> Result<Layer> {
    let record = record(run)?;
    let experiment = experiment(run)?;
    let place = Place::Flag(format!("--from {}", run.display()));
    let mut layer = Layer::new();
    layer.set("defense", record.defense.clone(), place.clone())?;
    layer.set("perturber", record.perturber.clone(), place.clone())?;
    layer.set("seeds", json!([record.seed]), place.clone())?;
    layer.set("stages", json!(Stages::FineTuning), place.clone())?;
    layer.set("from", json!(run.display().to_string()), place)?;
    Ok(layer.over(recipe_file::read(&experiment.join("config.resolved.toml"))?))
}

/// The record of the aligned run in `run`.
///
/// # Errors
/// When there is none, or it is of another stage.
pub fn record(run: &Path) -> Result<Record> {
    let fail = |problem: &str| Error::NoRun { path: run.to_owned(), problem: problem.to_owned() };
    let file = run.join("result.json");
    if !file.is_file() {
        return Err(fail("no run: it has no result.json"));
    }
    let record: Record = read_json(&file)?;
    match record.ratio {
        None => Ok(record),
        Some(_) => Err(fail("a user has already fine-tuned this model; name an aligned one")),
    }
}

fn experiment(run: &Path) -> Result<PathBuf> {
    let absolute = run.canonicalize().map_err(Error::io("read", run))?;
    let found = absolute.ancestors().nth(3).filter(|root| root.join("manifest.json").is_file());
    found.map(Path::to_owned).ok_or_else(|| Error::NoRun {
        path: run.to_owned(),
        problem: "not inside an experiment: three levels up there is no manifest.json".into(),
    })
}
