//! Taking a run's model away: as a model directory, or as adapters.

use std::fs;
use std::path::{Path, PathBuf};

use vxf_core::{Trainable, peft};

use crate::finished::{self, Layered, Run};
use crate::model::Base;
use crate::{Error, Result};

/// Largest file of weights, in bytes, as transformers writes them.
const SHARD: u64 = 5_000_000_000;

/// Files beside weights and configuration that loaders look for.
const COMPANIONS: [&str; 9] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
];

/// Writes the model of `run` into the new directory `to`, all adapters merged, in the type that
/// the base is stored in.
///
/// # Errors
/// When `to` is there already or cannot be written, or the run's weights are gone.
pub fn model(run: &Run, base: &Base, to: &Path) -> Result<()> {
    is_new(to)?;
    let checkpoint = finished::merged(base, &run.layers()?)?;
    checkpoint.export(to, SHARD)?;
    match &base.directory {
        Some(directory) => {
            for name in COMPANIONS.iter().filter(|name| directory.join(name).is_file()) {
                let (from, to) = (directory.join(name), to.join(name));
                fs::copy(&from, &to).map_err(Error::io("write", &to))?;
            }
        }
        None => {
            for (name, text) in vxf_data::tokenizer_files()? {
                let path = to.join(name);
                fs::write(&path, text).map_err(Error::io("write", &path))?;
            }
        }
    }
    Ok(())
}

/// Writes the adapters of `run` into the new directory `to` in PEFT's layout: one adapter there,
/// two as `alignment` and `fine_tuning`, to be merged in this order. Gives their directories.
///
/// # Errors
/// When the run trained no adapter, and as [`model`].
pub fn adapters(run: &Run, base: &Base, to: &Path) -> Result<Vec<PathBuf>> {
    let fail = |problem: &str| Error::NoRun { path: run.place.clone(), problem: problem.into() };
    let layers = run.layers()?;
    if layers.is_empty() {
        return Err(fail("nothing was trained in this run: its model is the base"));
    }
    is_new(to)?;
    let place = |layer: &Layered| match layers.len() {
        1 => to.to_owned(),
        _ => to.join(layer.stage.to_string()),
    };
    let mut written = Vec::new();
    for layer in &layers {
        let Trainable::Lora(lora) = &layer.trainable else {
            return Err(fail("all weights were trained, there is no adapter; use `--merged`"));
        };
        let place = place(layer);
        peft::write(&place, lora, &layer.weights(base)?, Some(&base.name))?;
        written.push(place);
    }
    Ok(written)
}

fn is_new(to: &Path) -> Result<()> {
    match to.exists() {
        true => Err(Error::NotAnExperiment { path: to.to_owned() }),
        false => Ok(()),
    }
}
