//! What can go wrong between a recipe's text and its resolved form.

use std::path::PathBuf;

use vxf_core::Stage;
use vxf_core::registry::ConfigError;

use crate::layer::Place;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A problem with a recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe cannot be read from disk.
    #[error("cannot read the recipe {}: {source}", path.display())]
    RecipeFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A recipe is not TOML.
    #[error("{}not TOML: {message}", .place.prefix())]
    NotToml {
        /// File and line.
        place: Place,
        /// What the parser expected.
        message: String,
        /// The offending lines, as the parser shows them.
        excerpt: String,
    },
    /// A setting breaks a rule.
    #[error("{}{problem}", .place.prefix())]
    Setting {
        /// Where it was written.
        place: Place,
        /// Key, rule and value found.
        problem: Box<ConfigError>,
    },
    /// A name in a recipe or a flag is registered nowhere.
    #[error("{}{source}", .place.prefix())]
    Name {
        /// Where it was written.
        place: Place,
        /// Which name, and which come near.
        source: Box<vxf_core::Error>,
    },
    /// A method sits in a stage that it does not belong to.
    #[error("{}`{name}` belongs to the {} stage, not to {stage}", .place.prefix(), names(.belongs))]
    WrongStage {
        /// Where it was written.
        place: Place,
        /// The method.
        name: String,
        /// Its stages.
        belongs: Vec<Stage>,
        /// The stage it was put in.
        stage: Stage,
    },
    /// Two members of a composition make the gradient.
    #[error(
        "{}`{first}` and `{second}` both make the gradient of a step; at most one member of a \
         composition may",
        .place.prefix()
    )]
    TwoMakers {
        /// Where it was written.
        place: Place,
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A plugin, or the registry of plugins.
    #[error(transparent)]
    Core(#[from] vxf_core::Error),
}

fn names(stages: &[Stage]) -> String {
    stages.iter().map(Stage::to_string).collect::<Vec<_>>().join(" or ")
}

impl Error {
    /// A setting that breaks `rule`.
    pub fn setting(place: Place, key: &str, rule: impl Into<String>, found: impl ToString) -> Self {
        let problem =
            ConfigError { key: key.to_owned(), rule: rule.into(), found: found.to_string() };
        Self::Setting { place, problem: Box::new(problem) }
    }
}
