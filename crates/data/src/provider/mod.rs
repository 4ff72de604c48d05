//! Where samples come from: the user's files, the embedded world, a stranger's source.
//!
//! A set has a name and a [`Purpose`]. A [`DataConfig`] says which sets its source has before anything
//! is read; a [`DataSource`] draws them. Both are plugins of the kind `source`.

mod files;
mod settings;

use std::fmt::Debug;
use std::sync::Arc;

use serde_json::{Map, Value};
use vxf_core::metric::Grader;
use vxf_core::registry::{Checked, ConfigError, Entry, Kind};
use vxf_core::{inventory, typetag};

use crate::{Ask, DataReport, Repository, Result, Sample, Sampling, Source, TemplateChoice};

pub use files::{Files, paper};
pub use settings::{FilesConfig, Part};

/// What a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Batches to train on.
    Stream,
    /// Samples whose loss or hidden embeddings are measured.
    Samples,
    /// Prompts that are answered and judged.
    Prompts,
}

/// The settings of a data source: which sets it has, and how it is opened.
#[typetag::serde(tag = "source")]
pub trait DataConfig: Debug + Send + Sync {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn validate(&self) -> std::result::Result<(), ConfigError> {
        Ok(())
    }

    /// What the user's task is called in the names of directories.
    fn task(&self) -> String;

    /// Whether it has the set `name` for this purpose.
    fn has(&self, purpose: Purpose, name: &str) -> bool;

    /// Whether a user's training set with this share of harmful samples can be drawn.
    ///
    /// # Errors
    /// What is missing.
    fn has_user(&self, _ratio: f64) -> std::result::Result<(), String> {
        match self.has(Purpose::Stream, "user") {
            true => Ok(()),
            false => Err(self.hint(Purpose::Stream, "user")),
        }
    }

    /// What to write into a recipe so that it has the set.
    fn hint(&self, purpose: Purpose, name: &str) -> String;

    /// Settings of a recipe with another default for this source, its own section included.
    fn defaults(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Settings of the paper that this source does not follow by default: key and the paper's value.
    fn unlike_paper(&self) -> Vec<(String, Value)> {
        Vec::new()
    }

    /// What a reader must know of results on this data, shown beside them.
    fn caveats(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether nothing in it has to be withheld from a terminal.
    fn is_harmless(&self) -> bool {
        false
    }

    /// How samples are put to the model.
    fn template(&self) -> TemplateChoice {
        TemplateChoice::Auto
    }

    /// The registered judge that knows this data.
    fn judge(&self) -> &'static str {
        "refusal"
    }

    /// Longest sample in tokens; 0 is the model's own limit.
    fn max_length(&self) -> usize {
        0
    }

    /// At most so many samples in the stream `name`, for plans where the data is not at hand.
    fn at_most(&self, name: &str) -> usize;

    /// Settings that decide nothing but what is measured, as keys of its section.
    fn measuring(&self) -> &[&'static str] {
        &[]
    }

    /// Opens the source.
    ///
    /// # Errors
    /// When a file is missing or cannot be understood.
    fn open(&self, context: &DataContext) -> Result<Box<dyn DataSource>>;
}

/// What the program lends a source while it is opened.
#[derive(Clone)]
pub struct DataContext {
    /// Harmful ratios of the experiment: what any of its users trains on is in no test.
    pub ratios: Vec<f64>,
    /// Finds data sets by path or hub id.
    pub locate: Arc<dyn Locate>,
}

/// Finds data sets.
pub trait Locate: Send + Sync {
    /// The files that `source` reads.
    ///
    /// # Errors
    /// When there are none, or the hub does not give them.
    fn dataset(&self, source: &Source) -> Result<Box<dyn Repository + '_>>;
}

/// A prompt, and the right answer where there is one.
pub type Question = (Ask, Option<String>);

/// Prompts of one set.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The prompts.
    pub prompts: Vec<Question>,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
}

/// An open source of samples. A draw depends on its arguments alone.
pub trait DataSource: Send + Sync {
    /// The training set `name` under `seed`; `ratio` is the share of harmful samples where the set is
    /// a user's.
    ///
    /// # Errors
    /// When it has no such set, or too few samples.
    fn stream(&self, name: &str, seed: u64, ratio: f64) -> Result<Vec<Sample>>;

    /// The samples `name` to measure on under `seed`.
    ///
    /// # Errors
    /// When it has no such set.
    fn samples(&self, name: &str, seed: u64) -> Result<Vec<Sample>>;

    /// The prompts `name` to answer under `seed`.
    ///
    /// # Errors
    /// When it has no such set.
    fn prompts(&self, name: &str, seed: u64) -> Result<Questions>;

    /// What decides whether an answer to the prompts `task` is right.
    fn grader(&self) -> Option<Grader> {
        None
    }

    /// How answers are drawn.
    fn sampling(&self) -> Sampling {
        Sampling::default()
    }

    /// Samples or prompts that are measured side by side.
    fn batch_size(&self) -> usize {
        8
    }

    /// The report on what was read under `seed`; `learned` gives the tokenised form of a training set.
    ///
    /// # Errors
    /// When a set cannot be drawn.
    fn report(
        &self,
        _seed: u64,
        _learned: &dyn Fn(&str, f64) -> Option<Learned>,
    ) -> Result<Option<DataReport>> {
        Ok(None)
    }
}

/// A training set as the model sees it.
pub struct Learned {
    /// Its samples.
    pub examples: Arc<Vec<vxf_core::Example>>,
    /// How many lost a part of their answer to truncation.
    pub truncated: usize,
    /// How many lost all of it.
    pub dropped: usize,
}

/// A registered data source.
pub struct SourceEntry(pub Entry<dyn DataConfig>);

inventory::collect!(SourceEntry);

impl Kind for dyn DataConfig {
    const NAME: &'static str = "source";
    const TAG: &'static str = "source";
    fn all() -> Vec<&'static Entry<Self>> {
        inventory::iter::<SourceEntry>.into_iter().map(|entry| &entry.0).collect()
    }
}

impl Checked for dyn DataConfig {
    fn check(&self) -> std::result::Result<(), ConfigError> {
        self.validate()
    }
}

/// Registers a data source under its name.
///
/// ```text
/// vxf_data::register_source! {
///     "files" => FilesConfig,
///     summary: "The user's own files",
/// }
/// ```
#[macro_export]
macro_rules! register_source {
    ($name:literal => $config:ty, summary: $summary:literal $(,)?) => {
        ::vxf_core::inventory::submit! {
            $crate::SourceEntry(::vxf_core::registry::Entry::<dyn $crate::DataConfig> {
                name: $name,
                summary: $summary,
                paper: "none",
                stages: &[],
                package: env!("CARGO_PKG_NAME"),
                settings: <$config as ::vxf_core::config::Documented>::settings,
                parse: |value| {
                    let config: $config = ::vxf_core::registry::parse(value)?;
                    let config: Box<dyn $crate::DataConfig> = Box::new(config);
                    ::vxf_core::registry::Checked::check(&*config)?;
                    Ok(config)
                },
            })
        }
    };
}
