//! What a recipe would cost, from configurations and counts: no weights are loaded.

use candle_core::DType;
use serde::Serialize;
use vxf_core::Stage;
use vxf_core::config::outline;

use crate::access::Access;
use crate::check;
use crate::cost::{self, Load, Sizes, rate, taken, user_samples};
use crate::data_settings::Part;
use crate::dataset::{Corpus, SeedData};
use crate::device::device;
use crate::model::Base;
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::settings::{Keep, TrainingSettings};
use crate::{Error, Result, report};

/// A recipe looked at from outside.
#[derive(Debug, Serialize)]
pub struct Prospect {
    /// The model's measures.
    pub model: ModelCost,
    /// What each stage of the method under test takes, for one seed and one ratio.
    pub stages: Vec<StageCost>,
    /// Seconds for all cells, measuring not counted; for the operations alone.
    pub seconds: f64,
    /// What is computed again in the backward pass.
    pub recompute: Keep,
    /// What is not at hand yet, so that figures are bounds taken from the recipe.
    pub absent: Vec<String>,
    /// The report on the files, where all of them are here.
    pub report: Option<vxf_data::DataReport>,
    /// What the recipe consists of.
    #[serde(skip)]
    pub plan: Plan,
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
    /// Looks at `recipe`. Models and data that are not here are taken from what it says of them.
    ///
    /// # Errors
    /// When the recipe cannot be meant, something that is here is broken, or the model is neither
    /// here nor described.
    pub fn of(recipe: &Recipe, access: &Access) -> Result<Self> {
        let plan = Plan::of(recipe)?;
        check::parts(recipe, &plan)?;
        let mut absent = Vec::new();
        let base = here(Base::open(recipe, access), &mut absent)?;
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
        check::model(recipe, &plan, &outline)?;

        let seed = recipe.settings.seeds.first().copied().unwrap_or_default();
        let corpus = here(Corpus::read(recipe, access, seed), &mut absent)?;
        let (mut data, mut report) = (None, None);
        if let (Some(base), Some(corpus)) = (&base, &corpus) {
            let drawn = SeedData::draw(recipe, base, corpus, seed)?;
            report = report::of(recipe, corpus, &drawn, seed)?;
            data = Some(drawn);
        }

        let device = device(&recipe.settings.device)?;
        let dtype = DType::from(recipe.model.dtype);
        let rate = rate(&device, dtype)?;
        let bytes_each = dtype.size_in_bytes() as u64;
        let longest = cost::longest(recipe, data.as_ref());
        let recompute = cost::recompute(recipe, &outline, longest, 1, &device)?;
        let logits = cost::logits(&device);
        let sizes = Sizes { outline: &outline, bytes_each, recompute, rate, logits };
        let mut stages = Vec::new();
        if recipe.settings.stages.include(Stage::Alignment) {
            let load = match (&data, &recipe.data) {
                (Some(data), _) => Load::counted(&data.alignment),
                (None, data) => Load::bound(taken(data, Part::Alignment), data),
            };
            let method = &recipe.alignment_method;
            if method.defense.config.build().trains() {
                let settings = &recipe.alignment;
                stages.push(sizes.stage(Stage::Alignment, method, settings, &load)?);
            }
        }
        if recipe.settings.stages.include(Stage::FineTuning) {
            let largest =
                data.as_ref().and_then(|data| data.user.iter().max_by_key(|u| u.tokens()));
            let load = match (largest, &recipe.data) {
                (Some(user), _) => Load::counted(user),
                (None, data) => Load::bound(user_samples(data), data),
            };
            let method = &recipe.fine_tuning_method;
            let settings = match recipe.fine_tuning.continue_adapter {
                false => recipe.fine_tuning.clone(),
                true => TrainingSettings {
                    trainable: recipe.alignment.trainable.clone(),
                    ..recipe.fine_tuning.clone()
                },
            };
            stages.push(sizes.stage(Stage::FineTuning, method, &settings, &load)?);
        }
        let model = ModelCost {
            name: recipe.model.path.clone(),
            family: outline.architecture.family.clone(),
            weights: outline.count(),
            bytes: outline.count() as u64 * bytes_each,
        };
        let seconds = whole(&plan, &stages);
        Ok(Self { model, stages, seconds, recompute: recompute.into(), absent, report, plan })
    }
}

/// What is not here is told of, and no error.
fn here<T>(found: Result<T>, absent: &mut Vec<String>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_absence() => {
            absent.push(match error {
                // That looking at a recipe stays off the network is no wish of the user's.
                Error::Hub(vxf_hub::Error::NotCached { id, .. }) => {
                    format!("{id} is on the hub and not in the cache: `vxf run` downloads it")
                }
                other => other.to_string(),
            });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Seconds of all chains: alignments once per seed, the user's stage once per arm, ratio and seed.
/// Baselines are counted as if they cost what the method under test does; they cost less.
fn whole(plan: &Plan, stages: &[StageCost]) -> f64 {
    let seeds = plan.seeds.len();
    let trains = |each: &&crate::plan::Alignment| each.method.defense.config.build().trains();
    let aligned = plan.alignments.iter().filter(trains).count();
    let times = |stage: Stage| match stage {
        Stage::Alignment => seeds * aligned,
        _ => seeds * plan.arms.len() * plan.ratios.len(),
    };
    stages.iter().map(|cost| times(cost.stage) as f64 * cost.seconds).sum()
}
