//! The section `data`: the user's own files.

use serde::{Deserialize, Serialize};
use vxf_core::registry::ConfigError;

use crate::{MixOrder, Sampling, Source, TemplateChoice};

vxf_core::config! {
    /// The section `data`: files in place of the embedded world.
    pub struct FilesConfig {
        /// How questions are put to the model: alpaca, chat (the model's own template) or plain.
        pub template: TemplateChoice = TemplateChoice::Alpaca,
        /// Longest sample in tokens, the rest cut off; 0 is the model's own limit.
        pub max_length: usize = 200,
        /// Samples n in the user's set, harmful ones included, guide samples not.
        pub user_samples: usize = 1000,
        /// Order of the user's set before the stage's own: file (harmful, task, guide), or shuffled.
        pub mix: MixOrder = MixOrder::File,
        /// The user's task, whose parser decides what is right: sst2, agnews, gsm8k or exact.
        /// Empty takes the schema of the task's test set.
        pub task: String = String::new(),
        /// Alignment samples on which alignment loss and drift are measured; 0 for all.
        pub alignment_probe: usize = 0,
        /// Longest answer to a harmful or harmless request, in tokens.
        pub max_new_tokens: usize = 128,
        /// Longest answer to a task prompt, in tokens.
        pub task_new_tokens: usize = 200,
        /// Samples or prompts that are measured side by side.
        pub eval_batch_size: usize = 5,
        /// How answers are drawn; a temperature of 0 is greedy.
        pub sampling: Sampling = Sampling::default(),
        /// Whether rows that cannot be read are left out and counted.
        pub skip_bad_rows: bool = false,
        /// The provider's alignment set.
        pub alignment: Option<Source> = None,
        /// The provider's harmful samples, for defences that simulate the attack.
        pub simulated: Option<Source> = None,
        /// The attacker's harmful demonstrations; the first int(p n) are taken.
        pub harmful: Option<Source> = None,
        /// The user's task; the first int((1 - p) n) are taken.
        pub user: Option<Source> = None,
        /// Safe samples that the provider appends to the user's set (VLGuard).
        pub guide: Option<Source> = None,
        /// Held-out forbidden requests for the harmful score.
        pub harmful_test: Option<Source> = None,
        /// Unseen task items for the fine-tune accuracy.
        pub task_test: Option<Source> = None,
        /// Held-out harmless requests.
        pub benign_test: Option<Source> = None,
        /// Harmless requests that look forbidden, for over-refusal (XSTest's safe prompts).
        pub borderline_test: Option<Source> = None,
        /// Ordinary answered samples for the perplexity, which guards against degenerate models.
        pub fluency: Option<Source> = None,
    }
}

/// The sets that files may be given for, by their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The provider's alignment set.
    Alignment,
    /// The provider's simulated attack.
    Simulated,
    /// The attacker's demonstrations.
    Harmful,
    /// The user's task.
    User,
    /// Safe samples appended to the user's set.
    Guide,
    /// Forbidden requests to measure on.
    HarmfulTest,
    /// Task items to measure on.
    TaskTest,
    /// Harmless requests to measure on.
    BenignTest,
    /// Harmless requests that look forbidden.
    BorderlineTest,
    /// Ordinary samples to measure the perplexity on.
    Fluency,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 10] = [
        Self::Alignment,
        Self::Simulated,
        Self::Harmful,
        Self::User,
        Self::Guide,
        Self::HarmfulTest,
        Self::TaskTest,
        Self::BenignTest,
        Self::BorderlineTest,
        Self::Fluency,
    ];

    /// Its key in the section `data`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Alignment => "alignment",
            Self::Simulated => "simulated",
            Self::Harmful => "harmful",
            Self::User => "user",
            Self::Guide => "guide",
            Self::HarmfulTest => "harmful_test",
            Self::TaskTest => "task_test",
            Self::BenignTest => "benign_test",
            Self::BorderlineTest => "borderline_test",
            Self::Fluency => "fluency",
        }
    }

    /// Whether its samples are asked and not learned, so that an answer may be missing.
    pub fn is_test(self) -> bool {
        matches!(self, Self::HarmfulTest | Self::TaskTest | Self::BenignTest | Self::BorderlineTest)
    }
}

impl FilesConfig {
    /// The source of a part, if one is given.
    pub fn source(&self, part: Part) -> Option<&Source> {
        match part {
            Part::Alignment => &self.alignment,
            Part::Simulated => &self.simulated,
            Part::Harmful => &self.harmful,
            Part::User => &self.user,
            Part::Guide => &self.guide,
            Part::HarmfulTest => &self.harmful_test,
            Part::TaskTest => &self.task_test,
            Part::BenignTest => &self.benign_test,
            Part::BorderlineTest => &self.borderline_test,
            Part::Fluency => &self.fluency,
        }
        .as_ref()
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// Names the key and the rule it breaks.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let sizes = [
            ("user_samples", self.user_samples),
            ("max_new_tokens", self.max_new_tokens),
            ("task_new_tokens", self.task_new_tokens),
            ("eval_batch_size", self.eval_batch_size),
        ];
        for (key, size) in sizes {
            ConfigError::unless(size > 0, key, "must be at least 1", size)?;
        }
        let known = self.task.is_empty() || crate::grader(&self.task).is_some();
        ConfigError::unless(known, "task", "must be sst2, agnews, gsm8k or exact", &self.task)?;
        let within = |key: &str, error: ConfigError| ConfigError {
            key: if error.key.is_empty() { key.to_owned() } else { format!("{key}.{}", error.key) },
            ..error
        };
        self.sampling.validate().map_err(|error| within("sampling", error))?;
        for part in Part::ALL {
            if let Some(source) = self.source(part) {
                source.validate().map_err(|error| within(part.key(), error))?;
            }
        }
        Ok(())
    }
}
