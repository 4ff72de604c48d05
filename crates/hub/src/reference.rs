//! References to repositories, as users type them.

use std::fmt;
use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::name;

const MAIN: &str = "main";

/// File endings that do not occur in names of models or data sets, but in mistyped file names.
const FILE_ENDINGS: [&str; 11] = [
    ".json",
    ".jsonl",
    ".toml",
    ".csv",
    ".tsv",
    ".txt",
    ".parquet",
    ".safetensors",
    ".bin",
    ".gguf",
    ".zip",
];

/// The kind of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A model or an adapter.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// The plural in addresses of the hub's API: `models` or `datasets`.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// The repository's address below the endpoint.
    pub(crate) fn page(self, id: &str) -> String {
        match self {
            Self::Model => id.to_owned(),
            Self::Dataset => format!("datasets/{id}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        })
    }
}

/// A repository on the hub, and a revision of it.
///
/// Written `owner/name` or `owner/name@revision`; the revision is a branch, a tag or a commit.
/// `hf:owner/name` always means the hub. Without `hf:`, a text means the hub only if all of this holds:
///
/// 1. it is a valid hub id, `owner/name`;
/// 2. nothing of that name exists locally;
/// 3. `owner` is not a local directory, nor one letter away from the name of one;
/// 4. it does not end like a data file (`.jsonl`, `.safetensors`, ...).
///
/// So a mistyped path is never looked up on the network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    id: String,
    revision: String,
}

impl Reference {
    /// A reference to `owner/name` at a revision; `None` is `main`.
    ///
    /// # Errors
    /// When the id or the revision is invalid.
    pub fn new(id: &str, revision: Option<&str>) -> Result<Self> {
        let revision = revision.unwrap_or(MAIN);
        let problem = if !name::is_id(id) {
            "is not a hub id"
        } else if !name::is_revision(revision) {
            "has an invalid revision after the @"
        } else {
            return Ok(Self { id: id.to_owned(), revision: revision.to_owned() });
        };
        Err(Error::Reference { text: format!("{id}@{revision}"), problem })
    }

    /// Parses a repository reference; `None` if `text` means a local path.
    ///
    /// # Errors
    /// When the text begins with `hf:` and the rest is not a valid reference.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        Self::parse_in(text, &[Path::new("")])
    }

    /// As [`parse`](Self::parse), with local paths resolved in each of `directories`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_in(text: &str, directories: &[&Path]) -> Result<Option<Self>> {
        // Earlier versions used the prefix `hub:`.
        let prefixed = ["hf:", "hub:"].iter().find_map(|prefix| text.strip_prefix(prefix));
        let rest = prefixed.unwrap_or(text);
        let (id, revision) = match rest.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (rest, None),
        };
        if prefixed.is_some() {
            return Self::new(id, revision).map(Some).map_err(|error| error.about_text(text));
        }
        let owner = id.split('/').next().unwrap_or_default();
        let local = !name::is_id(id)
            || FILE_ENDINGS.iter().any(|ending| id.ends_with(ending))
            || directories.iter().any(|directory| {
                directory.join(text).exists()
                    || directory.join(id).exists()
                    || directory.join(owner).is_dir()
                    || has_near_directory(directory, owner)
            });
        Ok(if local { None } else { Self::new(id, revision).ok() })
    }

    /// `owner/name`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Branch, tag or commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// The minimum length for near matches; shorter names are too often one letter apart by chance.
const SHORTEST_NEAR: usize = 4;

/// Whether `directory` has a subdirectory of which `owner` may be a misspelling.
fn has_near_directory(directory: &Path, owner: &str) -> bool {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    owner.len() >= SHORTEST_NEAR
        && entries.filter(|entry| entry.path().is_dir()).any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.len() >= SHORTEST_NEAR && strsim::damerau_levenshtein(owner, &name) <= 1
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        let directory = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(directory.path().join("data/set")).expect("a directory");
        let found = Reference::parse_in(text, &[directory.path()]).expect("no prefix");
        found.map(|found| found.to_string())
    }

    #[test]
    fn ids_of_the_hub() {
        for text in ["Qwen/Qwen2.5-0.5B", "a/b@v1.0", "a/b@refs/pr/3", "x_y/z.w-1"] {
            assert_eq!(parse(text).as_deref(), Some(text));
            assert_eq!(parse(&format!("hf:{text}")).as_deref(), Some(text));
            assert_eq!(parse(&format!("hub:{text}")).as_deref(), Some(text));
        }
        assert_eq!(parse("a/b@main").as_deref(), Some("a/b"));
        assert_eq!(parse("hf:data/set").as_deref(), Some("data/set"), "the prefix decides");
        assert_eq!(parse("hf:a/set.json").as_deref(), Some("a/set.json"));
    }

    #[test]
    fn local_paths() {
        for text in [
            "data/set",
            "data/sett",
            "data/set@v1",
            "dats/set",
            "daat/set",
            "data2/set",
            "./a/b",
            "../a",
            "/a/b",
            "~/a",
            "a",
            "a/b/c",
            "a/",
            "/b",
            "a//b",
            "a\\b",
            "a/b.jsonl",
            "a/b c",
            "",
            "a/b@",
            "a/b@../../x",
            "a/b@/x",
            "-a/b",
            "a/..",
            "a/b.git",
            "a--b/c",
            "C:/x",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_directory_of_that_name_makes_a_path_local() {
        let (here, recipe) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        fs::create_dir(recipe.path().join("models")).expect("a directory");
        let parse = |directories: &[&Path]| {
            Reference::parse_in("models/tiny", directories).expect("no prefix").is_some()
        };
        assert!(parse(&[here.path()]));
        assert!(!parse(&[here.path(), recipe.path()]));
    }

    #[test]
    fn a_prefix_without_an_id_is_an_error() {
        for text in ["hf:gpt2", "hf:", "hf:/etc/passwd", "hf:a/b@", "hf:a/b@..", "hub:a/b/c"] {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("owner/name@revision"), "{error}");
        }
    }
}
