//! Selects the files of a data set that contain the requested rows.

mod card;
mod convention;
mod described;
mod features;
mod form;
mod front_matter;
mod glob;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use card::Card;
use described::{Described, INFOS};

use crate::files::{Format, NamedClasses, Reader, unreadable};
use crate::{Error, Result};

/// Access to the files of a data set, local or remote.
pub trait Repository {
    /// The names of all files, with `/` between directories.
    ///
    /// # Errors
    /// When they cannot be listed.
    fn files(&self) -> Result<Vec<String>>;

    /// The local path of a file, downloaded if needed.
    ///
    /// # Errors
    /// When it cannot be read or downloaded.
    fn get(&self, file: &str) -> Result<PathBuf>;
}

/// A local file or directory.
#[derive(Clone, Debug)]
pub struct LocalRepository {
    directory: PathBuf,
    files: Vec<String>,
}

/// The maximum number of files in a data set directory.
const MOST_FILES: usize = 100_000;

/// The maximum depth of the directory walk.
const DEEPEST: usize = 10;

impl LocalRepository {
    /// Opens the file or directory `path`.
    ///
    /// # Errors
    /// When it does not exist or cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_file() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let directory = path.parent().unwrap_or(Path::new("")).to_owned();
            return Ok(Self { directory, files: vec![name] });
        }
        if !path.is_dir() {
            return Err(Error::NoFile { path: path.to_owned(), instead: String::new() });
        }
        let (mut files, mut seen) = (Vec::new(), 0);
        list(path, "", 0, &mut seen, &mut files)?;
        files.sort();
        Ok(Self { directory: path.to_owned(), files })
    }
}

impl Repository for LocalRepository {
    fn files(&self) -> Result<Vec<String>> {
        Ok(self.files.clone())
    }

    fn get(&self, file: &str) -> Result<PathBuf> {
        Ok(self.directory.join(file))
    }
}

/// Lists the files below a directory. Directories count too, because links may form cycles.
fn list(
    directory: &Path,
    prefix: &str,
    depth: usize,
    seen: &mut usize,
    files: &mut Vec<String>,
) -> Result<()> {
    let fault = |problem: String| Error::File { path: directory.to_owned(), problem };
    let unread = |error: std::io::Error| fault(format!("cannot be listed: {error}"));
    for entry in fs::read_dir(directory).map_err(unread)? {
        let entry = entry.map_err(unread)?;
        *seen += 1;
        if *seen > MOST_FILES {
            return Err(fault(format!("more than {MOST_FILES} files; name the one to read")));
        }
        // A file whose name is not Unicode cannot be selected.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || name.starts_with("__") {
            continue;
        }
        let path = entry.path();
        if path.is_dir() && depth < DEEPEST {
            list(&path, &format!("{prefix}{name}/"), depth + 1, seen, files)?;
        } else if path.is_file() {
            files.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// The chosen files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chosen {
    /// Their configuration, if it has a name.
    pub(crate) config: Option<String>,
    /// Their split, if known.
    pub(crate) split: Option<String>,
    /// Their names, in reading order.
    pub(crate) files: Vec<String>,
    /// How they are read.
    pub(crate) reader: Reader,
    /// The classes that the card or the older description names.
    pub(crate) classes: Vec<NamedClasses>,
    /// What the card says and is not used, as sentences.
    pub(crate) remarks: Vec<String>,
}

/// The configuration that is meant where none is named.
const DEFAULT_CONFIG: &str = "default";

/// The files of each split.
pub(crate) type Splits = BTreeMap<String, Vec<String>>;

/// Selects the files of `split` of `config`; empty names mean the default ones.
///
/// The card of the data set (`README.md`) decides; without one, the names of the files, as in the
/// Python library `datasets`.
///
/// # Errors
/// Says what is wrong with the selection, listing the options.
pub(crate) fn choose(
    repository: &dyn Repository,
    config: &str,
    split: &str,
) -> Result<std::result::Result<Chosen, String>> {
    let files = repository.files()?;
    if let [file] = &files[..]
        && config.is_empty()
        && split.is_empty()
    {
        return Ok(Ok(Chosen { files: vec![file.clone()], ..Chosen::default() }));
    }
    let get = |name: &str| files.iter().find(|file| *file == name).map(|file| repository.get(file));
    let card = match get("README.md") {
        Some(card) => card::read(&card?)?,
        None => Card::default(),
    };
    let infos = get(INFOS).transpose()?;
    Ok(choose_among(&files, &card, infos.as_deref(), config, split))
}

fn choose_among(
    files: &[String],
    card: &Card,
    infos: Option<&Path>,
    config: &str,
    split: &str,
) -> Result<Chosen, String> {
    let chosen = match card.configs.is_empty() {
        true => by_convention(files, config, split)?,
        false => by_card(files, card::choose(&card.configs, config)?, split)?,
    };
    let name = chosen.config.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_CONFIG);
    let mut classes = card.classes(name);
    if let Some(file) = infos {
        classes.extend(Described::infos(file, name).of(name, !card.configs.is_empty()));
    }
    Ok(Chosen { classes, ..chosen })
}

/// The files whose names say that they are of a split.
fn by_convention(files: &[String], config: &str, split: &str) -> Result<Chosen, String> {
    let of = |directory: &str, split: &str| {
        let named = (!directory.is_empty()).then(|| directory.to_owned());
        convention::splits(files, directory).and_then(|splits| pick(splits, named, split))
    };
    of(config, split).or_else(|problem| {
        if !config.is_empty() {
            return Err(problem);
        }
        // `30k_train`, without the card that defines it: `train` in the directory `30k`, or else the file
        // with this name.
        let parts = split.rsplit_once('_');
        let inside = parts.and_then(|(directory, split)| of(directory, split).ok());
        inside.or_else(|| named(files, split)).ok_or(problem)
    })
}

/// The files that a configuration of the card lists.
fn by_card(files: &[String], config: &card::Config, split: &str) -> Result<Chosen, String> {
    let splits = match &config.splits {
        Some(splits) => card::expand(splits, files)?,
        None => convention::splits(files, config.directory.as_deref().unwrap_or_default())?,
    };
    let chosen = pick(splits, Some(config.name.clone()), split)?;
    let first = chosen.files.first();
    let format = first.and_then(|file| Format::of(convention::name_of(file)));
    let of = format!("README.md, configuration `{}`", config.name);
    let (reader, unknown) = settings::reader(&config.settings, format).map_err(|problem| {
        let file = first.map_or("FILE", String::as_str);
        format!(
            "{of}: {problem}; convert the file to JSON lines, or give it as path = \".../{file}\", a \
             file on this machine, which is read without its README.md"
        )
    })?;
    let remarks = vxf_untrusted::not_used(&of, &unknown).into_iter().collect();
    Ok(Chosen { reader, remarks, ..chosen })
}

/// The only data file with this name, extensions ignored.
fn named(files: &[String], split: &str) -> Option<Chosen> {
    let is = |file: &&String| {
        convention::stem(file) == split && Format::of(convention::name_of(file)).is_some()
    };
    let mut found = files.iter().filter(is);
    let (file, None) = (found.next()?, found.next()) else { return None };
    let (split, files) = (Some(split.to_owned()), vec![file.clone()]);
    Some(Chosen { split, files, ..Chosen::default() })
}

fn pick(mut splits: Splits, config: Option<String>, split: &str) -> Result<Chosen, String> {
    let there = splits.keys().cloned().collect::<Vec<_>>().join(", ");
    let chosen = match split {
        "" if splits.contains_key("train") => "train".to_owned(),
        "" => match splits.keys().next() {
            Some(only) if splits.len() == 1 => only.clone(),
            _ => {
                return Err(format!(
                    "which `split`? There are {there}; write `split = \"..\"`, or name the file"
                ));
            }
        },
        split => split.to_owned(),
    };
    let Some(files) = splits.remove(&chosen) else {
        let slice = match chosen.contains('[') {
            true => "; use `skip` and `take` for a part of a split",
            false => "",
        };
        return Err(format!("there is no split `{chosen}`; there are {there}{slice}"));
    };
    check(&chosen, &files)?;
    Ok(Chosen { config, split: Some(chosen), files, ..Chosen::default() })
}

/// Checks that a split has one format and its files exist.
fn check(split: &str, files: &[String]) -> Result<(), String> {
    if files.is_empty() {
        return Err(format!("the files of split `{split}` that its README.md names are not there"));
    }
    let mut formats: Vec<Format> = Vec::new();
    for file in files {
        let name = convention::name_of(file);
        formats.push(Format::of(name).ok_or_else(|| format!("{file}: {}", unreadable(name)))?);
    }
    formats.dedup();
    if formats.len() > 1 {
        return Err(format!(
            "split `{split}` is there in more than one format ({}); name the file to read",
            excerpt(files)
        ));
    }
    Ok(())
}

/// A list of names for a message, the first few of many.
pub(crate) fn excerpt(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}
