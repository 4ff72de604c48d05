//! Data sources: the user's files, the embedded world, or a source of another crate.
//!
//! A set has a name and a [`Purpose`]. A [`DataConfig`] declares the sets of its source before anything
//! is read; the opened [`DataSource`] returns them. Both belong to plugins of the kind `source`.

mod files;
mod settings;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use serde_json::{Map, Value};
use vxf_core::metric::Grader;
use vxf_core::registry::{Checked, ConfigError, Entry, Kind};
use vxf_core::{inventory, typetag};

use crate::{Ask, Check, DataReport, Repository, Result, Sample, Sampling, Source, TemplateChoice};

pub use files::{Files, paper, paper_settings};
pub use settings::{FilesConfig, Part, TrainOn};

/// The purpose of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Batches to train on.
    Stream,
    /// Samples whose loss or hidden embeddings are measured.
    Samples,
    /// Prompts that are answered and judged.
    Prompts,
}

/// The settings of a data source, and the sets that it has.
#[typetag::serde(tag = "source")]
pub trait DataConfig: Debug + Send + Sync {
    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    fn validate(&self) -> std::result::Result<(), ConfigError> {
        Ok(())
    }

    /// The name of the user's task in directory names.
    fn task(&self) -> String;

    /// A setting that gives the user another task, with its value; a durability card asks whether a defence
    /// holds there too.
    fn other_task(&self) -> Option<(&'static str, Value)> {
        None
    }

    /// Whether the source has the set `name` for this purpose.
    fn has(&self, purpose: Purpose, name: &str) -> bool;

    /// Whether a user's training set with this share of harmful samples can be drawn.
    ///
    /// # Errors
    /// Says what is missing.
    fn has_user(&self, _ratio: f64) -> std::result::Result<(), String> {
        match self.has(Purpose::Stream, "user") {
            true => Ok(()),
            false => Err(self.hint(Purpose::Stream, "user")),
        }
    }

    /// Why the set is missing, or what to write into the recipe; the end of an error message.
    fn hint(&self, purpose: Purpose, name: &str) -> String;

    /// Defaults of recipe settings that this source changes, by section.
    fn defaults(&self) -> Map<String, Value> {
        Map::new()
    }

    /// Settings whose default for this source differs from the paper: key and the paper's value.
    fn unlike_paper(&self) -> Vec<(String, Value)> {
        Vec::new()
    }

    /// Caveats for readers of results on this data, shown with the results. `run` has the methods of all
    /// stages that were run, as `name~perturber` where the perturber is not the method's own.
    fn caveats(&self, _run: &BTreeSet<String>) -> Vec<&'static str> {
        Vec::new()
    }

    /// Whether its texts may be shown on a terminal.
    fn is_harmless(&self) -> bool {
        false
    }

    /// The template around samples.
    fn template(&self) -> TemplateChoice {
        TemplateChoice::Auto
    }

    /// The default judge for this data.
    fn judge(&self) -> &'static str {
        "refusal"
    }

    /// Which answers of a conversation are trained on.
    fn train_on(&self) -> TrainOn {
        TrainOn::Last
    }

    /// Longest sample in tokens; 0 uses the model's limit.
    fn max_length(&self) -> usize {
        0
    }

    /// An upper bound of a sample's tokens, for estimates without the data; 0 is the model's limit.
    fn longest(&self) -> usize {
        self.max_length()
    }

    /// An upper bound of the number of samples in the stream `name`, for estimates without the data.
    fn at_most(&self, name: &str) -> usize;

    /// Keys of its section that affect measurements only, not training.
    fn measuring(&self) -> &[&'static str] {
        &[]
    }

    /// Opens the source.
    ///
    /// # Errors
    /// When a file is missing or invalid.
    fn open(&self, context: &DataContext) -> Result<Box<dyn DataSource>>;
}

/// The context in which a source is opened.
#[derive(Clone)]
pub struct DataContext {
    /// Harmful ratios of the experiment. No test set may contain what a user trains on at any of them.
    pub ratios: Vec<f64>,
    /// Finds data sets by path or hub id.
    pub locate: Arc<dyn Locate>,
    /// Checks that the model's template can format a sample, if the model is known.
    pub check: Option<Arc<Check>>,
}

/// Finds data sets.
pub trait Locate: Send + Sync {
    /// The files that `source` reads.
    ///
    /// # Errors
    /// When there are none, or they cannot be downloaded.
    fn dataset(&self, source: &Source) -> Result<Box<dyn Repository + '_>>;
}

/// A prompt, and the expected answer if there is one.
pub type Question = (Ask, Option<String>);

/// The prompts of a set.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The prompts.
    pub prompts: Vec<Question>,
    /// The group of each prompt, such as a category; empty if prompts have none.
    pub groups: Vec<String>,
    /// Maximum length of an answer, in tokens.
    pub max_new_tokens: usize,
}

/// An opened data source. Results depend on the arguments only.
pub trait DataSource: Send + Sync {
    /// The training set `name` for `seed`. `ratio` is the share of harmful samples in a user's set.
    ///
    /// # Errors
    /// When there is no such set, or it has too few samples.
    fn stream(&self, name: &str, seed: u64, ratio: f64) -> Result<Vec<Sample>>;

    /// The samples `name` to measure on, for `seed`.
    ///
    /// # Errors
    /// When there is no such set.
    fn samples(&self, name: &str, seed: u64) -> Result<Vec<Sample>>;

    /// The prompts `name`, for `seed`.
    ///
    /// # Errors
    /// When there is no such set.
    fn prompts(&self, name: &str, seed: u64) -> Result<Questions>;

    /// The grader of answers to the prompts `task`.
    fn grader(&self) -> Option<Grader> {
        None
    }

    /// The sampling of answers.
    fn sampling(&self) -> Sampling {
        Sampling::default()
    }

    /// Samples or prompts per batch when measuring.
    fn batch_size(&self) -> usize {
        8
    }

    /// Warnings about the sets that were read so far, as sentences. The report has them, too.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The report on the data for `seed`; `learned` returns the tokenised form of a training set.
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

/// A tokenised training set.
pub struct Learned {
    /// The samples.
    pub examples: Arc<Vec<vxf_core::Example>>,
    /// Samples whose answer was truncated.
    pub truncated: usize,
    /// Samples dropped because no token of their answer was left.
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
