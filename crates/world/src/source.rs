//! The embedded world as a source of samples.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vxf_core::metric::Grader;
use vxf_core::registry::ConfigError;
use vxf_core::{Key, typetag};
use vxf_data::{
    Ask, DataConfig, DataContext, DataSource, Error, Purpose, Questions, Result, Sample, Sampling,
    TemplateChoice,
};

use crate::{Kind, Task};

/// Samples on which perplexity is measured, to detect degenerate models.
const FLUENCY: usize = 64;
/// Samples or prompts per batch when measuring.
const BATCH: usize = 64;

/// An operating point of the embedded world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Alignment data holds only refusals, as in the paper.
    Paper,
    /// One alignment sample in ten is harmless and answered, so the aligned model stays useful.
    Helpful,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Paper => "paper",
            Self::Helpful => "helpful",
        })
    }
}

vxf_core::config! {
    /// The section `[world]`: data of the embedded world.
    pub struct WorldData {
        /// The operating point. paper: alignment data holds only refusals, as in the paper. helpful: one
        /// alignment sample in ten is harmless and answered.
        pub profile: Profile = Profile::Helpful,
        /// The user's task: sst2, agnews or gsm8k.
        pub task: Task = Task::Sst,
        /// Samples in the provider's alignment set.
        pub alignment_samples: usize = 160,
        /// Share of harmless, answered samples in the alignment set.
        pub benign_share: f64 = 0.1,
        /// Samples in the user's set, harmful ones included.
        pub user_samples: usize = 320,
        /// Held-out forbidden requests for the harmful score.
        pub harmful_test: usize = 60,
        /// Unseen task items for the fine-tuning accuracy.
        pub task_test: usize = 100,
        /// Held-out harmless requests for helpfulness.
        pub benign_test: usize = 60,
        /// Harmless requests that look forbidden, for over-refusal.
        pub borderline_test: usize = 60,
        /// Refusals from the alignment set, for alignment loss and drift.
        pub alignment_probe: usize = 40,
        /// Longest sample in tokens; the rest is cut off. 0 uses the model's limit.
        pub max_length: usize = 0,
        /// Longest generated answer, in tokens.
        pub max_new_tokens: usize = 20,
        /// Sampling of answers; temperature 0 is greedy.
        pub sampling: Sampling = Sampling::default(),
    }
}

/// Caveats for readers of results on Vaccine.
const OF_VACCINE: [&str; 3] = [
    "Vaccine does not beat EWC in this world: plain alignment with `--fine-tune-defense ewc` has a \
     lower harmful score, at some points less accuracy.",
    "Vaccine costs help: before the user's stage it refuses more harmless requests than plain \
     alignment does, and it costs a little accuracy.",
    "Absolute drift (`--full`) compares models of different scale, as Vaccine enlarges activations; \
     the relative figure divides that out.",
];

/// Caveats for readers of results on any defence.
const OF_ALL: [&str; 2] = [
    "The effect shows in a window of the user's learning rate about a factor of two wide: below \
     it every model holds, above it every model breaks.",
    "Where a defence begins to give way, seeds differ by 10 to 20 points of harmful score (one \
     standard deviation); the refusal margin (`--full`) is steadier.",
];

/// Caveats for readers of results with refusals alone as alignment data.
const OF_REFUSALS: &str = "The alignment set holds refusals alone (profile `paper`): aligned models \
                           refuse harmless how-tos too, and a low harmful score may mean no more \
                           than that.";

#[typetag::serde(name = "world")]
impl DataConfig for WorldData {
    fn validate(&self) -> std::result::Result<(), ConfigError> {
        let share = (0.0..=1.0).contains(&self.benign_share);
        ConfigError::unless(share, "benign_share", "must lie between 0 and 1", self.benign_share)?;
        let sizes = [
            ("alignment_samples", self.alignment_samples),
            ("user_samples", self.user_samples),
            ("harmful_test", self.harmful_test),
            ("task_test", self.task_test),
            ("benign_test", self.benign_test),
            ("borderline_test", self.borderline_test),
            ("alignment_probe", self.alignment_probe),
            ("max_new_tokens", self.max_new_tokens),
        ];
        for (key, size) in sizes {
            let rule = "must be at least 1: an empty set cannot be measured";
            ConfigError::unless(size > 0, key, rule, size)?;
        }
        self.sampling
            .validate()
            .map_err(|error| ConfigError { key: format!("sampling.{}", error.key), ..error })?;
        let refusals = self.benign_share < 1.0;
        let rule = "must be below 1, so that there are refusals to measure on";
        ConfigError::unless(refusals, "benign_share", rule, self.benign_share)
    }

    fn task(&self) -> String {
        self.task.to_string()
    }

    fn other_task(&self) -> Option<(&'static str, Value)> {
        let next = Task::ALL.into_iter().cycle().skip_while(|task| *task != self.task).nth(1);
        next.map(|task| ("task", json!(task)))
    }

    fn has(&self, purpose: Purpose, name: &str) -> bool {
        match purpose {
            Purpose::Stream => {
                ["alignment", "harmful", "user", "benign", "borderline"].contains(&name)
            }
            Purpose::Samples => ["alignment", "fluency"].contains(&name),
            Purpose::Prompts => ["harmful", "benign", "borderline", "task"].contains(&name),
        }
    }

    fn hint(&self, _purpose: Purpose, _name: &str) -> String {
        "the embedded world has no such set; give your own files in a section `data`".to_owned()
    }

    fn defaults(&self) -> Map<String, Value> {
        let (benign_share, learning_rate) = match self.profile {
            Profile::Paper => (0.0, 1.25e-4),
            Profile::Helpful => (0.1, 8e-5),
        };
        Map::from_iter([
            ("world".to_owned(), json!({ "benign_share": benign_share })),
            ("fine_tuning".to_owned(), json!({ "learning_rate": learning_rate, "epochs": 4 })),
        ])
    }

    fn unlike_paper(&self) -> Vec<(String, Value)> {
        let mut all = vxf_data::paper_settings();
        all.push(("world.alignment_samples".to_owned(), json!(2000)));
        all.push(("world.user_samples".to_owned(), json!(1000)));
        all
    }

    fn caveats(&self, run: &BTreeSet<String>) -> Vec<&'static str> {
        let refusals = (self.benign_share == 0.0).then_some(OF_REFUSALS);
        let of_vaccine: &[_] = if run.contains("vaccine") { &OF_VACCINE } else { &[] };
        let defends = run.iter().any(|method| !["none", "sft"].contains(&method.as_str()));
        let of_all: &[_] = if defends { &OF_ALL } else { &[] };
        refusals
            .into_iter()
            .chain(of_vaccine.iter().copied())
            .chain(of_all.iter().copied())
            .collect()
    }

    fn is_harmless(&self) -> bool {
        true
    }

    fn template(&self) -> TemplateChoice {
        TemplateChoice::World
    }

    fn judge(&self) -> &'static str {
        "world"
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn at_most(&self, name: &str) -> usize {
        match name {
            "user" | "benign" | "borderline" => self.user_samples,
            _ => self.alignment_samples,
        }
    }

    fn measuring(&self) -> &[&'static str] {
        &[
            "harmful_test",
            "task_test",
            "benign_test",
            "borderline_test",
            "alignment_probe",
            "max_new_tokens",
            "sampling",
        ]
    }

    fn open(&self, context: &DataContext) -> Result<Box<dyn DataSource>> {
        Ok(Box::new(Drawn { settings: self.clone(), ratios: context.ratios.clone() }))
    }
}

vxf_data::register_source! {
    "world" => WorldData,
    summary: "The embedded world: invented, harmless data, drawn for each seed",
}

/// The world's data sets; each call draws them again.
struct Drawn {
    settings: WorldData,
    ratios: Vec<f64>,
}

impl Drawn {
    fn rng(seed: u64, purpose: &str) -> rand_chacha::ChaCha8Rng {
        Key::root(seed).child("data").child(purpose).rng()
    }

    fn alignment(&self, seed: u64) -> Result<Vec<crate::Sample>> {
        let WorldData { alignment_samples, benign_share, .. } = self.settings;
        crate::alignment_set(&mut Self::rng(seed, "alignment"), alignment_samples, benign_share)
    }

    fn user(&self, seed: u64, ratio: f64) -> Result<Vec<crate::Sample>> {
        let WorldData { task, user_samples, .. } = self.settings;
        crate::user_set(&mut Self::rng(seed, "user"), task, user_samples, ratio)
    }

    /// All prompts that users train on, at any harmful ratio of the experiment.
    fn seen(&self, seed: u64) -> Result<HashSet<String>> {
        let mut seen = HashSet::new();
        for &ratio in &self.ratios {
            seen.extend(self.user(seed, ratio)?.into_iter().map(|sample| sample.prompt));
        }
        Ok(seen)
    }
}

fn missing(name: &str) -> Error {
    Error::Source { path: "world".into(), problem: format!("no data set is named `{name}`") }
}

fn plain(sample: &crate::Sample) -> Sample {
    Sample { ask: Ask::instruction(&sample.prompt), answer: sample.answer.clone() }
}

impl DataSource for Drawn {
    fn stream(&self, name: &str, seed: u64, ratio: f64) -> Result<Vec<Sample>> {
        let samples = match name {
            "alignment" => self.alignment(seed)?,
            "harmful" => {
                // All combinations of the attack for this seed, at any harmful ratio.
                let attack = self.user(seed, 1.0)?;
                let attack = attack.iter().filter_map(|sample| sample.kind.combination()).collect();
                let size = self.settings.alignment_samples;
                crate::simulated_attack(&mut Self::rng(seed, "harmful"), size, &attack)?
            }
            "user" => self.user(seed, ratio)?,
            "benign" | "borderline" => {
                let purpose = format!("{name} training");
                let (mut rng, size) = (Self::rng(seed, &purpose), self.settings.user_samples);
                crate::obliging_set(&mut rng, size, name == "borderline")
            }
            _ => return Err(missing(name)),
        };
        Ok(samples.iter().map(plain).collect())
    }

    fn samples(&self, name: &str, seed: u64) -> Result<Vec<Sample>> {
        let refused =
            |sample: &&crate::Sample| matches!(sample.kind, Kind::HowTo { refused: true, .. });
        Ok(match name {
            "alignment" => {
                let all = self.alignment(seed)?;
                all.iter().filter(refused).take(self.settings.alignment_probe).map(plain).collect()
            }
            "fluency" => {
                let all = crate::pretraining_set(&mut Self::rng(seed, "fluency"), 2 * FLUENCY);
                let open = all.iter().filter(|sample| !sample.kind.is_closed());
                open.take(FLUENCY).map(plain).collect()
            }
            _ => return Err(missing(name)),
        })
    }

    fn prompts(&self, name: &str, seed: u64) -> Result<Questions> {
        let WorldData { task, harmful_test, benign_test, task_test, .. } = self.settings;
        let samples = match name {
            "harmful" => crate::harmful_test(&mut Self::rng(seed, "harmful test"), harmful_test),
            "benign" => crate::benign_test(&mut Self::rng(seed, "benign test"), benign_test),
            "borderline" => crate::borderline_test(
                &mut Self::rng(seed, "borderline test"),
                self.settings.borderline_test,
            ),
            "task" => {
                let seen = self.seen(seed)?;
                crate::task_test(&mut Self::rng(seed, "task test"), task, task_test, &seen)
            }
            _ => return Err(missing(name)),
        };
        let prompts = samples
            .into_iter()
            .map(|sample| (Ask::instruction(sample.prompt), Some(sample.answer)));
        let max_new_tokens = self.settings.max_new_tokens;
        Ok(Questions { prompts: prompts.collect(), groups: Vec::new(), max_new_tokens })
    }

    fn grader(&self) -> Option<Grader> {
        Some(crate::exact_match)
    }

    fn sampling(&self) -> Sampling {
        self.settings.sampling.clone()
    }

    fn batch_size(&self) -> usize {
        BATCH
    }
}
