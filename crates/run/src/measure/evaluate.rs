//! Evaluates a model, or a finished run again with other metrics, judges or data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};
use vxf_core::config::BuildContext;
use vxf_core::generate::NoCache;
use vxf_core::metric::{Model, Probes};
use vxf_core::{Backbone, Params};
use vxf_data::{DataContext, DataSource, TemplateChoice};
use vxf_recipe::Recipe;

use super::data::SeedData;
use super::generate::reason;
use super::judges::Judges;
use super::metrics::{self, Measured, Pair};
use super::stored_answers::StoredAnswers;
use crate::Result;
use crate::execute::stage;
use crate::store::finished::{self, Run, StageWeights};
use vxf_access::{Access, Base};

/// The result of an evaluation.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// Figures, answers and failures.
    pub measured: Measured,
    /// The seed of the data.
    pub seed: u64,
    /// Sets of prompts whose stored answers were reused.
    pub kept: Vec<String>,
    /// Sets of prompts whose stored answers did not match the prompts or generation settings, so that new
    /// ones were generated.
    pub other: Vec<String>,
}

/// Evaluates any number of runs with one recipe. The model is opened once, judges are built once, and
/// data is read once and drawn once per seed.
pub struct Evaluator<'a> {
    recipe: &'a Recipe,
    access: &'a Access,
    base: Base,
    judges: Judges,
    source: Box<dyn DataSource>,
    seeds: BTreeMap<u64, Rc<Seed>>,
    /// Start and reference models, by the layers merged into the base.
    models: Vec<(Vec<PathBuf>, Arc<dyn Backbone>)>,
}

/// The test data of one seed.
struct Seed {
    probes: Probes,
    generations: BTreeMap<String, String>,
}

impl<'a> Evaluator<'a> {
    /// Opens the model of `recipe` and its data, and builds its judges.
    ///
    /// # Errors
    /// When the model, the data or a judge cannot be used.
    pub fn new(recipe: &'a Recipe, access: &'a Arc<Access>) -> Result<Self> {
        let base = Base::open(recipe, access)?;
        if recipe.data.config.template() == TemplateChoice::Auto {
            let used = base.codec.template();
            access.note(&format!("template {used}: {}", reason(used)));
        }
        let judges = Judges::build(recipe, &base, access)?;
        let ratios = recipe.settings.harmful_ratios.clone();
        let context = DataContext { ratios, locate: access.clone(), check: Some(base.check()) };
        let source = recipe.data.config.open(&context)?;
        let (seeds, models) = (BTreeMap::new(), Vec::new());
        Ok(Self { recipe, access, base, judges, source, seeds, models })
    }

    /// The base model.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Evaluates the recipe's model as it is, on the data of the recipe's first seed.
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
        let locate = |name: &str| self.access.model_for_plugin(name);
        let context = BuildContext { device: self.base.device(), model: &locate };
        let measured = metrics::everything(pair, probes, &metrics, kept, &NoCache, &context)?;
        Ok(Evaluation { measured, seed, ..Evaluation::default() })
    }

    /// Evaluates a finished run on the data of its own seed. If the recipe has other seeds than `own`,
    /// the recipe of the run's experiment, the first of those is used. Stored answers to the same prompts
    /// are reused, unless `anew` is set.
    ///
    /// # Errors
    /// As [`Evaluator::model`], and when the run's weights are missing.
    pub fn run(&mut self, run: Run, own: &Recipe, anew: bool) -> Result<Evaluation> {
        self.access.examine(&run.place);
        let asked = &self.recipe.settings.seeds;
        let seed = match *asked == own.settings.seeds {
            true => run.record.id.seed,
            false => asked.first().copied().unwrap_or(run.record.id.seed),
        };
        let drawn = self.drawn(seed)?;
        let Seed { probes, generations } = &*drawn;
        let mut stored = StoredAnswers::default();
        if !anew {
            let same = generation(self.recipe) == generation(own);
            stored = StoredAnswers::read(&run.place, &run.record, probes, generations, same)?;
        }
        let whole = std::mem::take(&mut stored.whole);
        let kept = whole.keys().cloned().collect();

        let record = run.record.clone();
        let lineage = run.lineage()?;
        let mut layers = finished::layers(&lineage);
        // What the run trained, or its parent's adapter if it changed nothing of that, stays separate, so that its
        // start model is available too.
        let last = if record.has_weights() || record.continues { layers.pop() } else { None };
        let parent = &lineage[..lineage.len() - 1];
        let earlier = parent.iter().filter(|run| run.record.stage == record.stage).count();
        let key = stage::key(record.id.seed, record.stage, earlier);
        let (backbone, fresh) = stage::trainable(&self.merged(&layers)?, &record.trainable, &key)?;
        let begun = match record.continues.then(|| finished::layers(parent).pop()).flatten() {
            Some(adapter) => adapter.weights(&self.base)?,
            None => fresh,
        };
        let weights = match &last {
            Some(last) => last.weights(&self.base)?,
            None => begun.copy()?,
        };
        let with = |weights| Model { backbone: &*backbone, weights };
        // As in the run itself: a model that started from the aligned one is compared with its own start.
        let apart = finished::apart(&record.id, parent);
        let apart = apart.map(|runs| self.merged(&finished::layers(runs))).transpose()?;
        let none = Params::new();
        let aligned = match &apart {
            Some(apart) => Some(Model { backbone: &**apart, weights: &none }),
            None => record.id.ratio.map(|_| with(&begun)),
        };
        let pair = Pair { model: with(&weights), aligned };
        let metrics: Vec<_> = self.recipe.metrics.iter().collect();
        let locate = |name: &str| self.access.model_for_plugin(name);
        let context = BuildContext { device: self.base.device(), model: &locate };
        let measured = metrics::everything(pair, probes, &metrics, whole, &stored, &context)?;
        Ok(Evaluation { measured, seed, kept, other: stored.other })
    }

    /// The data of `seed`.
    fn drawn(&mut self, seed: u64) -> Result<Rc<Seed>> {
        if let Some(known) = self.seeds.get(&seed) {
            return Ok(known.clone());
        }
        let none = BTreeSet::new();
        let data = SeedData::draw(&*self.source, self.recipe, &self.base, seed, &none)?;
        self.source.warnings().iter().for_each(|warning| self.access.warn(warning));
        let probes = data.probes(&self.base, &self.judges);
        let drawn = Rc::new(Seed { probes, generations: data.generations() });
        self.seeds.insert(seed, drawn.clone());
        Ok(drawn)
    }

    /// The base with `layers` merged.
    fn merged(&mut self, layers: &[StageWeights]) -> Result<Arc<dyn Backbone>> {
        let places: Vec<_> = layers.iter().map(|layer| layer.place.clone()).collect();
        if let Some((_, model)) = self.models.iter().find(|(known, _)| *known == places) {
            return Ok(model.clone());
        }
        // A run and its aligned model: never more than two are held.
        self.models.truncate(1);
        let model = match layers {
            [] => self.base.model()?,
            layers => self.base.load(&finished::merged(&self.base, layers)?)?,
        };
        self.models.insert(0, (places, model.clone()));
        Ok(model)
    }
}

/// The generation settings of a recipe, for records that do not contain them.
fn generation(recipe: &Recipe) -> Value {
    let data = recipe.data.value();
    let of = |key: &str| data.get(key).cloned().unwrap_or_default();
    let sampling = of("sampling");
    let draws = sampling["temperature"].as_f64().is_some_and(|t| t != 0.0);
    let seeds = draws.then_some(&recipe.settings.seeds);
    json!([of("max_new_tokens"), of("task_new_tokens"), sampling, seeds])
}
