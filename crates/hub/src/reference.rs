//! What a user types to name a repository.

use std::fmt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::name;

const MAIN: &str = "main";

/// Endings that no model or data set has in its name, but many a mistyped file.
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

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A model or an adapter.
    Model,
    /// A data set.
    Dataset,
}

impl Kind {
    /// As it stands in addresses of the hub's interface: `models` or `datasets`.
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
/// Written `owner/name` or `owner/name@revision`, the revision being a branch, a tag or a commit;
/// `hub:` may stand in front. Without `hub:` a text means the hub only if all of this holds:
///
/// 1. it has the form `owner/name`, in the characters of hub ids;
/// 2. nothing of that name exists locally;
/// 3. `owner` is no local directory;
/// 4. it does not end like a data file (`.jsonl`, `.safetensors`, ...).
///
/// So a path with a typing error in its last part never becomes a network access.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    id: String,
    revision: String,
}

impl Reference {
    /// A reference to `owner/name` at a revision; `None` is `main`.
    ///
    /// # Errors
    /// When the id or the revision is none of the hub's.
    pub fn new(id: &str, revision: Option<&str>) -> Result<Self> {
        let revision = revision.unwrap_or(MAIN);
        let problem = if !name::is_id(id) {
            "that is no id of the hub"
        } else if !name::is_revision(revision) {
            "what follows the @ is no revision"
        } else {
            return Ok(Self { id: id.to_owned(), revision: revision.to_owned() });
        };
        Err(Error::Reference { text: format!("{id}@{revision}"), problem })
    }

    /// The repository that `text` means, or `None` if it means a local path.
    ///
    /// # Errors
    /// When the text begins with `hub:` and what follows names no repository.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        Self::parse_in(text, Path::new(""))
    }

    /// As [`parse`](Self::parse), with local paths relative to `directory`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_in(text: &str, directory: &Path) -> Result<Option<Self>> {
        let (prefixed, rest) = match text.strip_prefix("hub:") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (id, revision) = match rest.split_once('@') {
            Some((id, revision)) => (id, Some(revision)),
            None => (rest, None),
        };
        if prefixed {
            return Self::new(id, revision).map(Some).map_err(|error| error.about_text(text));
        }
        let owner = id.split('/').next().unwrap_or_default();
        let local = !name::is_id(id)
            || FILE_ENDINGS.iter().any(|ending| id.ends_with(ending))
            || directory.join(text).exists()
            || directory.join(id).exists()
            || directory.join(owner).is_dir();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(directory.path().join("data/set")).expect("a directory");
        let found = Reference::parse_in(text, directory.path()).expect("no prefix");
        found.map(|found| found.to_string())
    }

    #[test]
    fn ids_of_the_hub() {
        for text in ["Qwen/Qwen2.5-0.5B", "a/b@v1.0", "a/b@refs/pr/3", "x_y/z.w-1"] {
            assert_eq!(parse(text).as_deref(), Some(text));
            assert_eq!(parse(&format!("hub:{text}")).as_deref(), Some(text));
        }
        assert_eq!(parse("a/b@main").as_deref(), Some("a/b"));
        assert_eq!(parse("hub:data/set").as_deref(), Some("data/set"), "the prefix decides");
        assert_eq!(parse("hub:a/set.json").as_deref(), Some("a/set.json"));
    }

    #[test]
    fn local_paths() {
        for text in [
            "data/set",
            "data/sett",
            "data/set@v1",
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
    fn a_prefix_without_an_id_is_an_error() {
        for text in ["hub:gpt2", "hub:", "hub:/etc/passwd", "hub:a/b@", "hub:a/b@..", "hub:a/b/c"] {
            let error = Reference::parse(text).expect_err(text).to_string();
            assert!(error.contains(text) && error.contains("owner/name@revision"), "{error}");
        }
    }
}
