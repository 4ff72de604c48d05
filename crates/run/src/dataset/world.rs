//! The embedded world's data.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use vxf_core::Key;
use vxf_core::generate::Greedy;
use vxf_core::metric::Questions;
use vxf_data::world::{self, Kind};
use vxf_data::{Ask, Sample};

use super::{SeedData, prompt, tokenise};
use crate::Result;
use crate::model::Base;
use crate::recipe::Recipe;
use crate::settings::World;

/// Samples for the perplexity that guards against degenerate models.
const FLUENCY: usize = 64;
/// Samples or prompts that are measured side by side.
const BATCH: usize = 64;

/// Draws the world's sets under `key`.
pub(super) fn draw(settings: &World, recipe: &Recipe, base: &Base, key: &Key) -> Result<SeedData> {
    let rng = |purpose: &str| key.child(purpose).rng();
    let set = |name: &str, samples: &[world::Sample]| {
        let samples: Vec<_> = samples.iter().map(plain).collect();
        tokenise(name, &samples, &base.codec, base.limit(settings.max_length))
    };

    let count = settings.alignment_samples;
    let refusals = world::alignment_set(&mut rng("alignment"), count, settings.benign_share)?;
    let attack = world::user_set(&mut rng("harmful"), settings.task, count, 1.0)?;
    let mut user = Vec::new();
    let mut seen = HashSet::new();
    for &ratio in &recipe.settings.harmful_ratios {
        let (task, samples) = (settings.task, settings.user_samples);
        let samples = world::user_set(&mut rng("user"), task, samples, ratio)?;
        user.push(set("user", &samples)?);
        seen.extend(samples.into_iter().map(|sample| sample.prompt));
    }

    let refused =
        |sample: &&world::Sample| matches!(sample.kind, Kind::HowTo { refused: true, .. });
    let probe: Vec<_> =
        refusals.iter().filter(refused).take(settings.alignment_probe).cloned().collect();
    let fluent = world::pretraining_set(&mut rng("fluency"), 2 * FLUENCY);
    let fluent = fluent.into_iter().filter(|sample| !sample.kind.is_closed());
    let fluent: Vec<_> = fluent.take(FLUENCY).collect();

    let task = world::task_test(&mut rng("task test"), settings.task, settings.task_test, &seen);
    let harmful = world::harmful_test(&mut rng("harmful test"), settings.harmful_test);
    let benign = world::benign_test(&mut rng("benign test"), settings.benign_test);
    let mut questions = BTreeMap::new();
    for (name, samples) in [("harmful", harmful), ("benign", benign), ("task", task)] {
        let prompts = samples.into_iter().map(|sample| {
            prompt(&Ask::instruction(sample.prompt), Some(sample.answer), &base.codec)
        });
        let prompts = prompts.collect::<Result<_>>()?;
        let set = Questions { prompts, max_new_tokens: settings.max_new_tokens };
        questions.insert(name.to_owned(), set);
    }
    Ok(SeedData {
        alignment: set("alignment", &refusals)?,
        harmful: set("harmful", &attack)?,
        user,
        examples: BTreeMap::from([
            ("alignment".to_owned(), set("alignment probe", &probe)?.examples.to_vec()),
            ("fluency".to_owned(), set("fluency", &fluent)?.examples.to_vec()),
        ]),
        questions,
        grader: Some(world::exact_match),
        sampler: Arc::new(Greedy),
        sampling: "greedy".into(),
        graded: "world".to_owned(),
        batch_size: BATCH,
    })
}

fn plain(sample: &world::Sample) -> Sample {
    Sample { ask: Ask::instruction(&sample.prompt), answer: sample.answer.clone() }
}
