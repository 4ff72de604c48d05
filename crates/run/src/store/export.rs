//! Exports the model of a run as a model directory or as adapters.

use std::fs;
use std::path::{Path, PathBuf};

use vxf_core::Trainable;
use vxf_hf::peft;
use vxf_hub::COMPANIONS;

use super::card;
use super::disk::{self, FileSystem};
use super::finished::{self, Run};
use crate::{Error, Result};
use vxf_access::Base;

/// Largest size of a weights file in bytes, as in transformers.
const SHARD: u64 = 5_000_000_000;

/// Writes the model of `run` into the new directory `to`: all adapters merged, in the type in which the
/// base is stored.
///
/// # Errors
/// When `to` exists or cannot be written, or the run's weights are missing.
pub fn model(run: Run, base: &Base, to: &Path) -> Result<()> {
    let lineage = run.lineage()?;
    let checkpoint = finished::merged(base, &finished::layers(&lineage))?;
    whole(to, |draft| {
        checkpoint.export(draft, SHARD)?;
        write_card(draft, &card::card(&lineage, base, "transformers"))?;
        match &base.directory {
            Some(directory) => {
                let names = COMPANIONS.into_iter().chain(["tokenizer.model"]);
                for name in names.filter(|name| directory.join(name).is_file()) {
                    let (from, to) = (directory.join(name), draft.join(name));
                    fs::copy(&from, &to).map_err(Error::io("write", &to))?;
                }
            }
            None => {
                for (name, text) in vxf_world::tokenizer_files()? {
                    let path = draft.join(name);
                    fs::write(&path, text).map_err(Error::io("write", &path))?;
                }
            }
        }
        Ok(())
    })
}

/// Writes the adapters of `run` into the new directory `to` in PEFT's layout. A single adapter goes to
/// `to` itself; several go to directories named after their stages, and are to be merged in the returned
/// order.
/// Adapters that the recipe merges into the base come first, as `base`.
///
/// # Errors
/// When the run has no adapter, and as [`model`].
pub fn adapters(run: Run, base: &Base, to: &Path) -> Result<Vec<PathBuf>> {
    let path = run.place.clone();
    let fail = |problem: &str| Error::NoRun { path: path.clone(), problem: problem.into() };
    let lineage = run.lineage()?;
    let layers = finished::layers(&lineage);
    if layers.is_empty() {
        return Err(fail("nothing was trained in this run: its model is the base"));
    }
    let first: Vec<_> = base.adapters().collect();
    let before = |root: &Path, index: usize| match index {
        0 => root.join("base"),
        index => root.join(format!("base_{}", index + 1)),
    };
    let place = |root: &Path, index: usize| {
        let stage = layers[index].stage;
        let earlier = layers[..index].iter().filter(|layer| layer.stage == stage).count();
        match (layers.len() + first.len(), earlier) {
            (1, _) => root.to_owned(),
            (_, 0) => root.join(stage.to_string()),
            (_, earlier) => root.join(format!("{stage}_{}", earlier + 1)),
        }
    };
    whole(to, |draft| {
        for (index, adapter) in first.iter().enumerate() {
            copy_adapter(adapter, &before(draft, index))?;
        }
        for (index, layer) in layers.iter().enumerate() {
            let Trainable::Lora(lora) = &layer.trainable else {
                return Err(fail("all weights were trained, there is no adapter; use `--merged`"));
            };
            peft::write(&place(draft, index), lora, &layer.weights(base)?, Some(&base.name))?;
        }
        write_card(draft, &card::card(&lineage, base, "peft"))
    })?;
    let own = (0..layers.len()).map(|index| place(to, index));
    Ok((0..first.len()).map(|index| before(to, index)).chain(own).collect())
}

fn write_card(to: &Path, text: &str) -> Result<()> {
    let path = to.join(card::CARD);
    fs::write(&path, text).map_err(Error::io("write", &path))
}

/// Copies the files of an adapter into the new directory `to`.
fn copy_adapter(adapter: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for name in ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"] {
        let (from, to) = (adapter.join(name), to.join(name));
        if from.is_file() {
            fs::copy(&from, &to).map_err(Error::io("write", &to))?;
        }
    }
    Ok(())
}

/// Lets `fill` write a new directory, which appears at `to` when it is complete.
fn whole(to: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if to.exists() {
        return Err(Error::Exists { path: to.to_owned() });
    }
    disk::place(&FileSystem, &disk::beside(to), to, fill)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An export appears complete or not at all, and never replaces anything.
    #[test]
    fn a_failed_export_leaves_nothing() {
        let place = tempfile::tempdir().expect("a directory");
        let left = || place.path().read_dir().expect("a directory").count();
        let to = place.path().join("new");
        let fill = |draft: &Path| {
            let path = draft.join("config.json");
            fs::write(&path, "{}").map_err(Error::io("write", &path))
        };
        let failing = |draft: &Path| {
            fill(draft)?;
            Err(Error::Exists { path: draft.to_owned() })
        };
        whole(&to, failing).expect_err("it fails half way");
        assert_eq!(left(), 0);
        whole(&to, fill).expect("a new directory");
        assert!(to.join("config.json").is_file());
        whole(&to, fill).expect_err("it is there already");
        assert_eq!(left(), 1);
    }
}
