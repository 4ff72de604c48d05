//! The data of one seed: what each stage trains on, and what models are measured on.

mod files;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use vxf_core::config::BuildContext;
use vxf_core::generate::Sampler;
use vxf_core::metric::{Grader, NamedJudge, Probes, Prompt, Questions};
use vxf_core::{Example, Key};
use vxf_data::{Ask, Codec, Sample};

pub use files::Corpus;
pub(crate) use files::user_samples;

use crate::access::Access;
use crate::model::Base;
use crate::{Error, Result};
use vxf_recipe::{Data, Recipe, hex};

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
        let mut hash = Sha256::new();
        for example in self.examples.iter() {
            hash.update((example.prompt as u64).to_le_bytes());
            hash.update((example.tokens.len() as u64).to_le_bytes());
            for token in &example.tokens {
                hash.update(token.to_le_bytes());
            }
        }
        hex(&hash.finalize())
    }

    /// How many tokens it has, padding not counted.
    pub fn tokens(&self) -> usize {
        self.examples.iter().map(|example| example.tokens.len()).sum()
    }
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
            Data::Files(settings) => files::draw(settings, recipe, base, corpus, &key)?,
        };
        questions_fit(&data.questions, base)?;
        Ok(data)
    }

    /// What models are measured on.
    ///
    /// # Errors
    /// When a judge lacks what it judges with.
    pub fn probes(&self, recipe: &Recipe, base: &Base, access: &Access) -> Result<Probes> {
        let locate = |name: &str| access.model_for_judge(name);
        let context = BuildContext { device: base.device(), model: &locate };
        let judge = |chosen: &vxf_recipe::Chosen<dyn vxf_core::config::JudgeConfig>| {
            let judge = chosen.config.build(&context)?;
            Ok(NamedJudge { name: chosen.name.to_owned(), judge })
        };
        Ok(Probes {
            examples: self.examples.clone(),
            questions: self.questions.clone(),
            text: Box::new(base.codec.clone()),
            judges: recipe.judges.iter().map(judge).collect::<Result<_>>()?,
            grader: self.grader,
            sampler: Box::new(self.sampler.clone()),
            batch_size: self.batch_size,
        })
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
