//! Settings of a data set in a recipe.

use std::collections::BTreeMap;

use serde_json::Value;
use vxf_core::ConfigError;

use crate::Error;
use crate::filter::Filter;
use crate::schema::{Schema, SchemaChoice, unknown_keys};

vxf_core::config! {
    /// A data set: its files, the meaning of its columns, and the rows to use.
    pub struct Source {
        /// A file, a directory in the layout of the hub's data sets, or a data set on the hub
        /// (owner/name, or hf:owner/name if a local directory `owner` exists).
        pub path: String = String::new(),
        /// Branch, tag or commit of a data set on the hub; empty for `main`.
        pub revision: String = String::new(),
        /// The configuration of the data set, by name or directory; empty for the default one.
        pub config: String = String::new(),
        /// The split; empty for `train`, or for the only one.
        pub split: String = String::new(),
        /// The schema of the columns: auto, messages, prompt_completion, alpaca, sharegpt, text, sst2,
        /// agnews, gsm8k or refusals.
        pub schema: SchemaChoice = SchemaChoice::Auto,
        /// Columns with unusual names, as in { prompt = "goal" }.
        pub columns: BTreeMap<String, String> = BTreeMap::new(),
        /// Uses only rows with these values: for each column a value or a list of values.
        pub filter: BTreeMap<String, Value> = BTreeMap::new(),
        /// A column that groups prompts, such as `category`. Intervals then account for similar prompts
        /// within a group. Empty for none.
        pub group: String = String::new(),
        /// Samples to skip at the start, after the filter.
        pub skip: usize = 0,
        /// Samples to use after `skip`; 0 uses all.
        pub take: usize = 0,
        /// Accept fewer samples than `take`, instead of an error.
        pub at_most: bool = false,
        /// Shuffle the samples before `skip` and `take`.
        pub shuffle: bool = false,
    }
}

impl Source {
    /// Checks the settings, without reading a file.
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

    /// A description: path, and revision, configuration and split if set.
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
