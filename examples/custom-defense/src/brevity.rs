//! Measures how often a model answers in few words.

use vxf_core::metric::{Better, View};
use vxf_core::prelude::*;

vxf_core::config! {
    /// Settings of the metric `brevity`.
    pub struct BrevityConfig {
        /// Maximum number of words in a short answer.
        pub words: usize = 6,
    }
}

/// The share of short answers to the prompts `notes`.
pub struct Brevity {
    words: usize,
}

impl Metric for Brevity {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let answers = view.generations("brevity", "notes")?;
        let words = answers.iter().map(|made| made.answer.split_whitespace().count());
        let short = words.filter(|words| *words <= self.words).count();
        Ok(vec![Measurement::rate("brevity", short, answers.len(), Better::Higher)])
    }
}

#[typetag::serde(name = "brevity")]
impl MetricConfig for BrevityConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(self.words > 0, "words", "must be at least 1", self.words)
    }

    fn needs(&self) -> Needs {
        Needs::none().prompts("notes")
    }

    fn columns(&self) -> &[Column] {
        const { &[Column::further("brevity", "short %", 1)] }
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Brevity { words: self.words }))
    }
}

vxf_core::register! {
    metric "brevity" => BrevityConfig,
    summary: "Share of answers in few words",
    paper: "none: an example",
}
