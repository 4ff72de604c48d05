//! The user's files as a data source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};
use vxf_core::metric::Grader;
use vxf_core::registry::ConfigError;
use vxf_core::{Key, typetag};

use super::settings::{FilesConfig, Part, TrainOn};
use super::{DataConfig, DataContext, DataSource, Learned, Purpose, Questions};
use crate::{DataReport, Error, Loaded, Result, Sample, Sampling, SetReport, TemplateChoice, mix};

/// The part of the section `data` that provides the set `name`.
fn part(purpose: Purpose, name: &str) -> Option<Part> {
    match (purpose, name) {
        (Purpose::Stream, "alignment") | (Purpose::Samples, "alignment") => Some(Part::Alignment),
        (Purpose::Stream, "harmful") => Some(Part::Simulated),
        (Purpose::Stream, "guide") => Some(Part::Guide),
        (Purpose::Samples, "fluency") => Some(Part::Fluency),
        (Purpose::Prompts, "harmful") => Some(Part::HarmfulTest),
        (Purpose::Prompts, "benign") => Some(Part::BenignTest),
        (Purpose::Prompts, "borderline") => Some(Part::BorderlineTest),
        (Purpose::Prompts, "task") => Some(Part::TaskTest),
        _ => None,
    }
}

/// The stream of the user's training data, which is mixed from several parts.
const USER: &str = "user";

#[typetag::serde(name = "files")]
impl DataConfig for FilesConfig {
    fn validate(&self) -> std::result::Result<(), ConfigError> {
        self.check()
    }

    fn task(&self) -> String {
        if !self.task.is_empty() {
            return self.task.clone();
        }
        let path = self.user.as_ref().map_or("data", |source| source.path.as_str());
        let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
        name.split('.').next().unwrap_or(name).to_lowercase()
    }

    fn has(&self, purpose: Purpose, name: &str) -> bool {
        match (purpose, name) {
            (Purpose::Stream, USER) => self.harmful.is_some() || self.user.is_some(),
            _ => part(purpose, name).is_some_and(|part| self.source(part).is_some()),
        }
    }

    fn has_user(&self, ratio: f64) -> std::result::Result<(), String> {
        let missing = |part: Part| format!("`data.{}` is not set", part.key());
        match (&self.harmful, &self.user) {
            (None, _) if ratio > 0.0 => Err(missing(Part::Harmful)),
            (_, None) if ratio < 1.0 => Err(missing(Part::User)),
            _ => Ok(()),
        }
    }

    fn hint(&self, purpose: Purpose, name: &str) -> String {
        match part(purpose, name) {
            Some(part) => format!("`data.{}` is not set", part.key()),
            None => format!("the source `files` has no set `{name}`"),
        }
    }

    fn defaults(&self) -> Map<String, Value> {
        paper()
    }

    fn template(&self) -> TemplateChoice {
        self.template
    }

    fn train_on(&self) -> TrainOn {
        self.train_on
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn at_most(&self, name: &str) -> usize {
        let take = |part: Part| self.source(part).map_or(0, |source| source.take);
        match name {
            USER => self.user_samples + take(Part::Guide),
            name => part(Purpose::Stream, name).map_or(0, take),
        }
    }

    fn measuring(&self) -> &[&'static str] {
        &[
            "alignment_probe",
            "max_new_tokens",
            "task_new_tokens",
            "eval_batch_size",
            "sampling",
            "task",
            "harmful_test",
            "task_test",
            "benign_test",
            "borderline_test",
            "fluency",
        ]
    }

    fn open(&self, context: &DataContext) -> Result<Box<dyn DataSource>> {
        let files = Files {
            settings: self.clone(),
            context: context.clone(),
            fixed: Mutex::default(),
            drawn: Mutex::default(),
        };
        for part in Part::ALL {
            files.part(part, 0)?;
        }
        Ok(Box::new(files))
    }
}

crate::register_source! {
    "files" => FilesConfig,
    summary: "Your own files (JSON lines, JSON, Parquet), or data sets of the hub",
}

/// The training settings of the paper, used unless a recipe sets others.
///
/// The alignment adapter's alpha is 4 in the paper's experiments and 1 in the current code.
pub fn paper() -> Map<String, Value> {
    let stage = |alpha: f64, rate: f64, epochs: u64| {
        json!({
            "trainable": { "type": "lora", "rank": 8, "alpha": alpha, "dropout": 0.1 },
            "learning_rate": rate, "epochs": epochs, "batch_size": 5, "weight_decay": 0.1,
        })
    };
    Map::from_iter([
        ("alignment".to_owned(), stage(4.0, 1e-3, 50)),
        ("fine_tuning".to_owned(), stage(1.0, 1e-5, 20)),
    ])
}

/// The same as keys with values, for sources whose own defaults differ.
pub fn paper_settings() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (section, settings) in paper() {
        for (key, value) in settings.as_object().into_iter().flatten() {
            all.push((format!("{section}.{key}"), value.clone()));
        }
    }
    all
}

type Parts = BTreeMap<(Part, u64), Arc<Loaded>>;

/// The user's files. Each is read once, or once per seed if it is shuffled.
pub struct Files {
    settings: FilesConfig,
    context: DataContext,
    fixed: Mutex<BTreeMap<Part, Arc<Loaded>>>,
    drawn: Mutex<Parts>,
}

impl Files {
    fn key(seed: u64) -> Key {
        Key::root(seed).child("data")
    }

    /// The samples of `part` for `seed`, if the part is set.
    fn part(&self, part: Part, seed: u64) -> Result<Option<Arc<Loaded>>> {
        let Some(source) = self.settings.source(part) else { return Ok(None) };
        // Other threads wait here while one loads the file, so that it is loaded once.
        let mut fixed = self.fixed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match source.shuffle {
            true => drawn.get(&(part, seed)),
            false => fixed.get(&part),
        };
        if let Some(known) = known {
            return Ok(Some(known.clone()));
        }
        let within = |source: Error| Error::Part { part: part.key(), source: Box::new(source) };
        let repository = self.context.locate.dataset(source).map_err(within)?;
        let mut rng = Self::key(seed).child(part.key()).rng();
        let skips = self.settings.skip_bad_rows;
        let (usage, check) = (part.usage(), self.context.check.as_deref());
        let loaded = source.read(&*repository, usage, skips, check, &mut rng).map_err(within)?;
        let loaded = Arc::new(loaded);
        match source.shuffle {
            true => drawn.insert((part, seed), loaded.clone()),
            false => fixed.insert(part, loaded.clone()),
        };
        Ok(Some(loaded))
    }

    fn all(&self, part: Part, seed: u64) -> Result<Vec<Sample>> {
        Ok(self.part(part, seed)?.map(|loaded| loaded.samples.clone()).unwrap_or_default())
    }

    fn user(&self, seed: u64, ratio: f64) -> Result<Vec<Sample>> {
        let mut rng = Self::key(seed).child("mix").rng();
        mix(
            &self.all(Part::Harmful, seed)?,
            &self.all(Part::User, seed)?,
            &self.all(Part::Guide, seed)?,
            self.settings.user_samples,
            ratio,
            self.settings.mix,
            &mut rng,
        )
    }

    fn missing(&self, purpose: Purpose, name: &str) -> Error {
        let problem = format!("no set `{name}`: {}", self.settings.hint(purpose, name));
        Error::Source { path: "data".into(), problem }
    }
}

impl DataSource for Files {
    fn stream(&self, name: &str, seed: u64, ratio: f64) -> Result<Vec<Sample>> {
        match (name, part(Purpose::Stream, name)) {
            (USER, _) => self.user(seed, ratio),
            (_, Some(part)) => self.all(part, seed),
            (_, None) => Err(self.missing(Purpose::Stream, name)),
        }
    }

    fn samples(&self, name: &str, seed: u64) -> Result<Vec<Sample>> {
        let part = part(Purpose::Samples, name);
        let part = part.ok_or_else(|| self.missing(Purpose::Samples, name))?;
        let mut samples = self.all(part, seed)?;
        if part == Part::Alignment && self.settings.alignment_probe > 0 {
            samples.truncate(self.settings.alignment_probe);
        }
        Ok(samples)
    }

    fn prompts(&self, name: &str, seed: u64) -> Result<Questions> {
        let part = part(Purpose::Prompts, name);
        let part = part.ok_or_else(|| self.missing(Purpose::Prompts, name))?;
        let task = part == Part::TaskTest;
        let loaded = self.part(part, seed)?;
        let groups = loaded.map(|loaded| loaded.groups.clone()).unwrap_or_default();
        let prompts = self.all(part, seed)?.into_iter().map(|sample| {
            // Only task prompts have an expected answer.
            (sample.ask, task.then_some(sample.answer))
        });
        let max_new_tokens = match task {
            true => self.settings.task_new_tokens,
            false => self.settings.max_new_tokens,
        };
        Ok(Questions { prompts: prompts.collect(), groups, max_new_tokens })
    }

    fn grader(&self) -> Option<Grader> {
        match self.settings.task.as_str() {
            "" => self.part(Part::TaskTest, 0).ok().flatten()?.schema.grader(),
            task => crate::grader(task),
        }
    }

    fn sampling(&self) -> Sampling {
        self.settings.sampling.clone()
    }

    fn batch_size(&self) -> usize {
        self.settings.eval_batch_size
    }

    fn warnings(&self) -> Vec<String> {
        let fixed = self.fixed.lock().unwrap_or_else(PoisonError::into_inner);
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let fixed = fixed.iter().map(|(part, loaded)| (*part, loaded));
        let drawn = drawn.iter().map(|((part, _), loaded)| (*part, loaded));
        let mut warnings = Vec::new();
        for (part, loaded) in fixed.chain(drawn) {
            let report = SetReport::of(part.key(), &loaded.samples, Some(loaded));
            warnings.extend(DataReport::of(vec![(report, &loaded.samples)]).warnings);
        }
        warnings
    }

    fn report(
        &self,
        seed: u64,
        learned: &dyn Fn(&str, f64) -> Option<Learned>,
    ) -> Result<Option<DataReport>> {
        let with = |report: SetReport, set: Option<Learned>| match set {
            Some(set) => report.with_examples(&set.examples, set.truncated, set.dropped),
            None => report,
        };
        let mut sets = Vec::new();
        for part in Part::ALL {
            let Some(loaded) = self.part(part, seed)? else { continue };
            let report = SetReport::of(part.key(), &loaded.samples, Some(&loaded));
            let report = match part {
                Part::Alignment => with(report, learned("alignment", 0.0)),
                Part::Simulated => with(report, learned("harmful", 0.0)),
                _ => report,
            };
            sets.push((report, loaded.samples.clone()));
        }
        for &ratio in &self.context.ratios {
            let samples = self.user(seed, ratio)?;
            let name = format!("user at p = {ratio}");
            let parts = [Part::Harmful, Part::User, Part::Guide].map(Part::key);
            let report = SetReport::of(&name, &samples, None).made_of(&parts);
            sets.push((with(report, learned(USER, ratio)), samples));
        }
        let sets = sets.iter().map(|(report, samples)| (report.clone(), samples.as_slice()));
        Ok(Some(DataReport::of(sets.collect())))
    }
}
