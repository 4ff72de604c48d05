//! The user's own files.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use vxf_core::Key;
use vxf_core::metric::Questions;
use vxf_data::{Loaded, Sample, mix};

use super::{SeedData, Set, prompt, tokenise};
use crate::access::Access;
use crate::data_settings::{DataSettings, Part};
use crate::model::Base;
use crate::recipe::{Data, Recipe};
use crate::{Error, Result};

/// The samples of all files of a recipe; nothing for the embedded world.
#[derive(Clone, Default)]
pub struct Corpus(BTreeMap<Part, Arc<Loaded>>);

impl Corpus {
    /// Reads the files of `recipe`, those that draw at random under `seed`.
    ///
    /// # Errors
    /// When a file is missing or cannot be understood.
    pub fn read(recipe: &Recipe, access: &Access, seed: u64) -> Result<Self> {
        let Data::Files(settings) = &recipe.data else { return Ok(Self::default()) };
        let key = Key::root(seed).child("data");
        let mut parts = BTreeMap::new();
        for part in Part::ALL {
            let Some(source) = settings.source(part) else { continue };
            let repository = access.dataset(source).map_err(|error| match error {
                Error::Data(source) => Error::Part { part: part.key(), source },
                other => other,
            })?;
            let mut rng = key.child(part.key()).rng();
            let loaded = source
                .read(&*repository, part.is_test(), settings.skip_bad_rows, &mut rng)
                .map_err(|source| Error::Part { part: part.key(), source })?;
            parts.insert(part, Arc::new(loaded));
        }
        Ok(Self(parts))
    }

    /// Whether another seed would read the same samples.
    pub fn is_fixed(recipe: &Recipe) -> bool {
        let Data::Files(settings) = &recipe.data else { return true };
        !Part::ALL.iter().any(|part| settings.source(*part).is_some_and(|source| source.shuffle))
    }

    /// What was read for `part`.
    pub fn part(&self, part: Part) -> Option<&Loaded> {
        self.0.get(&part).map(|loaded| &**loaded)
    }

    /// All parts that were read.
    pub fn parts(&self) -> impl Iterator<Item = (Part, &Loaded)> {
        self.0.iter().map(|(part, loaded)| (*part, &**loaded))
    }

    pub(crate) fn samples(&self, part: Part) -> &[Sample] {
        self.part(part).map_or(&[], |loaded| &loaded.samples)
    }
}

/// Mixes and tokenises the sets of `corpus` under `key`.
pub(super) fn draw(
    settings: &DataSettings,
    recipe: &Recipe,
    base: &Base,
    corpus: &Corpus,
    seed: u64,
    key: &Key,
) -> Result<SeedData> {
    let limit = base.limit(settings.max_length);
    let set = |name: &str, samples: &[Sample]| tokenise(name, samples, &base.codec, limit);
    let alignment = set("alignment", corpus.samples(Part::Alignment))?;

    let mut user = Vec::new();
    for &ratio in user_ratios(recipe) {
        let samples = user_samples(settings, corpus, ratio, key)?;
        user.push(set("user", &samples)?);
    }

    let probe = match settings.alignment_probe {
        0 => alignment.examples.to_vec(),
        most => alignment.examples.iter().take(most).cloned().collect(),
    };
    let mut questions = BTreeMap::new();
    for (name, part, most) in [
        ("harmful", Part::HarmfulTest, settings.max_new_tokens),
        ("benign", Part::BenignTest, settings.max_new_tokens),
        ("task", Part::TaskTest, settings.task_new_tokens),
    ] {
        if corpus.part(part).is_none() {
            continue;
        }
        let prompts = corpus.samples(part).iter().map(|sample| {
            // What a harmful request was answered with is nothing to be right about.
            let expected = (part == Part::TaskTest).then(|| sample.answer.clone());
            prompt(&sample.ask, expected, &base.codec)
        });
        let prompts = prompts.collect::<Result<_>>()?;
        questions.insert(name.to_owned(), Questions { prompts, max_new_tokens: most });
    }
    let test = corpus.part(Part::TaskTest);
    let (grader, graded) = match settings.task.as_str() {
        "" => (test.and_then(|loaded| loaded.schema.grader()), test.map(|it| it.schema.name())),
        task => (vxf_data::grader(task), Some(task)),
    };
    // Greedy answers do not depend on the seed.
    let seed = (settings.sampling.temperature != 0.0).then_some(seed);
    let fluency = set("fluency", corpus.samples(Part::Fluency))?.examples.to_vec();
    Ok(SeedData {
        harmful: set("simulated", corpus.samples(Part::Simulated))?,
        user,
        examples: BTreeMap::from([
            ("alignment".to_owned(), probe),
            ("fluency".to_owned(), fluency),
        ]),
        sampling: json!([settings.sampling, seed]),
        graded: graded.unwrap_or_default().to_owned(),
        questions,
        grader,
        sampler: settings.sampling.sampler(&key.child("sampling")),
        batch_size: settings.eval_batch_size,
        alignment,
    })
}

/// The ratios of the user's stage; none if that is not done.
fn user_ratios(recipe: &Recipe) -> &[f64] {
    match recipe.settings.stages.include(vxf_core::Stage::FineTuning) {
        true => &recipe.settings.harmful_ratios,
        false => &[],
    }
}

/// The user's set at `ratio`, as text.
///
/// # Errors
/// When a part that it needs is not given, or too small.
pub(crate) fn user_samples(
    settings: &DataSettings,
    corpus: &Corpus,
    ratio: f64,
    key: &Key,
) -> Result<Vec<Sample>> {
    let mut rng = key.child("mix").rng();
    let samples = mix(
        corpus.samples(Part::Harmful),
        corpus.samples(Part::User),
        corpus.samples(Part::Guide),
        settings.user_samples,
        ratio,
        settings.mix,
        &mut rng,
    )?;
    Ok(samples)
}

/// An empty set, for a stage that has no such stream.
impl Set {
    /// Whether there is no sample in it.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }
}
