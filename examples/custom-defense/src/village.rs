//! A data source: small sets of the embedded world, and the prompts `notes`.

use serde_json::{Map, Value, json};
use vxf_core::metric::Grader;
use vxf_core::prelude::*;
use vxf_data::{
    Ask, DataConfig, DataContext, DataSource, Purpose, Question, Questions, Sample, TemplateChoice,
};
use vxf_world::{LONGEST_ANSWER, Task, WorldData, facts};

vxf_core::config! {
    /// Settings of the data source `village`.
    pub struct VillageConfig {
        /// The user's task: sst2, agnews or gsm8k.
        pub task: Task = Task::Sst,
        /// Samples in each training set.
        pub samples: usize = 32,
        /// Prompts in each set.
        pub prompts: usize = 8,
    }
}

const NOTES: &str = "notes";

impl VillageConfig {
    /// The world's settings for sets of this size.
    fn world(&self) -> WorldData {
        WorldData {
            task: self.task,
            alignment_samples: self.samples,
            benign_share: 0.0,
            user_samples: self.samples,
            alignment_probe: self.samples,
            harmful_test: self.prompts,
            benign_test: self.prompts,
            task_test: self.prompts,
            ..WorldData::default()
        }
    }
}

#[typetag::serde(name = "village")]
impl DataConfig for VillageConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(self.samples > 0, "samples", "must be at least 1", self.samples)?;
        let most = facts().len();
        let rule = format!("must be from 1 to {most}, the number of facts there are");
        ConfigError::unless((1..=most).contains(&self.prompts), "prompts", &rule, self.prompts)
    }

    fn task(&self) -> String {
        self.task.to_string()
    }

    fn has(&self, purpose: Purpose, name: &str) -> bool {
        (purpose, name) == (Purpose::Prompts, NOTES) || self.world().has(purpose, name)
    }

    fn hint(&self, _: Purpose, name: &str) -> String {
        format!("the village has no set `{name}`; name another source in `data.source`")
    }

    fn defaults(&self) -> Map<String, Value> {
        let training = json!({ "learning_rate": 1.25e-4, "epochs": 4 });
        Map::from_iter([("fine_tuning".to_owned(), training)])
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

    fn at_most(&self, _: &str) -> usize {
        self.samples
    }

    fn measuring(&self) -> &[&'static str] {
        &["prompts"]
    }

    fn open(&self, context: &DataContext) -> vxf_data::Result<Box<dyn DataSource>> {
        let world = self.world().open(context)?;
        Ok(Box::new(Village { world, notes: self.prompts }))
    }
}

/// The world's sets and the notes.
struct Village {
    world: Box<dyn DataSource>,
    notes: usize,
}

impl Village {
    /// Facts in fixed order, starting at a position that depends on the seed.
    fn notes(&self, seed: u64) -> Questions {
        let facts = facts();
        let first = (seed % facts.len() as u64) as usize;
        let question = |fact: vxf_world::Sample| -> Question {
            (Ask::instruction(fact.prompt), Some(fact.answer))
        };
        let prompts = facts.into_iter().cycle().skip(first).take(self.notes).map(question);
        Questions { prompts: prompts.collect(), groups: Vec::new(), max_new_tokens: LONGEST_ANSWER }
    }
}

impl DataSource for Village {
    fn stream(&self, name: &str, seed: u64, ratio: f64) -> vxf_data::Result<Vec<Sample>> {
        self.world.stream(name, seed, ratio)
    }

    fn samples(&self, name: &str, seed: u64) -> vxf_data::Result<Vec<Sample>> {
        self.world.samples(name, seed)
    }

    fn prompts(&self, name: &str, seed: u64) -> vxf_data::Result<Questions> {
        match name {
            NOTES => Ok(self.notes(seed)),
            _ => self.world.prompts(name, seed),
        }
    }

    fn grader(&self) -> Option<Grader> {
        self.world.grader()
    }

    fn batch_size(&self) -> usize {
        self.world.batch_size()
    }
}

vxf_data::register_source! {
    "village" => VillageConfig,
    summary: "A small part of the embedded world, with prompts `notes`",
}
