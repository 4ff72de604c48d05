//! Estimates the cost of a recipe from configurations and counts, without loading weights.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::DType;
use serde::Serialize;
use vxf_access::device::device;
use vxf_access::{Access, Base};
use vxf_core::Stage;
use vxf_data::DataContext;
use vxf_hf::{Outline, outline};
use vxf_recipe::settings::Keep;
use vxf_recipe::{Experiment, Recipe, StageRecipe};

use super::check;
use super::cost::{self, Sizes, Workload};
use super::graph::{Graph, Role};
use super::rate::rate;
use crate::measure::SeedData;
use crate::measure::data::SetName;
use crate::store::finished;
use crate::{Error, Result};

/// The estimated cost of a recipe.
#[derive(Debug, Serialize)]
pub struct Estimate {
    /// The size of the model.
    pub model: ModelCost,
    /// The cost of each stage of the first tested pipeline, for one seed and one ratio.
    pub stages: Vec<StageCost>,
    /// Seconds for the operations of all runs, without measuring.
    pub seconds: f64,
    /// What is recomputed in the backward pass.
    pub recompute: Keep,
    /// The smallest difference that the design could see.
    pub detectable: Option<Detectable>,
    /// Missing inputs, for which figures are upper bounds from the recipe.
    pub absent: Vec<String>,
    /// The report on the data files, if all of them are available.
    pub report: Option<vxf_data::DataReport>,
    /// The runs.
    #[serde(skip)]
    pub graph: Graph,
}

/// The smallest difference of two harmful scores, in points, that a design finds in four of five
/// repetitions at a level of 5 %.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Detectable {
    /// Seeds.
    pub seeds: usize,
    /// Harmful prompts under each.
    pub prompts: usize,
    /// By prompts alone, for these seeds and no others, where both scores are near 50 %.
    pub by_prompts: f64,
    /// For other seeds too, if a seed's difference varies by 10 points and by 20 (standard deviation);
    /// none of a single seed.
    pub by_seeds: Option<[f64; 2]>,
}

impl Detectable {
    fn of(seeds: usize, prompts: usize) -> Option<Self> {
        if seeds == 0 || prompts == 0 {
            return None;
        }
        // Two independent throws of a fair coin differ with a variance of 1/2.
        let coin = 0.5 / prompts as f64;
        let normal = vxf_stats::Z95 + NORMAL_80;
        let by_prompts = 100.0 * normal * (coin / seeds as f64).sqrt();
        let over = |sd: f64| vxf_stats::detectable((sd * sd + coin).sqrt(), seeds);
        let points = |sd: f64| Some(100.0 * over(sd)?.min(1.0));
        let by_seeds = points(0.10).zip(points(0.20)).map(|(few, many)| [few, many]);
        Some(Self { seeds, prompts, by_prompts: by_prompts.min(100.0), by_seeds })
    }
}

/// The 80 % quantile of the normal distribution.
const NORMAL_80: f64 = 0.841_621_233_572_914_3;

/// The size of a model.
#[derive(Debug, Serialize)]
pub struct ModelCost {
    /// Its name.
    pub name: String,
    /// The model family.
    pub family: String,
    /// Number of weights.
    pub weights: usize,
    /// Size of its weights in bytes, in the type it computes in.
    pub bytes: u64,
}

/// The cost of a stage.
#[derive(Debug, Serialize)]
pub struct StageCost {
    /// The stage.
    pub stage: Stage,
    /// The method.
    pub method: String,
    /// Number of samples.
    pub samples: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Tokens read in all steps, without padding.
    pub tokens: u64,
    /// Whether samples and tokens were counted; otherwise they are upper bounds.
    pub counted: bool,
    /// Number of trained weights.
    pub trainable: usize,
    /// Memory during training in bytes, including the model.
    pub bytes: u64,
    /// Floating-point operations of all steps.
    pub operations: f64,
    /// Seconds, at the current speed of matrix products on this machine.
    pub seconds: f64,
}

impl Estimate {
    /// Estimates `experiment`. For missing models and data, the recipe's own description is used.
    ///
    /// # Errors
    /// When the recipe breaks a rule, an available input is invalid, or the model is missing and not
    /// described.
    pub fn of(experiment: &Experiment, access: Access) -> Result<Self> {
        let access = Arc::new(access);
        let recipe = experiment.recipe();
        let source = finished::source(recipe)?;
        let graph = Graph::of(experiment, source.as_ref())?;
        check::sets(experiment, &graph)?;
        let mut absent = Vec::new();
        let base = here(Base::open(recipe, &access).map_err(Error::from), &mut absent)?;
        let outline = match &base {
            Some(base) => base.outline.clone(),
            None => described(recipe)?,
        };
        check::model(&graph, &outline, recipe.model.quantize)?;
        let (data, report) = drawn(recipe, base.as_ref(), &access, &mut absent)?;

        let device = device(&recipe.settings.device)?;
        let rate = rate(&device, DType::from(recipe.model.dtype))?;
        let ratio = recipe.settings.harmful_ratios.iter().copied().fold(0.0, f64::max);
        let load = |recipe: &Recipe, stage: &StageRecipe| {
            let set =
                data.as_ref().and_then(|data| data.set(&SetName::new(&stage.set, Some(ratio))));
            set.map_or_else(|| Workload::bound(recipe, &outline, &stage.set), Workload::counted)
        };
        let longest = recipe.stages().map(|stage| load(recipe, stage).longest).max().unwrap_or(0);
        let recompute = cost::recompute(recipe, &outline, longest, 1, &device)?;
        let sizes = Sizes { rate, ..Sizes::of(recipe, &outline, &device, recompute) };
        let mut stages = Vec::new();
        for stage in tested(&graph).filter(|stage| stage.trains()) {
            stages.push(sizes.stage(stage, &load(recipe, stage))?);
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
            bytes: sizes.model_bytes(),
        };
        let prompts = data.as_ref().map_or(0, |data| data.prompts("harmful"));
        let detectable = Detectable::of(recipe.settings.seeds.len(), prompts);
        let recompute = recompute.into();
        Ok(Self { model, stages, seconds, recompute, detectable, absent, report, graph })
    }
}

/// The stages of the tested method at the first point, as they run.
fn tested(graph: &Graph) -> impl Iterator<Item = &StageRecipe> {
    let mut finals = graph.finals.iter();
    let last = finals.find(|last| last.point == 0 && last.role == Role::Tested);
    let run = last.and_then(|last| last.runs.first());
    let lineage = run.map_or_else(Vec::new, |run| graph.lineage(*run));
    lineage.into_iter().map(|run| &graph.runs[run].stage)
}

/// The outline of a model that is not here, as the recipe describes it.
fn described(recipe: &Recipe) -> Result<Outline> {
    if recipe.model.shape.is_empty() {
        return Err(Error::NoShape { model: recipe.model.path.clone() });
    }
    let shape = serde_json::Value::Object(recipe.model.shape.clone());
    Ok(outline(&shape, "model.shape")?)
}

/// The data of the first seed and its report, if all files are available.
fn drawn(
    recipe: &Recipe,
    base: Option<&Base>,
    access: &Arc<Access>,
    absent: &mut Vec<String>,
) -> Result<(Option<SeedData>, Option<vxf_data::DataReport>)> {
    let seed = recipe.settings.seeds.first().copied().unwrap_or_default();
    let ratios = recipe.settings.harmful_ratios.clone();
    let context = DataContext {
        ratios: ratios.clone(),
        locate: access.clone(),
        check: base.map(Base::check),
    };
    let source = here(recipe.data.config.open(&context).map_err(Error::from), absent)?;
    let (Some(base), Some(source)) = (base, source) else { return Ok((None, None)) };
    let mut sets = BTreeSet::new();
    for stage in recipe.stages() {
        let needs = stage.needs().streams.into_iter().map(|need| need.set().to_owned());
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
            // An estimate never uses the network, whether or not the user forbade it.
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

#[cfg(test)]
mod tests {
    use super::Detectable;

    #[test]
    fn more_seeds_and_prompts_see_smaller_differences() {
        let of = |seeds, prompts| Detectable::of(seeds, prompts).expect("a design");
        let (few, many) = (of(3, 60), of(10, 60));
        // 2.80 standard errors, sqrt(0.5 / 180).
        assert!((few.by_prompts - 14.77).abs() < 0.02, "{few:?}");
        let [steady, unsteady] = few.by_seeds.expect("three seeds");
        assert!(steady > few.by_prompts && unsteady > steady, "{few:?}");
        assert!(many.by_seeds.is_some_and(|[it, _]| it < steady / 2.0), "{many:?}");
        assert!(of(3, 500).by_prompts < few.by_prompts);
        assert!(of(1, 60).by_seeds.is_none() && Detectable::of(3, 0).is_none());
    }
}
