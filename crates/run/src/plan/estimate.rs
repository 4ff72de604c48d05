//! What a recipe would cost, from configurations and counts: no weights are loaded.

use candle_core::DType;
use serde::Serialize;
use vxf_core::Stage;
use vxf_hf::outline;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use vxf_data::DataContext;
use vxf_recipe::settings::Keep;
use vxf_recipe::{Experiment, Recipe, StageRecipe};

use super::check;
use super::cost::{self, Load, Sizes, rate};
use super::graph::Graph;
use crate::access::Access;
use crate::device::device;
use crate::measure::SeedData;
use crate::measure::data::SetName;
use crate::model::Base;
use crate::store::Run;
use crate::{Error, Result};

/// What a recipe would do and cost, from configurations and counts.
#[derive(Debug, Serialize)]
pub struct Prospect {
    /// The model's measures.
    pub model: ModelCost,
    /// What each stage of the first pipeline under test takes, for one seed and one ratio.
    pub stages: Vec<StageCost>,
    /// Seconds for all runs, measuring not counted; for the operations alone.
    pub seconds: f64,
    /// What is computed again in the backward pass.
    pub recompute: Keep,
    /// What is not at hand yet, so that figures are bounds taken from the recipe.
    pub absent: Vec<String>,
    /// The report on the files, where all of them are here.
    pub report: Option<vxf_data::DataReport>,
    /// The runs.
    #[serde(skip)]
    pub graph: Graph,
}

/// What a model takes.
#[derive(Debug, Serialize)]
pub struct ModelCost {
    /// Its name.
    pub name: String,
    /// The registered family.
    pub family: String,
    /// How many weights it has.
    pub weights: usize,
    /// Bytes of its weights in the type that it computes in.
    pub bytes: u64,
}

/// What a stage takes.
#[derive(Debug, Serialize)]
pub struct StageCost {
    /// The stage.
    pub stage: Stage,
    /// The method.
    pub method: String,
    /// Samples.
    pub samples: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens read in all its steps, padding not counted.
    pub tokens: u64,
    /// Whether samples and tokens were counted; else they are bounds.
    pub counted: bool,
    /// How many weights are trained.
    pub trainable: usize,
    /// Bytes held while it trains, the model included.
    pub bytes: u64,
    /// Floating-point operations in all its steps.
    pub operations: f64,
    /// Seconds, at the rate that this machine multiplies matrices at now.
    pub seconds: f64,
}

impl Prospect {
    /// Looks at `experiment`. Models and data that are not here are taken from what it says of them.
    ///
    /// # Errors
    /// When the recipe breaks a rule, something that is here is broken, or the model is neither here nor
    /// described.
    pub fn of(experiment: &Experiment, access: Access) -> Result<Self> {
        let access = Arc::new(access);
        let recipe = experiment.recipe();
        let source = match recipe.settings.from.as_str() {
            "" => None,
            from => Some(Run::to_start_from(Path::new(from))?.source()?),
        };
        let graph = Graph::of(experiment, source.as_ref())?;
        check::sets(experiment, &graph)?;
        let mut absent = Vec::new();
        let base = here(Base::open(recipe, &access), &mut absent)?;
        let outline = match &base {
            Some(base) => base.outline.clone(),
            None if recipe.model.shape.is_empty() => {
                return Err(Error::NoShape { model: recipe.model.path.clone() });
            }
            None => {
                let shape = serde_json::Value::Object(recipe.model.shape.clone());
                outline(&shape, "model.shape")?
            }
        };
        check::model(&graph, &outline)?;
        let (data, report) = drawn(recipe, base.as_ref(), &access, &mut absent)?;

        let device = device(&recipe.settings.device)?;
        let rate = rate(&device, recipe.model.dtype.into())?;
        let bytes_each = DType::from(recipe.model.dtype).size_in_bytes() as u64;
        let ratio = recipe.settings.harmful_ratios.iter().copied().fold(0.0, f64::max);
        let load = |recipe: &Recipe, stage: &StageRecipe| {
            let set =
                data.as_ref().and_then(|data| data.set(&SetName::new(&stage.set, Some(ratio))));
            set.map_or_else(|| Load::bound(recipe, &stage.set), Load::counted)
        };
        let longest = recipe.stages().map(|stage| load(recipe, stage).longest).max().unwrap_or(0);
        let recompute = cost::recompute(recipe, &outline, longest, 1, &device)?;
        let logits = cost::logits(&device);
        let sizes = Sizes { outline: &outline, bytes_each, recompute, rate, logits };
        let mut stages = Vec::new();
        for stage in recipe.stages().filter(|stage| stage.trains()) {
            let mut stage = stage.clone();
            if stage.training.continue_adapter
                && let Some(first) = recipe.pipeline.first()
            {
                stage.training.trainable = first.training.trainable.clone();
            }
            stages.push(sizes.stage(&stage, &load(recipe, &stage))?);
        }
        let mut seconds = 0.0;
        for run in &graph.runs {
            let recipe = &experiment.points[run.point].recipe;
            seconds += sizes.stage(&run.stage, &load(recipe, &run.stage))?.seconds;
        }
        let model = ModelCost {
            name: recipe.model.path.clone(),
            family: outline.architecture.family.clone(),
            weights: outline.count(),
            bytes: outline.count() as u64 * bytes_each,
        };
        Ok(Self { model, stages, seconds, recompute: recompute.into(), absent, report, graph })
    }
}

/// The data of the first seed and the report on it, where all of it is here.
fn drawn(
    recipe: &Recipe,
    base: Option<&Base>,
    access: &Arc<Access>,
    absent: &mut Vec<String>,
) -> Result<(Option<SeedData>, Option<vxf_data::DataReport>)> {
    let seed = recipe.settings.seeds.first().copied().unwrap_or_default();
    let ratios = recipe.settings.harmful_ratios.clone();
    let context = DataContext { ratios: ratios.clone(), locate: access.clone() };
    let source = here(recipe.data.config.open(&context).map_err(Error::from), absent)?;
    let (Some(base), Some(source)) = (base, source) else { return Ok((None, None)) };
    let mut sets = BTreeSet::new();
    for stage in recipe.stages() {
        let needs = stage.needs().streams.into_iter().map(|need| need.name);
        for name in needs.chain(stage.trains().then(|| stage.set.clone())) {
            sets.extend(ratios.iter().map(|ratio| SetName::new(&name, Some(*ratio))));
        }
    }
    sets.retain(|set| recipe.data.config.has(vxf_data::Purpose::Stream, set.name()));
    let data = SeedData::draw(&*source, recipe, base, seed, &sets)?;
    let learned = |name: &str, ratio: f64| data.learned(name, ratio);
    let report = source.report(seed, &learned)?;
    Ok((Some(data), report))
}

/// Missing inputs are listed; they are not an error.
fn here<T>(found: Result<T>, absent: &mut Vec<String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_absence() => {
            // That looking at a recipe stays off the network is no wish of the user's.
            absent.push(match error.not_cached() {
                Some(id) => {
                    format!("{id} is on the hub and not in the cache: `vxf run` downloads it")
                }
                None => error.to_string(),
            });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
