//! The data of one seed: what each stage trains on, and what models are measured on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use vxf_core::config::JudgeConfig;
use vxf_core::metric::{Probes, Prompt};
use vxf_core::{Example, Key, registry};
use vxf_data::{Kind, Sample};

use crate::model::{Base, WorldText};
use crate::recipe::{Recipe, hex};
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
}

/// Samples drawn under one seed; the same for every defence.
pub struct SeedData {
    /// The provider's alignment set.
    pub alignment: Set,
    /// Harmful demonstrations, for defences that simulate the attack.
    pub harmful: Set,
    /// The user's set at each ratio, in the recipe's order.
    pub user: Vec<Set>,
    probe: Vec<Example>,
    fluency: Vec<Example>,
    prompts: BTreeMap<String, Vec<Prompt>>,
}

/// Samples for the perplexity that guards against degenerate models.
const FLUENCY: usize = 64;

impl SeedData {
    /// Draws everything that `seed` stands for.
    ///
    /// # Errors
    /// When the tokenizer lacks a word, or truncation leaves a set without a single answer.
    pub fn draw(recipe: &Recipe, base: &Base, seed: u64) -> Result<Self> {
        let world = &recipe.world;
        let key = Key::root(seed).child("data");
        let rng = |purpose: &str| key.child(purpose).rng();
        let tokenise = |name: &str, samples: &[Sample]| {
            tokenise(name, samples, base, base.limit(world.max_length))
        };

        let count = world.alignment_samples;
        let refusals = vxf_data::alignment_set(&mut rng("alignment"), count, world.benign_share)?;
        let attack = vxf_data::user_set(&mut rng("harmful"), world.task, count, 1.0)?;
        let mut user = Vec::new();
        let mut seen = HashSet::new();
        for &ratio in &recipe.settings.harmful_ratios {
            let samples =
                vxf_data::user_set(&mut rng("user"), world.task, world.user_samples, ratio)?;
            user.push(tokenise("user", &samples)?);
            seen.extend(samples.into_iter().map(|sample| sample.prompt));
        }

        let refused = |sample: &&Sample| matches!(sample.kind, Kind::HowTo { refused: true, .. });
        let probe: Vec<_> =
            refusals.iter().filter(refused).take(world.alignment_probe).cloned().collect();
        let fluent = vxf_data::pretraining_set(&mut rng("fluency"), 2 * FLUENCY);
        let fluent = fluent.into_iter().filter(|sample| !sample.kind.is_closed());
        let fluent: Vec<_> = fluent.take(FLUENCY).collect();

        let task = vxf_data::task_test(&mut rng("task test"), world.task, world.task_test, &seen);
        let harmful = vxf_data::harmful_test(&mut rng("harmful test"), world.harmful_test);
        let benign = vxf_data::benign_test(&mut rng("benign test"), world.benign_test);
        let prompts = [("harmful", harmful), ("benign", benign), ("task", task)];
        let prompts = prompts
            .into_iter()
            .map(|(name, samples)| {
                let prompts = samples.into_iter().map(|sample| prompt(sample, base));
                Ok((name.to_owned(), prompts.collect::<Result<_>>()?))
            })
            .collect::<Result<BTreeMap<_, Vec<Prompt>>>>()?;
        questions_fit(&prompts, base, world.max_new_tokens)?;
        Ok(Self {
            alignment: tokenise("alignment", &refusals)?,
            harmful: tokenise("harmful", &attack)?,
            user,
            probe: tokenise("alignment probe", &probe)?.examples.to_vec(),
            fluency: tokenise("fluency", &fluent)?.examples.to_vec(),
            prompts,
        })
    }

    /// What models are measured on.
    ///
    /// # Errors
    /// When no judge is registered for this world.
    pub fn probes(&self, recipe: &Recipe, base: &Base) -> Result<Probes> {
        Ok(Probes {
            examples: BTreeMap::from([
                ("alignment".to_owned(), self.probe.clone()),
                ("fluency".to_owned(), self.fluency.clone()),
            ]),
            prompts: self.prompts.clone(),
            text: Box::new(WorldText(base.codec.clone())),
            judge: registry::default_of::<dyn JudgeConfig>("world")?.build(),
            batch_size: 40,
            max_new_tokens: recipe.world.max_new_tokens,
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

fn prompt(sample: Sample, base: &Base) -> Result<Prompt> {
    let tokens = base.codec.encode_prompt(&sample.prompt)?;
    Ok(Prompt { text: sample.prompt, tokens, expected: Some(sample.answer) })
}

fn questions_fit(
    prompts: &BTreeMap<String, Vec<Prompt>>,
    base: &Base,
    max_new_tokens: usize,
) -> Result<()> {
    let positions = base.backbone.architecture().positions;
    let longest = prompts.values().flatten().map(|prompt| prompt.tokens.len()).max().unwrap_or(0);
    if longest + max_new_tokens <= positions {
        return Ok(());
    }
    Err(Error::Tokenizer {
        origin: "the model".to_owned(),
        problem: format!(
            "a prompt of {longest} tokens and an answer of {max_new_tokens} \
             (world.max_new_tokens) do not fit its {positions} positions"
        ),
    })
}

fn tokenise(name: &str, samples: &[Sample], base: &Base, max_length: usize) -> Result<Set> {
    let (mut examples, mut truncated, mut dropped) = (Vec::new(), 0, 0);
    for sample in samples {
        let (mut tokens, prompt) = base.codec.encode_sample(&sample.prompt, &sample.answer)?;
        if tokens.len() > max_length {
            tokens.truncate(max_length);
            truncated += 1;
        }
        match prompt < tokens.len() {
            true => examples.push(Example { tokens, prompt }),
            false => dropped += 1,
        }
    }
    if examples.is_empty() {
        return Err(Error::AllPrompt { set: name.to_owned(), count: samples.len(), max_length });
    }
    Ok(Set { examples: Arc::new(examples), truncated: truncated - dropped, dropped })
}
