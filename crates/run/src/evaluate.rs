//! Measuring a model, or a finished run again: with other metrics, other judges, other data.

use std::collections::BTreeMap;

use vxf_core::generate::Forgetful;
use vxf_core::metric::{Generation, Model, Probes};
use vxf_core::{Key, Params};

use crate::Result;
use crate::access::Access;
use crate::dataset::{Corpus, SeedData};
use crate::finished::{self, Run};
use crate::measure::{self, Pair};
use crate::model::Base;
use crate::record::{Answer, Row, read_lines};
use vxf_recipe::Recipe;

/// What was measured.
pub struct Evaluation {
    /// All figures.
    pub rows: Vec<Row>,
    /// All answers that they rest on.
    pub answers: Vec<Answer>,
    /// The sets of prompts whose stored answers were judged, and not made again.
    pub kept: Vec<String>,
}

/// Measures the model of `recipe` as it is.
///
/// # Errors
/// When the model, the data or a judge cannot be used.
pub fn of_model(recipe: &Recipe, access: &Access) -> Result<Evaluation> {
    let base = Base::open(recipe, access)?;
    let probes = probes(recipe, &base, access)?;
    let (backbone, weights) = (base.model()?, Params::new());
    let pair = Pair { model: Model { backbone: &*backbone, weights: &weights }, aligned: None };
    let (rows, answers) =
        measure::everything(pair, &probes, &recipe.metrics, BTreeMap::new(), &Forgetful)?;
    Ok(Evaluation { rows, answers, kept: Vec::new() })
}

/// Measures a finished run by `recipe`, its own or one that asks for something else. Answers that
/// the run has kept to the same prompts are judged as they are, unless `anew`.
///
/// # Errors
/// As [`of_model`], and when the run's weights are gone.
pub fn of_run(run: &Run, recipe: &Recipe, access: &Access, anew: bool) -> Result<Evaluation> {
    access.examine(&run.place);
    let base = Base::open(recipe, access)?;
    let probes = probes(recipe, &base, access)?;
    let kept = if anew { BTreeMap::new() } else { kept(run, &probes)? };
    let names = kept.keys().cloned().collect();

    let mut layers = run.layers()?;
    let (rows, answers) = match layers.pop() {
        None => {
            let (backbone, weights) = (base.model()?, Params::new());
            let model = Model { backbone: &*backbone, weights: &weights };
            measure::everything(
                Pair { model, aligned: None },
                &probes,
                &recipe.metrics,
                kept,
                &Forgetful,
            )?
        }
        Some(last) => {
            // The last stage's weights stay apart, so that the model it began with is there too.
            let given = base.load(&finished::merged(&base, &layers)?)?;
            let backbone = given.with_trainable(&last.trainable)?;
            drop(given);
            let weights = last.weights(&base)?;
            let begun = match run.below()?.filter(|_| run.record.continues) {
                Some(below) => below.weights(&base)?,
                None => backbone.initial(&Key::root(0))?,
            };
            let with = |weights| Model { backbone: &*backbone, weights };
            let aligned = run.record.ratio.map(|_| with(&begun));
            let pair = Pair { model: with(&weights), aligned };
            measure::everything(pair, &probes, &recipe.metrics, kept, &Forgetful)?
        }
    };
    Ok(Evaluation { rows, answers, kept: names })
}

/// What is measured on: the data of the recipe's first seed.
fn probes(recipe: &Recipe, base: &Base, access: &Access) -> Result<Probes> {
    let seed = recipe.settings.seeds.first().copied().unwrap_or_default();
    let corpus = Corpus::read(recipe, access, seed)?;
    SeedData::draw(recipe, base, &corpus, seed)?.probes(recipe, base, access)
}

/// The stored answers of `run`, set by set, where they answer the prompts of `probes` in order.
fn kept(run: &Run, probes: &Probes) -> Result<BTreeMap<String, Vec<Generation>>> {
    let path = run.place.join("generations.jsonl");
    let stored: Vec<Answer> = read_lines(&path)?;
    let mut kept = BTreeMap::new();
    for (name, questions) in &probes.questions {
        let answers: Vec<_> = stored.iter().filter(|answer| answer.probe == *name).collect();
        let prompts = &questions.prompts;
        let same = answers.len() == prompts.len()
            && answers.iter().zip(prompts).all(|(answer, prompt)| answer.prompt == prompt.text);
        if same {
            let made = answers.iter().zip(prompts).map(|(answer, prompt)| Generation {
                prompt: prompt.clone(),
                answer: answer.answer.clone(),
            });
            kept.insert(name.clone(), made.collect());
        }
    }
    Ok(kept)
}
