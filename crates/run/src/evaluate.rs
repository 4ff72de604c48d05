//! Measuring a model, or finished runs again: with other metrics, other judges, other data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};
use vxf_core::generate::Forgetful;
use vxf_core::metric::{Model, Probes};
use vxf_core::{Backbone, Key, Params};
use vxf_data::TemplateChoice;

use crate::Result;
use crate::access::Access;
use crate::dataset::{Corpus, Judges, SeedData};
use crate::finished::{self, Layered, Run};
use crate::generate::reason;
use crate::measure::{self, Measured, Pair};
use crate::model::Base;
use crate::recipe::{Data, Recipe};
use crate::stored_answers::StoredAnswers;

/// What was measured.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// Figures, answers and failures.
    pub measured: Measured,
    /// The seed under which the data was drawn.
    pub seed: u64,
    /// The sets of prompts whose stored answers were judged, and not made again.
    pub kept: Vec<String>,
    /// The sets of prompts whose stored answers are to other prompts, or were generated with other
    /// settings, so that new ones were made.
    pub other: Vec<String>,
}

/// Measures by one recipe: the model is opened once, judges are built once, data is read once and
/// drawn once per seed, for as many runs as are measured.
pub struct Evaluator<'a> {
    recipe: &'a Recipe,
    access: &'a Access,
    base: Base,
    judges: Judges,
    corpus: Option<Corpus>,
    seeds: BTreeMap<u64, Rc<Seed>>,
    /// The model that the last run started from, by the layers merged into the base.
    start: Option<(Vec<PathBuf>, Arc<dyn Backbone>)>,
}

/// What is measured on under one seed.
struct Seed {
    probes: Probes,
    generations: BTreeMap<String, String>,
}

impl<'a> Evaluator<'a> {
    /// Opens the model of `recipe` and builds its judges.
    ///
    /// # Errors
    /// When the model or a judge cannot be used.
    pub fn new(recipe: &'a Recipe, access: &'a Access) -> Result<Self> {
        let base = Base::open(recipe, access)?;
        if matches!(&recipe.data, Data::Files(files) if files.template == TemplateChoice::Auto) {
            let used = base.codec.template();
            access.note(&format!("template {used}: {}", reason(used)));
        }
        let judges = Judges::build(recipe, &base, access)?;
        let (corpus, seeds, start) = (None, BTreeMap::new(), None);
        Ok(Self { recipe, access, base, judges, corpus, seeds, start })
    }

    /// Measures the model of the recipe as it is, on the data of the recipe's first seed.
    ///
    /// # Errors
    /// When the model or the data cannot be used.
    pub fn model(&mut self) -> Result<Evaluation> {
        let seed = self.recipe.settings.seeds.first().copied().unwrap_or_default();
        let drawn = self.drawn(seed)?;
        let (backbone, weights) = (self.base.model()?, Params::new());
        let pair = Pair { model: Model { backbone: &*backbone, weights: &weights }, aligned: None };
        let metrics: Vec<_> = self.recipe.metrics.iter().collect();
        let (kept, probes) = (BTreeMap::new(), &drawn.probes);
        let measured = measure::everything(pair, probes, &metrics, kept, &Forgetful)?;
        Ok(Evaluation { measured, seed, ..Evaluation::default() })
    }

    /// Measures a finished run on the data of its own seed, unless the recipe asks for other seeds
    /// than the run's: then on that of the first of them. Answers that the run has kept to the same
    /// prompts are judged as they are, unless `anew`.
    ///
    /// # Errors
    /// As [`Evaluator::model`], and when the run's weights are gone.
    pub fn run(&mut self, run: &Run, anew: bool) -> Result<Evaluation> {
        self.access.examine(&run.place);
        let asked = &self.recipe.settings.seeds;
        let seed = match *asked == run.recipe.settings.seeds {
            true => run.record.seed,
            false => asked.first().copied().unwrap_or(run.record.seed),
        };
        let drawn = self.drawn(seed)?;
        let Seed { probes, generations } = &*drawn;
        let mut stored = StoredAnswers::default();
        if !anew {
            let same = generation(self.recipe) == generation(&run.recipe);
            stored = StoredAnswers::read(&run.place, &run.record, probes, generations, same)?;
        }
        let whole = std::mem::take(&mut stored.whole);
        let kept = whole.keys().cloned().collect();

        let mut layers = run.layers()?;
        // The last stage's weights stay apart, so that the model it began with is there too.
        let last = match run.record.steps > 0 {
            true => layers.pop(),
            false => None,
        };
        let backbone = self.start(&layers)?.with_trainable(&run.record.trainable)?;
        let begun = match run.below()?.filter(|_| run.record.continues) {
            Some(below) => below.weights(&self.base)?,
            None => backbone.initial(&Key::root(0))?,
        };
        let weights = match &last {
            Some(last) => last.weights(&self.base)?,
            None => begun.copy()?,
        };
        let with = |weights| Model { backbone: &*backbone, weights };
        let aligned = run.record.ratio.map(|_| with(&begun));
        let pair = Pair { model: with(&weights), aligned };
        let metrics: Vec<_> = self.recipe.metrics.iter().collect();
        let measured = measure::everything(pair, probes, &metrics, whole, &stored)?;
        Ok(Evaluation { measured, seed, kept, other: stored.other })
    }

    /// The data of `seed`.
    fn drawn(&mut self, seed: u64) -> Result<Rc<Seed>> {
        if let Some(known) = self.seeds.get(&seed) {
            return Ok(known.clone());
        }
        let corpus = match self.corpus.take().filter(|_| Corpus::is_fixed(self.recipe)) {
            Some(corpus) => corpus,
            None => Corpus::read(self.recipe, self.access, seed)?,
        };
        let data = SeedData::draw(self.recipe, &self.base, &corpus, seed)?;
        self.corpus = Some(corpus);
        let (probes, generations) = (data.probes(&self.base, &self.judges), data.generations());
        let drawn = Rc::new(Seed { probes, generations });
        self.seeds.insert(seed, drawn.clone());
        Ok(drawn)
    }

    /// The base with `layers` merged.
    fn start(&mut self, layers: &[Layered]) -> Result<Arc<dyn Backbone>> {
        let places: Vec<_> = layers.iter().map(|layer| layer.place.clone()).collect();
        if let Some((_, model)) = self.start.as_ref().filter(|(known, _)| *known == places) {
            return Ok(model.clone());
        }
        // Never are two models held.
        self.start = None;
        let model = match layers {
            [] => self.base.model()?,
            layers => self.base.load(&finished::merged(&self.base, layers)?)?,
        };
        self.start = Some((places, model.clone()));
        Ok(model)
    }
}

/// How a recipe has answers generated.
fn generation(recipe: &Recipe) -> Value {
    match &recipe.data {
        Data::World(world) => json!(world.max_new_tokens),
        Data::Files(files) => {
            let draws = (files.sampling.temperature != 0.0).then_some(&recipe.settings.seeds);
            json!([files.max_new_tokens, files.task_new_tokens, files.sampling, draws])
        }
    }
}
