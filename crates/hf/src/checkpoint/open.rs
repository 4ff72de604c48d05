//! Finds the files of a model directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use super::Format;
use super::base::Base;
use super::elsewhere;
use super::shard::Shard;
use vxf_core::{Error, Result};
use vxf_untrusted::{LARGE, SMALL};

/// The files that may hold the tensors, in order of preference.
const CANDIDATES: [(&str, Format, bool); 5] = [
    ("model.safetensors", Format::Safetensors, false),
    ("model.safetensors.index.json", Format::Safetensors, true),
    ("pytorch_model.bin", Format::Pickle, false),
    ("pytorch_model.bin.index.json", Format::Pickle, true),
    (crate::gguf::WEIGHTS, Format::Gguf, false),
];

fn fail(path: &Path, problem: impl Into<String>) -> Error {
    Error::Checkpoint { path: path.display().to_string(), problem: problem.into() }
}

/// Opens the model in the directory `path`.
pub(super) fn directory(path: &Path) -> Result<Base> {
    let layout = "a model directory holds config.json and model.safetensors";
    if !path.is_dir() {
        return Err(fail(path, format!("no such directory; {layout}")));
    }
    if !path.join("config.json").is_file() && path.join("adapter_config.json").is_file() {
        return Err(fail(path, format!("is an adapter, not a model; {layout}")));
    }
    let mut origin = path.display().to_string();
    let config = json(&path.join("config.json"), SMALL, &format!("; {layout}"))?;
    let Some((name, format, indexed)) = weights(path) else {
        return Err(fail(path, elsewhere::what_is_there(path, &CANDIDATES.map(|(name, ..)| name))));
    };
    let mut file = path.join(name);
    if let (Format::Gguf, Ok(target)) = (format, file.read_link())
        && crate::gguf::is_gguf(&target)
    {
        // The directory of an unpacked file is a temporary one: messages name the file itself.
        file = path.join(target);
        origin = file.display().to_string();
    }
    if !indexed {
        let shard = Shard::open(&file)?;
        return Ok(Base::new(&origin, config, format, vec![file], vec![shard]));
    }
    let (files, shards) = shards(path, &file)?;
    Ok(Base::new(&origin, config, format, files, shards))
}

/// Whether the directory `path` holds weights of a model.
pub fn has_weights(path: &Path) -> bool {
    format(path).is_some()
}

/// The format of the weights in the directory `path`, if it holds some.
pub(crate) fn format(path: &Path) -> Option<Format> {
    weights(path).map(|(_, format, _)| format)
}

fn weights(path: &Path) -> Option<(&'static str, Format, bool)> {
    CANDIDATES.into_iter().find(|(name, ..)| path.join(name).is_file())
}

fn json(file: &Path, most: u64, hint: &str) -> Result<Value> {
    let text = vxf_untrusted::text(file, most)
        .map_err(|error| fail(file, format!("cannot be read ({error}){hint}")))?;
    vxf_untrusted::json(&text).map_err(|problem| fail(file, problem))
}

/// Whether a name is a plain file name that contains no path.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    plain && !name.contains(['/', '\\', '\0'])
}

/// Opens the files that an index names, sorted by name.
fn shards(directory: &Path, index: &Path) -> Result<(Vec<PathBuf>, Vec<Shard>)> {
    let index_value = json(index, LARGE, "")?;
    let Some(map) = index_value.get("weight_map").and_then(Value::as_object) else {
        return Err(fail(index, "has no `weight_map`"));
    };
    let mut tensors: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in map {
        let Some(shard) = shard.as_str() else {
            return Err(fail(index, format!("`{tensor}` is in no file: {shard}")));
        };
        tensors.entry(shard).or_default().push(tensor);
    }
    let (mut files, mut shards) = (Vec::new(), Vec::new());
    for (name, wanted) in tensors {
        // The file itself may be a link out of the directory; the hub's cache consists of such links.
        if !is_plain(name) {
            return Err(fail(index, format!("`{name}` does not name a file of this directory")));
        }
        let file = directory.join(name);
        if !file.is_file() {
            let problem =
                format!("is missing; {} says that it holds `{}`", index.display(), wanted[0]);
            return Err(fail(&file, problem));
        }
        let shard = Shard::open(&file)?;
        let held: BTreeSet<_> = shard.names().into_iter().collect();
        if let Some(tensor) = wanted.iter().find(|tensor| !held.contains(**tensor)) {
            let problem = format!("does not hold `{tensor}`, though {} says so", index.display());
            return Err(fail(&file, problem));
        }
        files.push(file);
        shards.push(shard);
    }
    Ok((files, shards))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_in_an_index_are_names() {
        for name in ["model-00001-of-00002.safetensors", "..a", "a b", "ä"] {
            assert!(super::is_plain(name), "{name}");
        }
        for name in
            ["", ".", "..", "/a", "/", "a/b", "a/", "./a", "../a", "a/../b", "..\\a", "a\0b"]
        {
            assert!(!super::is_plain(name), "{name}");
        }
    }
}
