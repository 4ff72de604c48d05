//! Errors of reading and resolving recipes.

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
    /// A recipe file cannot be read.
    #[error("cannot read the recipe {}: {source}", path.display())]
    RecipeFile {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A recipe is not valid TOML.
    #[error("{}not TOML: {message}", .place.prefix())]
    NotToml {
        /// File and line.
        place: Place,
        /// What the parser expected.
        message: String,
        /// The lines with the error, as shown by the parser.
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
    /// An unknown plugin name.
    #[error("{}{source}", .place.prefix())]
    Name {
        /// Where it was written.
        place: Place,
        /// The name, with similar registered names.
        source: Box<vxf_core::Error>,
    },
    /// A method is used in a stage that it is not made for.
    #[error("{}`{name}` belongs to the stage {}, not to `{stage}`", .place.prefix(), names(.belongs))]
    WrongStage {
        /// Where it was written.
        place: Place,
        /// The method.
        name: String,
        /// The stages it is made for.
        belongs: Vec<Stage>,
        /// The stage it was used in.
        stage: Stage,
    },
    /// Two members of a composition compute the gradient.
    #[error(
        "{}`{first}` and `{second}` both compute the gradient of a step; only one member of a \
         composition can",
        .place.prefix()
    )]
    TwoMakers {
        /// Where it was written.
        place: Place,
        /// The first one.
        first: String,
        /// The second one.
        second: String,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// An error of a plugin or of the registry.
    #[error(transparent)]
    Core(#[from] vxf_core::Error),
}

fn names(stages: &[Stage]) -> String {
    stages.iter().map(|stage| format!("`{stage}`")).collect::<Vec<_>>().join(" or ")
}

impl Error {
    /// The setting `key` breaks `rule`.
    pub fn setting(place: Place, key: &str, rule: impl Into<String>, found: impl ToString) -> Self {
        let problem =
            ConfigError { key: key.to_owned(), rule: rule.into(), found: found.to_string() };
        Self::Setting { place, problem: Box::new(problem) }
    }
}
