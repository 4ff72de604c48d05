//! The data of one seed: training sets, test sets and prompts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vxf_core::generate::Sampler;
use vxf_core::metric::{Grader, Probes, Prompt, Questions};
use vxf_core::{Example, Key};
use vxf_data::{Codec, DataSource, Learned, Purpose, Sample, TrainOn};
use vxf_recipe::{Recipe, digest};
use vxf_report::samples::Overlap;

use super::judges::Judges;
use super::sampler;
use crate::{Error, Result};
use vxf_access::Base;

/// Prompts that are always answered if the data has them, for the sample answers of a report.
const SHOWN: [&str; 3] = ["harmful", "benign", "task"];

/// Tokenised samples, and how many were truncated or dropped.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// The samples that have an answer left.
    pub examples: Arc<Vec<Example>>,
    /// Number of samples with a truncated answer.
    pub truncated: usize,
    /// Number of samples dropped because no answer was left.
    pub dropped: usize,
}

impl Set {
    /// SHA-256 over all tokens and prompt lengths.
    pub fn digest(&self) -> String {
        examples_digest(&self.examples)
    }

    /// Whether it has no samples.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Number of tokens, without padding.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.tokens.len()).sum()
    }

    /// Length of the longest sample in tokens.
    pub fn longest(&self) -> usize {
        self.examples.iter().map(|example| example.tokens.len()).max().unwrap_or(0)
    }
}

fn examples_digest(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        hash.update((example.prompt as u64).to_le_bytes());
        for range in &example.trained {
            hash.update((range.start as u64).to_le_bytes());
            hash.update((range.end as u64).to_le_bytes());
        }
        hash.update((example.tokens.len() as u64).to_le_bytes());
        for token in &example.tokens {
            hash.update(token.to_le_bytes());
        }
    }
    hex::encode(hash.finalize())
}

/// The name of a training set; a user's set also has a harmful ratio.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetName {
    name: String,
    ratio: Option<u64>,
}

impl SetName {
    /// The set `name` for a run at `ratio`.
    pub fn new(name: &str, ratio: Option<f64>) -> Self {
        // Only the user's set depends on the ratio.
        let ratio = ratio.filter(|_| name == "user").map(f64::to_bits);
        Self { name: name.to_owned(), ratio }
    }

    /// The name without the ratio.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn ratio(&self) -> f64 {
        self.ratio.map_or(0.0, f64::from_bits)
    }

    fn shown(&self) -> String {
        match self.ratio {
            None => self.name.clone(),
            Some(ratio) => format!("{} at {}", self.name, f64::from_bits(ratio)),
        }
    }
}

/// The samples drawn under one seed; the same for every defence.
pub struct SeedData {
    sets: BTreeMap<SetName, Set>,
    examples: BTreeMap<String, Vec<Example>>,
    questions: BTreeMap<String, Questions>,
    grader: Option<Grader>,
    sampler: Arc<dyn Sampler>,
    /// How many answers are drawn to each prompt.
    draws: usize,
    /// The settings of the sampler.
    sampling: Value,
    /// The settings of the data that affect grading.
    graded: Value,
    batch_size: usize,
}

impl SeedData {
    /// Draws the training sets `wanted` under `seed`, and everything the metrics of `recipe` need.
    ///
    /// # Errors
    /// When a word is not in the vocabulary, or truncation leaves a set without answers.
    pub fn draw(
        source: &dyn DataSource,
        recipe: &Recipe,
        base: &Base,
        seed: u64,
        wanted: &BTreeSet<SetName>,
    ) -> Result<Self> {
        let data = &recipe.data.config;
        let limit = base.limit(data.max_length());
        let tokenised = |name: &str, samples: &[Sample]| {
            tokenise(name, samples, &base.codec, limit, data.train_on())
        };
        let mut sets = BTreeMap::new();
        for name in wanted {
            let samples = source.stream(&name.name, seed, name.ratio())?;
            sets.insert(name.clone(), tokenised(&name.name, &samples)?);
        }
        let needs = recipe.metrics.iter().map(|metric| metric.config.needs());
        let (mut samples, mut prompts) = (BTreeSet::new(), BTreeSet::new());
        for needs in needs {
            samples.extend(needs.samples);
            prompts.extend(needs.prompts);
        }
        let shown = SHOWN.into_iter().filter(|name| data.has(Purpose::Prompts, name));
        prompts.extend(shown.map(str::to_owned));
        let mut examples = BTreeMap::new();
        for name in samples {
            let drawn = source.samples(&name, seed)?;
            examples.insert(name.clone(), tokenised(&name, &drawn)?.examples.to_vec());
        }
        let mut questions = BTreeMap::new();
        for name in prompts {
            let drawn = questions_of(source.prompts(&name, seed)?, &base.codec)?;
            questions.insert(name, drawn);
        }
        questions_fit(&questions, base)?;
        let sampling = source.sampling();
        let draws = (sampling.temperature != 0.0).then_some(seed);
        let key = Key::root(seed).child("data").child("sampling");
        Ok(Self {
            sets,
            examples,
            questions,
            grader: source.grader(),
            sampler: sampler::for_model(&sampling, &key, &base.codec),
            draws: sampling.samples_per_prompt,
            sampling: match base.codec.generation().is_plain() {
                true => json!([sampling, draws]),
                false => json!([sampling, draws, base.codec.generation()]),
            },
            graded: graded(&recipe.data.value()),
            batch_size: source.batch_size(),
        })
    }

    /// The training set called `name`.
    pub fn set(&self, name: &SetName) -> Option<&Set> {
        self.sets.get(name)
    }

    /// All training sets.
    pub fn sets(&self) -> impl Iterator<Item = (String, &Set)> {
        self.sets.iter().map(|(name, set)| (name.shown(), set))
    }

    /// The training set `name`, as the report on the files needs it.
    pub fn learned(&self, name: &str, ratio: f64) -> Option<Learned> {
        let set = self.set(&SetName::new(name, Some(ratio)))?;
        let Set { examples, truncated, dropped } = set.clone();
        Some(Learned { examples, truncated, dropped })
    }

    /// How many prompts the set `name` has.
    pub fn prompts(&self, name: &str) -> usize {
        self.questions.get(name).map_or(0, |set| set.prompts.len())
    }

    /// The most tokens of an answer.
    pub fn longest_answer(&self) -> usize {
        self.questions.values().map(|set| set.max_new_tokens).max().unwrap_or(0)
    }

    /// How many prompts of each set are the prompt of a training sample, token by token.
    pub fn overlaps(&self) -> BTreeMap<String, Overlap> {
        let examples = self.sets.values().flat_map(|set| set.examples.iter());
        let trained: HashSet<&[u32]> =
            examples.map(|example| &example.tokens[..example.prompt]).collect();
        let overlap = |(name, set): (&String, &Questions)| {
            let known = set.prompts.iter().filter(|it| trained.contains(it.tokens.as_slice()));
            let overlap = Overlap { prompts: set.prompts.len(), trained_on: known.count() };
            (name.clone(), overlap)
        };
        self.questions.iter().map(overlap).collect()
    }

    /// The test sets, prompts, judges and sampler for metrics.
    pub fn probes(&self, base: &Base, judges: &Judges) -> Probes {
        Probes {
            examples: self.examples.clone(),
            questions: self.questions.clone(),
            text: Box::new((*base.codec).clone()),
            judges: judges.named(),
            grader: self.grader,
            sampler: Box::new(self.sampler.clone()),
            draws: self.draws,
            batch_size: self.batch_size,
        }
    }

    /// As [`SeedData::probes`], with the first `prompts` prompts of each set alone.
    pub fn few_probes(&self, base: &Base, judges: &Judges, prompts: usize) -> Probes {
        let mut probes = self.probes(base, judges);
        for set in probes.questions.values_mut() {
            set.prompts.truncate(prompts);
        }
        probes
    }

    /// How many answers are generated to all prompts.
    pub(crate) fn answers(&self) -> u64 {
        let prompts: usize = self.questions.values().map(|set| set.prompts.len()).sum();
        (prompts * self.draws.max(1)) as u64
    }

    /// For each set of prompts, a digest of everything besides the model that its answers depend on: the
    /// prompts, the length limit, the sampling settings.
    pub fn generations(&self) -> BTreeMap<String, String> {
        let of = |(name, set): (&String, &Questions)| {
            let prompts: Vec<_> = set.prompts.iter().map(|prompt| &prompt.tokens).collect();
            let value = json!([name, prompts, set.max_new_tokens, self.sampling]);
            (name.clone(), digest(&value))
        };
        self.questions.iter().map(of).collect()
    }

    /// A digest of what a metric with these needs is measured on: samples, prompts, correct answers.
    pub(crate) fn measured_on(&self, needs: &vxf_core::Needs) -> String {
        let generations = self.generations();
        let prompts: Vec<_> = needs.prompts.iter().map(|name| generations.get(name)).collect();
        let expected =
            needs.prompts.iter().filter_map(|name| self.questions.get(name)).map(|set| {
                set.prompts.iter().map(|prompt| prompt.expected.clone()).collect::<Vec<_>>()
            });
        let expected: Vec<_> = expected.collect();
        let samples = needs.samples.iter().filter_map(|name| self.examples.get(name));
        let samples: Vec<_> = samples.map(|examples| examples_digest(examples)).collect();
        digest(&json!([prompts, expected, samples, self.graded, self.batch_size]))
    }

    /// The digest of each training set by name, for the manifest.
    pub fn digests(&self) -> BTreeMap<String, String> {
        self.sets().map(|(name, set)| (name, set.digest())).collect()
    }
}

/// The settings of the data that affect grading. A detected schema follows from the samples, which are
/// part of the digest already; paths are left out.
fn graded(data: &Value) -> Value {
    json!([data["source"], data["task"], data["task_test"]["schema"]])
}

/// Drawn prompts as tokens.
fn questions_of(drawn: vxf_data::Questions, codec: &Codec) -> Result<Questions> {
    let prompts = drawn.prompts.into_iter().enumerate();
    let prompts = prompts.map(|(index, (ask, expected))| {
        let (tokens, group) = (codec.prompt(&ask)?, drawn.groups.get(index).cloned());
        Ok(Prompt { text: ask.shown(), tokens, expected, group })
    });
    let prompts = prompts.collect::<Result<_>>()?;
    Ok(Questions { prompts, max_new_tokens: drawn.max_new_tokens })
}

/// Checks that every prompt leaves room for the longest answer.
fn questions_fit(questions: &BTreeMap<String, Questions>, base: &Base) -> Result<()> {
    let positions = base.outline.architecture.positions;
    for (name, set) in questions {
        let longest = set.prompts.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0);
        let most = set.max_new_tokens;
        if longest + most > positions {
            let problem = format!(
                "a `{name}` prompt of {longest} tokens and an answer of {most} (max_new_tokens) \
                 do not fit its {positions} positions"
            );
            return Err(Error::Tokenizer { origin: base.name.clone(), problem });
        }
    }
    Ok(())
}

/// The samples as tokens, without those whose answer was cut off whole.
fn tokenise(
    name: &str,
    samples: &[Sample],
    codec: &Codec,
    max_length: usize,
    train_on: TrainOn,
) -> Result<Set> {
    let (mut examples, mut truncated, mut dropped) = (Vec::new(), 0, 0);
    for sample in samples {
        let encoded = match train_on {
            TrainOn::Last => codec.encode(sample, max_length)?,
            TrainOn::All => codec.encode_all_answers(sample, max_length)?,
        };
        match encoded.example.labelled() > 0 {
            true => {
                truncated += usize::from(encoded.truncated);
                examples.push(encoded.example);
            }
            false => dropped += 1,
        }
    }
    if examples.is_empty() && !samples.is_empty() {
        return Err(Error::AllPrompt { set: name.to_owned(), count: samples.len(), max_length });
    }
    Ok(Set { examples: Arc::new(examples), truncated, dropped })
}
