//! A data set as a recipe names it.

use std::collections::BTreeMap;

use serde_json::Value;
use vxf_core::ConfigError;

use crate::Error;
use crate::filter::Filter;
use crate::schema::{Schema, SchemaChoice, unknown_keys};

vxf_core::config! {
    /// A data set: where its rows lie, what their columns mean, and which of them are taken.
    pub struct Source {
        /// A file, a directory in the layout of the hub's data sets, or the name of one there
        /// (owner/name, or hf:owner/name where a directory `owner` exists).
        pub path: String = String::new(),
        /// Branch, tag or commit of a data set on the hub; empty for `main`.
        pub revision: String = String::new(),
        /// Which configuration of the data set, by its name or its directory; empty for the
        /// default one.
        pub config: String = String::new(),
        /// Which split; empty for `train`, or for the only one.
        pub split: String = String::new(),
        /// What the columns mean: auto, messages, prompt_completion, alpaca, sharegpt, text, sst2,
        /// agnews, gsm8k or refusals.
        pub schema: SchemaChoice = SchemaChoice::Auto,
        /// Names of columns that are not called as usual, as in { prompt = "goal" }.
        pub columns: BTreeMap<String, String> = BTreeMap::new(),
        /// Rows that are taken: a value, or a list of values, for each column that decides.
        pub filter: BTreeMap<String, Value> = BTreeMap::new(),
        /// A column whose value groups prompts, such as `category`: intervals then know that prompts of
        /// one group may be alike. Empty for none.
        pub group: String = String::new(),
        /// How many samples are left out first, after the filter.
        pub skip: usize = 0,
        /// How many samples are taken then, in the file's order; 0 for all.
        pub take: usize = 0,
        /// Whether it is fine if there are fewer than `take`.
        pub at_most: bool = false,
        /// Whether the samples are shuffled before `skip` and `take`.
        pub shuffle: bool = false,
    }
}

impl Source {
    /// Checks what can be checked without reading a file.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let rule = "must be a file, a directory, or a data set on the hub such as owner/name";
        ConfigError::unless(!self.path.trim().is_empty(), "path", rule, "nothing")?;
        let fault = |key: &str, rule: String, found: String| ConfigError {
            key: key.to_owned(),
            rule,
            found,
        };
        let knows = |schema: &Schema| {
            self.columns.keys().all(|key| schema.fields().iter().any(|field| field.name == key))
        };
        let known = match self.schema {
            SchemaChoice::Auto => Schema::ALL.iter().any(knows),
            SchemaChoice::Named(schema) => knows(&schema),
        };
        if !known {
            let keys: Vec<_> = self.columns.keys().cloned().collect();
            let rule = format!("must name columns of one schema ({})", unknown_keys(&self.columns));
            return Err(fault("columns", rule, keys.join(", ")));
        }
        match Filter::problem(&self.filter) {
            None => Ok(()),
            Some((column, found)) => {
                let rule = "must be a plain value or a list of plain values".to_owned();
                Err(fault(&format!("filter.{column}"), rule, found))
            }
        }
    }

    /// The source in words: path, revision, configuration and split as far as they are given.
    pub(crate) fn described(&self, config: Option<&str>, split: Option<&str>) -> String {
        let mut text = self.path.clone();
        if !self.revision.is_empty() {
            text.push('@');
            text.push_str(&self.revision);
        }
        let parts: Vec<&str> = config.into_iter().chain(split).collect();
        if !parts.is_empty() {
            text.push_str(&format!(" ({})", parts.join(", ")));
        }
        text
    }

    /// An error about this source as a whole.
    pub(crate) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Source { path: self.path.clone(), problem: problem.into() }
    }
}
