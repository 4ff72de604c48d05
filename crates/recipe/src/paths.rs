//! Paths in a recipe: relative to the recipe's file, made absolute when it is read.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vxf_hub::Reference;

use crate::instead::instead;
use crate::layer::{Layer, Place};
use crate::settings::EMBEDDED;
use crate::{Error, Result};
use vxf_data::Part;

/// The directory to which relative paths refer.
#[derive(Clone, Copy, Debug)]
pub enum SeenFrom<'a> {
    /// The directory of a recipe file.
    Recipe(&'a Path),
    /// The working directory, for paths in flags.
    Command(&'a Path),
}

/// The kind of thing at a path.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A model directory or hub model.
    Model,
    /// A file, a directory or a hub data set.
    Data,
    /// A local file, checked by its reader.
    Local,
}

/// Makes all relative paths in `layer` absolute; hub ids are not changed.
///
/// # Errors
/// When a path exists both in the recipe's directory and in the working directory, as different files.
pub fn make_absolute(layer: &mut Layer, from: SeenFrom<'_>) -> Result<()> {
    let here =
        std::env::current_dir().map_err(|source| Error::Read { path: ".".into(), source })?;
    let (base, other) = match from {
        SeenFrom::Recipe(base) => (here.join(base), Some(here.as_path())),
        SeenFrom::Command(base) => (here.join(base), None),
    };
    for (key, text, kind) in settings(layer) {
        if text.is_empty()
            || Path::new(&text).is_absolute()
            || is_elsewhere(&text, kind, &base, other)
        {
            continue;
        }
        let meant = normal(&base.join(&text));
        if let Some(other) = other.map(|other| normal(&other.join(&text)))
            && both_exist(&meant, &other)
        {
            let rule = format!(
                "is relative to the recipe's directory and means {}; but the working directory has \
                 {} too: write the absolute path of the right one",
                meant.display(),
                other.display()
            );
            return Err(Error::setting(layer.place(&key), &key, rule, format!("{text:?}")));
        }
        replace(layer, &key, meant.display().to_string())?;
    }
    Ok(())
}

/// Checks that all local files and directories in `layer` exist. Its paths are absolute.
///
/// # Errors
/// For the first missing one: location, key, path, and what to write instead.
pub fn check(layer: &Layer) -> Result<()> {
    for (key, text, kind) in settings(layer) {
        let path = Path::new(&text);
        let (what, there) = match kind {
            Kind::Model => ("a model directory", path.is_dir() || is_gguf(path)),
            Kind::Data => ("a file or a directory", path.exists()),
            Kind::Local => continue,
        };
        if path.is_absolute() && !there {
            let place = layer.place(&key);
            let advice = advice(&place, path, kind);
            let instead = if path.is_file() { "; this is a file".into() } else { instead(path) };
            let rule = format!("must be {what} that exists; {advice}{instead}");
            return Err(Error::setting(place, &key, rule, format!("{text:?}")));
        }
    }
    Ok(())
}

/// What to write instead of a path that does not exist.
fn advice(place: &Place, path: &Path, kind: Kind) -> String {
    let hub = match kind {
        Kind::Model => "a model on the hub is written owner/name",
        _ => "a data set on the hub is written owner/name",
    };
    let Place::File { path: recipe, .. } = place else {
        return format!("a path in a flag is relative to the working directory, and {hub}");
    };
    let seen = format!("a path in a recipe is relative to the recipe's directory, and {hub}");
    // The path may have been written relative to the working directory.
    let base = Path::new(recipe).canonicalize().ok();
    let written = base.as_deref().and_then(Path::parent).and_then(|it| path.strip_prefix(it).ok());
    match (written, std::env::current_dir()) {
        (Some(written), Ok(here)) if here.join(written).exists() => {
            format!("{seen}; the working directory has {}", here.join(written).display())
        }
        _ => seen,
    }
}

/// Whether a path is that of a GGUF file.
fn is_gguf(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

/// All settings of `layer` that are paths: key, path, and kind.
fn settings(layer: &Layer) -> Vec<(String, String, Kind)> {
    let mut found = Vec::new();
    let mut add = |key: String, value: Option<&Value>, kind| {
        if let Some(text) = value.and_then(Value::as_str) {
            found.push((key, text.to_owned(), kind));
        }
    };
    let model = layer.get("model.path").filter(|path| path.as_str() != Some(EMBEDDED));
    add("model.path".into(), model, Kind::Model);
    let base = layer.get("model.base").filter(|base| base.as_str() != Some(""));
    add("model.base".into(), base, Kind::Model);
    let adapters = layer.get("model.adapters").and_then(Value::as_array);
    for (index, adapter) in adapters.into_iter().flatten().enumerate() {
        add(format!("model.adapters.{index}"), Some(adapter), Kind::Model);
    }
    add("from".into(), layer.get("from"), Kind::Local);
    for part in Part::ALL {
        let key = format!("data.{}.path", part.key());
        add(key.clone(), layer.get(&key), Kind::Data);
    }
    // Judges read models, and files that may not exist yet.
    let judges = layer.get("judges").and_then(Value::as_array);
    for (index, judge) in judges.into_iter().flatten().enumerate() {
        for (name, kind) in [("model", Kind::Model), ("scores", Kind::Local), ("path", Kind::Local)]
        {
            add(format!("judges.{index}.{name}"), judge.get(name), kind);
        }
    }
    found
}

/// Whether `text` is a hub id: it is not if it may be a path in either directory.
fn is_elsewhere(text: &str, kind: Kind, base: &Path, other: Option<&Path>) -> bool {
    // An invalid hub id is reported when it is opened.
    let hub = |directory: &Path| !matches!(Reference::parse_in(text, &[directory]), Ok(None));
    kind != Kind::Local && hub(base) && other.is_none_or(hub)
}

fn both_exist(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one != other,
        _ => false,
    }
}

/// The path with its directory in canonical form. The file name is kept, because the target of a link may
/// have another name.
fn normal(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|parent| parent.canonicalize().ok());
    match (directory, path.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        (_, None) => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        (None, Some(_)) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    }
}

/// Replaces the value of the setting `key` and keeps its location.
fn replace(layer: &mut Layer, key: &str, text: String) -> Result<()> {
    let mut parts = key.splitn(3, '.');
    let (section, name) = (parts.next().unwrap_or(key), parts.next().unwrap_or_default());
    // Lists are set as a whole: `judges.0.model`, `model.adapters.0`.
    let list = match section {
        "judges" => "judges",
        "model" if name == "adapters" => "model.adapters",
        _ => return layer.set(key, text.into(), layer.place(key)),
    };
    let mut items = layer.get(list).cloned().unwrap_or_default();
    let pointer = key[list.len()..].replace('.', "/");
    if let Some(item) = items.pointer_mut(&pointer) {
        *item = text.into();
    }
    let place = layer.place(list);
    layer.set(list, items, place)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::file;

    fn read(text: &str, base: &Path) -> Result<Layer> {
        let mut layer = file::parse(text, "recipe.toml")?;
        make_absolute(&mut layer, SeenFrom::Recipe(base))?;
        Ok(layer)
    }

    #[test]
    fn paths_are_relative_to_the_recipe_and_hub_ids_are_not_paths() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let text = "judges = [\"refusal\", { name = \"file\", scores = \"scores.jsonl\" }, \
                    { name = \"guard\", model = \"owner/guard\" }]\n\
                    [model]\npath = \"./model\"\nadapters = [\"owner/adapter\", \"an/adapter/here\"]\n\
                    [data.user]\npath = \"owner/set\"\n[data.harmful]\npath = \"/all/of/it\"\n\
                    [data.alignment]\npath = \"rows.jsonl\"\n";
        let layer = read(text, place.path()).expect("paths");
        let base = place.path().canonicalize().expect("a directory");
        let at = |name: &str| Some(json!(base.join(name).display().to_string()));
        for (key, wanted) in [
            ("model.path", at("model")),
            ("data.user.path", Some(json!("owner/set"))),
            ("data.harmful.path", Some(json!("/all/of/it"))),
            ("data.alignment.path", at("rows.jsonl")),
        ] {
            assert_eq!(layer.get(key).cloned(), wanted, "{key}");
        }
        let adapters = layer.get("model.adapters").expect("adapters");
        assert_eq!(adapters[0], "owner/adapter");
        assert_eq!(Some(&adapters[1]), at("an/adapter/here").as_ref());
        let judges = layer.get("judges").expect("judges");
        assert_eq!(Some(&judges[1]["scores"]), at("scores.jsonl").as_ref());
        assert_eq!(judges[2]["model"], "owner/guard");
        let line = |line| Place::File { path: "recipe.toml".into(), line };
        assert_eq!(layer.place("data.alignment.path"), line(10));

        let error = check(&layer).expect_err("nothing is there").to_string();
        for part in ["recipe.toml:3", "`model.path`", "model directory", "owner/name"] {
            assert!(error.contains(part), "no `{part}` in {error}");
        }
    }

    #[test]
    fn a_file_in_place_of_a_model_is_told_as_one() {
        let place = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(place.path().join("recipe.toml"), "").expect("writable");
        let layer = read("[model]\npath = \"./recipe.toml\"\n", place.path()).expect("a path");
        let error = check(&layer).expect_err("no directory").to_string();
        assert!(error.contains("this is a file") && !error.contains("did you mean"), "{error}");
    }

    #[test]
    fn an_ambiguous_path_is_refused() {
        let place = tempfile::tempdir().expect("a temporary directory");
        // The tests' working directory, the crate's directory, has such a file too.
        std::fs::write(place.path().join("Cargo.toml"), "").expect("writable");
        let text = "[data.user]\npath = \"Cargo.toml\"\n";
        let error = read(text, place.path()).expect_err("two files").to_string();
        let both = [place.path().to_owned(), std::env::current_dir().expect("a directory")];
        for directory in both {
            let path = directory.join("Cargo.toml").display().to_string();
            assert!(error.contains(&path), "no {path} in {error}");
        }
        assert!(error.contains("recipe.toml:2") && error.contains("`data.user.path`"), "{error}");
        // Relative to the same directory it is one file.
        let here = std::env::current_dir().expect("a directory");
        read(text, &here).expect("one file");
    }
}
