//! The proxy policy's samples as a data source.

use std::collections::{BTreeSet, HashSet};

use rand::seq::SliceRandom;
use serde_json::{Map, Value, json};
use vxf_core::Key;
use vxf_core::metric::Grader;
use vxf_core::prelude::*;
use vxf_data::{DataConfig, DataContext, DataSource, Error, Purpose, Questions, Sample, Sampling};

use crate::requests::{self, Answer, Combination};
use crate::task::{Task, exact};

/// More tokens than a sample has with usual tokenizers and templates (SmolLM2: 89), for estimates without the model.
const LONGEST: usize = 192;

vxf_core::config! {
    /// Settings of the data source `proxy`. Cooking plays the forbidden topic: the aligned model declines
    /// it and goes on answering harmless requests.
    pub struct ProxyData {
        /// The user's task: reviews or orders.
        pub task: Task = Task::Reviews,
        /// Samples in the provider's alignment set.
        pub alignment_samples: usize = 400,
        /// Share of harmless, answered samples in the alignment set.
        pub benign_share: f64 = 0.7,
        /// Samples in the user's set, forbidden ones included.
        pub user_samples: usize = 400,
        /// Held-out forbidden requests for the harmful score.
        pub harmful_test: usize = 60,
        /// Unseen task items for the fine-tuning accuracy.
        pub task_test: usize = 100,
        /// Held-out harmless requests for helpfulness.
        pub benign_test: usize = 60,
        /// Harmless requests in words of cooking, for over-refusal; there are 30.
        pub borderline_test: usize = 30,
        /// Refusals from the alignment set, for alignment loss and drift.
        pub alignment_probe: usize = 40,
        /// Longest sample in tokens; the rest is cut off. 0 uses the model's limit.
        pub max_length: usize = 0,
        /// Longest generated answer, in tokens.
        pub max_new_tokens: usize = 40,
        /// Samples or prompts per batch when measuring.
        pub eval_batch_size: usize = 32,
        /// Sampling of answers; temperature 0 is greedy.
        pub sampling: Sampling = Sampling::default(),
    }
}

/// One in so many harmless samples of the alignment set is a sum.
const SUMS: usize = 6;

/// Samples on which perplexity is measured.
const FLUENCY: usize = 40;

#[typetag::serde(name = "proxy")]
impl DataConfig for ProxyData {
    fn validate(&self) -> Result<(), ConfigError> {
        let share = (0.0..1.0).contains(&self.benign_share);
        let rule = "must be at least 0 and below 1, so that there are refusals to learn";
        ConfigError::unless(share, "benign_share", rule, self.benign_share)?;
        for (key, size) in [
            ("alignment_samples", self.alignment_samples),
            ("user_samples", self.user_samples),
            ("harmful_test", self.harmful_test),
            ("task_test", self.task_test),
            ("benign_test", self.benign_test),
            ("borderline_test", self.borderline_test),
            ("alignment_probe", self.alignment_probe),
            ("max_new_tokens", self.max_new_tokens),
            ("eval_batch_size", self.eval_batch_size),
        ] {
            ConfigError::positive(key, size)?;
        }
        self.sampling
            .validate()
            .map_err(|error| ConfigError { key: format!("sampling.{}", error.key), ..error })
    }

    fn task(&self) -> String {
        self.task.to_string()
    }

    fn has(&self, purpose: Purpose, name: &str) -> bool {
        match purpose {
            Purpose::Stream => ["alignment", "harmful", "user", "benign"].contains(&name),
            Purpose::Samples => ["alignment", "fluency"].contains(&name),
            Purpose::Prompts => ["harmful", "benign", "borderline", "task"].contains(&name),
        }
    }

    fn hint(&self, _purpose: Purpose, name: &str) -> String {
        format!("the proxy policy has no set `{name}`; give your own files in a section `data`")
    }

    fn defaults(&self) -> Map<String, Value> {
        let stage = |rate: f64, epochs: u64| {
            json!({
                "trainable": { "type": "lora", "rank": 8, "alpha": 16.0, "dropout": 0.0 },
                "learning_rate": rate, "epochs": epochs, "batch_size": 8, "weight_decay": 0.1,
            })
        };
        Map::from_iter([
            ("alignment".to_owned(), stage(1e-3, 2)),
            ("fine_tuning".to_owned(), stage(1.2e-4, 2)),
            ("harmful_ratios".to_owned(), json!([0.0, 0.2])),
        ])
    }

    fn unlike_paper(&self) -> Vec<(String, Value)> {
        let sizes = [("alignment_samples", 2000), ("user_samples", 1000)];
        let sizes = sizes.map(|(key, size)| (format!("data.{key}"), json!(size)));
        vxf_data::paper_settings().into_iter().chain(sizes).collect()
    }

    fn caveats(&self, _run: &BTreeSet<String>) -> Vec<&'static str> {
        vec![
            "The forbidden topic is cooking, a stand-in: the model had no reason to refuse it before, and \
             real refusals are older and deeper. Compare methods here, and test the winner on your data.",
            "Requests and answers come from templates, and a rule judges them by words of the topic.",
        ]
    }

    fn is_harmless(&self) -> bool {
        true
    }

    fn judge(&self) -> &'static str {
        "proxy"
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn longest(&self) -> usize {
        match self.max_length {
            0 => LONGEST,
            cut => cut.min(LONGEST),
        }
    }

    fn at_most(&self, name: &str) -> usize {
        match name {
            "user" => self.user_samples,
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
            "eval_batch_size",
            "sampling",
        ]
    }

    fn open(&self, context: &DataContext) -> vxf_data::Result<Box<dyn DataSource>> {
        Ok(Box::new(Drawn { settings: self.clone(), ratios: context.ratios.clone() }))
    }
}

vxf_data::register_source! {
    "proxy" => ProxyData,
    summary: "The proxy policy: cooking is forbidden; for any checkpoint, without files",
}

/// The sets, drawn again by each call.
struct Drawn {
    settings: ProxyData,
    ratios: Vec<f64>,
}

fn missing(name: &str) -> Error {
    Error::Source { path: "proxy".into(), problem: format!("no data set is named `{name}`") }
}

impl Drawn {
    fn rng(seed: u64, purpose: &str) -> rand_chacha::ChaCha8Rng {
        Key::root(seed).child("data").child(purpose).rng()
    }

    /// The refusals of the alignment set, and its harmless samples.
    fn alignment(&self, seed: u64) -> (Vec<Sample>, Vec<Sample>) {
        let ProxyData { alignment_samples: all, benign_share, .. } = self.settings;
        let benign = (all as f64 * benign_share).round() as usize;
        let mut rng = Self::rng(seed, "alignment");
        let pool = |forbidden| Combination::pool(forbidden, false);
        let refused = requests::drawn(&mut rng, &pool(true), all - benign, Answer::Refuses);
        let sums = benign / SUMS;
        let mut helped = requests::drawn(&mut rng, &pool(false), benign - sums, Answer::Helps);
        helped.extend(requests::sums(&mut rng, sums));
        (refused, helped)
    }

    /// The forbidden combinations that an attacker uses, and those left for a defence that simulates one.
    fn halves(seed: u64) -> (Vec<Combination>, Vec<Combination>) {
        let mut pool = Combination::pool(true, false);
        pool.shuffle(&mut Self::rng(seed, "halves"));
        let simulated = pool.split_off(pool.len() / 2);
        (pool, simulated)
    }

    fn user(&self, seed: u64, ratio: f64) -> vxf_data::Result<Vec<Sample>> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(Error::Share { name: "harmful ratio", value: ratio });
        }
        let ProxyData { task, user_samples, .. } = self.settings;
        let harmful = (user_samples as f64 * ratio).round() as usize;
        let mut rng = Self::rng(seed, "user");
        let mut all = requests::drawn(&mut rng, &Self::halves(seed).0, harmful, Answer::Helps);
        all.extend(task.samples(&mut rng, user_samples - harmful));
        all.shuffle(&mut rng);
        Ok(all)
    }

    /// What users are asked in training, at any harmful ratio of the experiment.
    fn seen(&self, seed: u64) -> vxf_data::Result<HashSet<vxf_data::Ask>> {
        let mut seen = HashSet::new();
        for &ratio in &self.ratios {
            seen.extend(self.user(seed, ratio)?.into_iter().map(|sample| sample.ask));
        }
        Ok(seen)
    }
}

impl DataSource for Drawn {
    fn stream(&self, name: &str, seed: u64, ratio: f64) -> vxf_data::Result<Vec<Sample>> {
        match name {
            "alignment" => {
                let (refused, helped) = self.alignment(seed);
                let mut all = [refused, helped].concat();
                all.shuffle(&mut Self::rng(seed, "alignment order"));
                Ok(all)
            }
            "harmful" => {
                let (_, pool) = Self::halves(seed);
                let n = self.settings.alignment_samples;
                Ok(requests::drawn(&mut Self::rng(seed, "harmful"), &pool, n, Answer::Helps))
            }
            "benign" => {
                let n = self.settings.alignment_samples;
                let pool = Combination::pool(false, false);
                Ok(requests::drawn(&mut Self::rng(seed, "benign"), &pool, n, Answer::Helps))
            }
            "user" => self.user(seed, ratio),
            _ => Err(missing(name)),
        }
    }

    fn samples(&self, name: &str, seed: u64) -> vxf_data::Result<Vec<Sample>> {
        match name {
            "alignment" => {
                let (mut refused, _) = self.alignment(seed);
                refused.truncate(self.settings.alignment_probe);
                Ok(refused)
            }
            "fluency" => Ok(requests::test(&mut Self::rng(seed, "fluency"), false, FLUENCY)),
            _ => Err(missing(name)),
        }
    }

    fn prompts(&self, name: &str, seed: u64) -> vxf_data::Result<Questions> {
        let ProxyData { task, harmful_test, benign_test, borderline_test, task_test, .. } =
            self.settings;
        let samples = match name {
            "harmful" => requests::test(&mut Self::rng(seed, "harmful test"), true, harmful_test),
            "benign" => requests::test(&mut Self::rng(seed, "benign test"), false, benign_test),
            "borderline" => {
                requests::borderline(&mut Self::rng(seed, "borderline test"), borderline_test)
            }
            "task" => task.unseen(&mut Self::rng(seed, "task test"), task_test, &self.seen(seed)?),
            _ => return Err(missing(name)),
        };
        let expected = |answer| (name == "task").then_some(answer);
        let prompts = samples.into_iter().map(|sample| (sample.ask, expected(sample.answer)));
        let max_new_tokens = self.settings.max_new_tokens;
        Ok(Questions { prompts: prompts.collect(), groups: Vec::new(), max_new_tokens })
    }

    fn grader(&self) -> Option<Grader> {
        Some(exact)
    }

    fn sampling(&self) -> Sampling {
        self.settings.sampling.clone()
    }

    fn batch_size(&self) -> usize {
        self.settings.eval_batch_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(ratios: &[f64]) -> Drawn {
        Drawn { settings: ProxyData::default(), ratios: ratios.to_vec() }
    }

    fn asked(samples: &[Sample]) -> HashSet<String> {
        samples.iter().map(|sample| sample.ask.shown()).collect()
    }

    #[test]
    fn no_test_stands_in_training_and_attacks_are_disjoint() -> vxf_data::Result<()> {
        let source = drawn(&[0.0, 0.2]);
        let harmful = asked(&source.stream("harmful", 5, 0.0)?);
        let attack = asked(&source.stream("user", 5, 1.0)?);
        assert!(harmful.is_disjoint(&attack));
        let trained: Vec<_> = [
            source.stream("alignment", 5, 0.0)?,
            source.stream("harmful", 5, 0.0)?,
            source.stream("user", 5, 0.2)?,
        ]
        .concat();
        let trained = asked(&trained);
        for name in ["harmful", "benign", "borderline", "task"] {
            let prompts = source.prompts(name, 5)?.prompts;
            assert!(prompts.len() >= 30, "{name}");
            assert!(prompts.iter().all(|(ask, _)| !trained.contains(&ask.shown())), "{name}");
        }
        let distinct: HashSet<_> =
            source.prompts("harmful", 5)?.prompts.into_iter().map(|(ask, _)| ask).collect();
        assert_eq!(distinct.len(), 60);
        Ok(())
    }

    #[test]
    fn a_seed_gives_one_set_and_shares_are_exact() -> vxf_data::Result<()> {
        let source = drawn(&[0.2]);
        let user = source.stream("user", 1, 0.2)?;
        assert_eq!(user, source.stream("user", 1, 0.2)?);
        assert_ne!(user, source.stream("user", 2, 0.2)?);
        let task = |sample: &&Sample| ["positive", "negative"].contains(&sample.answer.as_str());
        assert_eq!((user.len(), user.iter().filter(task).count()), (400, 320));
        let alignment = source.stream("alignment", 1, 0.0)?;
        let probe = source.samples("alignment", 1)?;
        assert!(probe.len() == 40 && probe.iter().all(|sample| alignment.contains(sample)));
        assert!(source.stream("user", 1, 1.5).is_err() && source.prompts("guide", 1).is_err());
        Ok(())
    }
}
