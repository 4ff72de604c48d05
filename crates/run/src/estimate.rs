//! What a recipe would cost, from configurations and counts: no weights are loaded.

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;
use vxf_core::config::{Outline, outline};
use vxf_core::{Stage, Trainable};

use crate::access::Access;
use crate::check;
use crate::data_settings::{DataSettings, Part};
use crate::dataset::{Corpus, SeedData};
use crate::model::{Base, device};
use crate::plan::Plan;
use crate::recipe::{Data, Method, Recipe};
use crate::settings::TrainingSettings;
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

        let rate = rate(&device(&recipe.settings.device)?)?;
        let bytes_each = DType::from(recipe.model.dtype).size_in_bytes() as u64;
        let sizes = Sizes { outline: &outline, bytes_each, rate };
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
        Ok(Self { model, stages, seconds, absent, report, plan })
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

/// Samples and tokens of one pass over a stage's data.
struct Load {
    samples: usize,
    tokens: usize,
    longest: usize,
    counted: bool,
}

impl Load {
    fn counted(set: &crate::dataset::Set) -> Self {
        let longest = set.examples.iter().map(|example| example.tokens.len()).max();
        let longest = longest.unwrap_or(0);
        Self { samples: set.examples.len(), tokens: set.tokens(), longest, counted: true }
    }

    fn bound(samples: usize, data: &Data) -> Self {
        let longest = match data {
            Data::World(world) => world.max_length,
            Data::Files(files) => files.max_length,
        };
        Self { samples, tokens: samples * longest, longest, counted: false }
    }
}

fn taken(data: &Data, part: Part) -> usize {
    let take = |files: &DataSettings| files.source(part).map_or(0, |source| source.take);
    match data {
        Data::World(world) => world.alignment_samples,
        Data::Files(files) => take(files),
    }
}

fn user_samples(data: &Data) -> usize {
    match data {
        Data::World(world) => world.user_samples,
        Data::Files(files) => files.user_samples + taken(data, Part::Guide),
    }
}

/// What costs are computed from.
struct Sizes<'a> {
    outline: &'a Outline,
    bytes_each: u64,
    rate: f64,
}

impl Sizes<'_> {
    fn stage(
        &self,
        stage: Stage,
        method: &Method,
        settings: &TrainingSettings,
        load: &Load,
    ) -> Result<StageCost> {
        let share = method.defense.config.perturbed_share();
        let passes = 1.0 + share * method.perturber.config.passes() as f64;
        let perturbed = method.perturber.config.sites().is_some();
        let steps = settings.steps(load.samples);
        let tokens = settings.epochs * load.tokens as u64;
        let trainable = self.trainable(&settings.trainable)?;
        let operations =
            tokens as f64 * self.operations_per_token(load.longest, passes, &settings.trainable);
        Ok(StageCost {
            stage,
            method: match method.perturber.name {
                "none" => method.defense.name.to_owned(),
                perturber => format!("{} with perturber {perturber}", method.defense.name),
            },
            samples: load.samples,
            steps,
            tokens,
            counted: load.counted,
            trainable,
            bytes: self.bytes(settings, load.longest, perturbed, trainable),
            operations,
            seconds: operations / self.rate,
        })
    }

    fn matrices(&self) -> impl Iterator<Item = (&str, [usize; 2])> {
        let tensors = self.outline.tensors.iter();
        tensors.filter_map(|(name, shape)| {
            Some((name.strip_suffix(".weight")?, <[usize; 2]>::try_from(shape.as_slice()).ok()?))
        })
    }

    fn trainable(&self, trainable: &Trainable) -> Result<usize> {
        let parameters = self.outline.parameters(trainable)?;
        Ok(parameters.iter().map(|each| each.shape.iter().product::<usize>()).sum())
    }

    /// Multiplications and additions for one token of a step.
    ///
    /// A pass goes forward, forward again block by block (recompute), and backward through the
    /// activations; weight gradients are one more, taken in the last pass alone.
    fn operations_per_token(&self, length: usize, passes: f64, what: &Trainable) -> f64 {
        let architecture = &self.outline.architecture;
        // The embedding is a table to look up; tied, it is multiplied with as the output.
        let tables = architecture.vocabulary * architecture.width;
        let weights: usize = self.matrices().map(|(_, [out, input])| out * input).sum();
        let multiplied = weights.saturating_sub(tables).max(tables);
        // Causal attention: half of the scores and of the weighted sums.
        let attention = architecture.layers * architecture.width * length;
        let forward = 2.0 * (multiplied + attention) as f64;
        let weight_gradients = if matches!(what, Trainable::Full) { 1.0 } else { 0.0 };
        forward * (3.0 * passes + weight_gradients)
    }

    fn bytes(
        &self,
        settings: &TrainingSettings,
        length: usize,
        perturbed: bool,
        trainable: usize,
    ) -> u64 {
        let Outline { architecture, .. } = self.outline;
        let weights = self.outline.count() as u64 * self.bytes_each;
        // The values, a gradient and Adam's two moments.
        let trained = 4 * trainable as u64 * self.bytes_each.max(4);
        let positions = (settings.batch_size * length) as u64;
        // Block inputs, and one perturbation for each.
        let kept = architecture.layers as u64
            * positions
            * architecture.width as u64
            * if perturbed { 2 } else { 1 };
        // Inside one block: the outputs of its matrices with their gradients, some row-wide rest.
        let inside: usize = self
            .matrices()
            .filter(|(name, _)| name.contains(".layers.0."))
            .map(|(_, [out, _])| 2 * out)
            .sum();
        let block = positions * (inside + 8 * architecture.width) as u64;
        weights + trained + (kept + block) * self.bytes_each
    }
}

/// Operations per second of a matrix product on `device`, right now.
fn rate(device: &Device) -> Result<f64> {
    const SIDE: usize = 768;
    let a = Tensor::ones((SIDE, SIDE), DType::F32, device)?;
    let mut best = 0f64;
    for _ in 0..4 {
        let begun = Instant::now();
        let product = a.matmul(&a)?;
        device.synchronize()?;
        drop(product);
        let seconds = begun.elapsed().as_secs_f64().max(1e-9);
        best = best.max(2.0 * (SIDE as f64).powi(3) / seconds);
    }
    // The share of it that whole steps reach (docs/performance.md).
    Ok(0.6 * best)
}

#[cfg(test)]
mod tests {
    use vxf_builtins as _;

    use super::*;

    /// The measures of Llama-2-7B, as its `config.json` has them.
    fn llama() -> Outline {
        let shape = serde_json::json!({
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
            "num_hidden_layers": 32, "num_attention_heads": 32, "vocab_size": 32000,
            "max_position_embeddings": 4096,
        });
        outline(&shape, "test").expect("a Llama")
    }

    #[test]
    fn a_published_adapter_has_its_published_size() {
        let outline = llama();
        let sizes = Sizes { outline: &outline, bytes_each: 4, rate: 1e9 };
        assert_eq!(outline.count(), 6_738_415_616);
        // Rank 8 on all seven projections: 32 layers of 8 * (4 * 8192 + 3 * 15104).
        let lora = Trainable::Lora(vxf_core::Lora::default());
        assert_eq!(sizes.trainable(&lora).ok(), Some(19_988_480));
    }

    #[test]
    fn passes_cost_what_counting_says() {
        let outline = llama();
        let sizes = Sizes { outline: &outline, bytes_each: 4, rate: 1e9 };
        let lora = Trainable::Lora(vxf_core::Lora::default());
        let per = |passes, what: &Trainable| sizes.operations_per_token(200, passes, what);
        assert!((per(2.0, &lora) / per(1.0, &lora) - 2.0).abs() < 1e-9);
        assert!((per(2.0, &Trainable::Full) / per(1.0, &Trainable::Full) - 1.75).abs() < 1e-9);
        // One forward pass is about two operations for each of its 6.6 billion matrix entries.
        assert!((per(1.0, &lora) / 3.0 / 2.0 - 6.6e9).abs() < 0.1e9);
    }
}
