//! The data of one seed: what each stage trains on, and what models are measured on.

mod files;
mod judges;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vxf_core::generate::Sampler;
use vxf_core::metric::{Grader, Probes, Prompt, Questions};
use vxf_core::{Example, Key};
use vxf_data::{Ask, Codec, Sample};

pub use files::Corpus;
pub(crate) use files::user_samples;
pub use judges::Judges;

use crate::model::Base;
use crate::recipe::{Data, Recipe, digest, hex};
use crate::{Error, Result};

/// Tokenised samples, and how many truncation took from them.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// The samples that have an answer left.
    pub examples: Arc<Vec<Example>>,
    /// How many lost a part of their answer.
    pub truncated: usize,
    /// How many lost all of it, and were left out.
    pub dropped: usize,
}

impl Set {
    /// SHA-256 over all tokens and prompt lengths.
    pub fn digest(&self) -> String {
        examples_digest(&self.examples)
    }

    /// How many tokens it has, padding not counted.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.tokens.len()).sum()
    }
}

fn examples_digest(examples: &[Example]) -> String {
    let mut hash = Sha256::new();
    for example in examples {
        hash.update((example.prompt as u64).to_le_bytes());
        hash.update((example.tokens.len() as u64).to_le_bytes());
        for token in &example.tokens {
            hash.update(token.to_le_bytes());
        }
    }
    hex(&hash.finalize())
}

/// Samples drawn under one seed; the same for every defence.
pub struct SeedData {
    /// The provider's alignment set.
    pub alignment: Set,
    /// Harmful demonstrations, for defences that simulate the attack.
    pub harmful: Set,
    /// The user's set at each ratio, in the recipe's order.
    pub user: Vec<Set>,
    examples: BTreeMap<String, Vec<Example>>,
    questions: BTreeMap<String, Questions>,
    grader: Option<Grader>,
    sampler: Arc<dyn Sampler>,
    /// What the sampler depends on.
    sampling: Value,
    /// What the grader is called.
    graded: String,
    batch_size: usize,
}

impl SeedData {
    /// Draws everything that `seed` stands for.
    ///
    /// # Errors
    /// When the tokenizer lacks a word, or truncation leaves a set without a single answer.
    pub fn draw(recipe: &Recipe, base: &Base, corpus: &Corpus, seed: u64) -> Result<Self> {
        let key = Key::root(seed).child("data");
        let data = match &recipe.data {
            Data::World(settings) => world::draw(settings, recipe, base, &key)?,
            Data::Files(settings) => files::draw(settings, recipe, base, corpus, seed, &key)?,
        };
        questions_fit(&data.questions, base)?;
        Ok(data)
    }

    /// What models are measured on.
    pub fn probes(&self, base: &Base, judges: &Judges) -> Probes {
        Probes {
            examples: self.examples.clone(),
            questions: self.questions.clone(),
            text: Box::new(base.codec.clone()),
            judges: judges.named(),
            grader: self.grader,
            sampler: Box::new(self.sampler.clone()),
            batch_size: self.batch_size,
        }
    }

    /// For each set of prompts a digest of all that an answer depends on besides the model: the
    /// prompts, how long answers may be, how they are drawn.
    pub fn generations(&self) -> BTreeMap<String, String> {
        let of = |(name, set): (&String, &Questions)| {
            let prompts: Vec<_> = set.prompts.iter().map(|prompt| &prompt.tokens).collect();
            let value = json!([name, prompts, set.max_new_tokens, self.sampling]);
            (name.clone(), digest(&value))
        };
        self.questions.iter().map(of).collect()
    }

    /// A digest of all that models are measured on: samples, prompts, right answers.
    pub(crate) fn measured_on(&self) -> String {
        let expected = |set: &Questions| -> Vec<_> {
            set.prompts.iter().map(|prompt| prompt.expected.clone()).collect()
        };
        let expected: BTreeMap<_, _> =
            self.questions.iter().map(|(name, set)| (name, expected(set))).collect();
        let examples: BTreeMap<_, _> = self
            .examples
            .iter()
            .map(|(name, examples)| (name, examples_digest(examples)))
            .collect();
        let (graded, batch_size) = (&self.graded, self.batch_size);
        digest(&json!([self.generations(), expected, examples, graded, batch_size]))
    }

    /// All sets by name with the ratio they belong to, for the manifest.
    pub fn digests(&self, ratios: &[f64]) -> BTreeMap<String, String> {
        let mut all = BTreeMap::from([
            ("alignment".to_owned(), self.alignment.digest()),
            ("harmful".to_owned(), self.harmful.digest()),
        ]);
        for (ratio, set) in ratios.iter().zip(&self.user) {
            all.insert(format!("user at {ratio}"), set.digest());
        }
        all
    }
}

fn prompt(ask: &Ask, expected: Option<String>, codec: &Codec) -> Result<Prompt> {
    Ok(Prompt { text: ask.shown(), tokens: codec.prompt(ask)?, expected })
}

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

fn tokenise(name: &str, samples: &[Sample], codec: &Codec, max_length: usize) -> Result<Set> {
    let (mut examples, mut truncated, mut dropped) = (Vec::new(), 0, 0);
    for sample in samples {
        let encoded = codec.encode(sample, max_length)?;
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
