//! The section `[data]`: the user's files.

use serde::{Deserialize, Serialize};
use vxf_core::registry::ConfigError;

use crate::{MixOrder, Sampling, Source, TemplateChoice, Use};

vxf_core::config! {
    /// The section `[data]`: your own files in place of the embedded world.
    pub struct FilesConfig {
        /// The template around prompts: alpaca, chat (the model's chat template) or plain.
        pub template: TemplateChoice = TemplateChoice::Alpaca,
        /// Answers of a conversation that are trained on: the last one, or all.
        pub train_on: TrainOn = TrainOn::Last,
        /// Longest sample in tokens; the rest is cut off. 0 uses the model's limit.
        pub max_length: usize = 200,
        /// Samples n in the user's set: task samples and harmful ones, without guide samples.
        pub user_samples: usize = 1000,
        /// Order of the user's set: file (harmful, task, guide) or shuffled. The stage's own `order`
        /// is applied after it.
        pub mix: MixOrder = MixOrder::File,
        /// The user's task, whose grader decides which answers are correct: sst2, agnews, gsm8k or
        /// exact. If empty, the schema of `task_test` decides.
        pub task: String = String::new(),
        /// Alignment samples for alignment loss and drift; 0 uses all.
        pub alignment_probe: usize = 0,
        /// Longest answer to a harmful or harmless request, in tokens.
        pub max_new_tokens: usize = 128,
        /// Longest answer to a task prompt, in tokens.
        pub task_new_tokens: usize = 200,
        /// Samples or prompts per batch when measuring.
        pub eval_batch_size: usize = 5,
        /// Sampling of answers; temperature 0 is greedy.
        pub sampling: Sampling = Sampling::default(),
        /// Skip invalid rows and count them, instead of an error.
        pub skip_bad_rows: bool = false,
        /// The provider's alignment set.
        pub alignment: Option<Source> = None,
        /// The provider's harmful samples, for defences that simulate the attack.
        pub simulated: Option<Source> = None,
        /// The attacker's harmful samples; the first int(p n) are used.
        pub harmful: Option<Source> = None,
        /// The user's task samples; the first int((1 - p) n) are used.
        pub user: Option<Source> = None,
        /// Safe samples that the provider appends to the user's set (VLGuard).
        pub guide: Option<Source> = None,
        /// Held-out forbidden requests for the harmful score.
        pub harmful_test: Option<Source> = None,
        /// Unseen task items for the fine-tuning accuracy.
        pub task_test: Option<Source> = None,
        /// Held-out harmless requests for helpfulness.
        pub benign_test: Option<Source> = None,
        /// Harmless requests that look forbidden, for over-refusal (XSTest's safe prompts).
        pub borderline_test: Option<Source> = None,
        /// Ordinary samples with answers, for the perplexity.
        pub fluency: Option<Source> = None,
    }
}

/// Which answers of a conversation are trained on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// The last one; earlier ones are part of its prompt.
    #[default]
    Last,
    /// All of them, with a chat template.
    All,
}

/// A set that a file can provide.
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

    /// What its rows are for.
    pub fn usage(self) -> Use {
        match self {
            Self::HarmfulTest | Self::BenignTest | Self::BorderlineTest => Use::Asked,
            Self::TaskTest => Use::Graded,
            _ => Use::Trained,
        }
    }
}

impl FilesConfig {
    /// The source of a part, if it is set.
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
