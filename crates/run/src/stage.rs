//! One stage of one model: what the loop is given.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::engine::Recompute;
use vxf_core::minmax::Training;
use vxf_core::numeric::trained_in;
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::schedule::Schedule;
use vxf_core::step::Session;
use vxf_core::stream::{Stream, Streams};
use vxf_core::{Backbone, Key, Params, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::peft;

use crate::Result;
use crate::dataset::Set;
use vxf_recipe::Method;
use vxf_recipe::settings::TrainingSettings;

/// A stage before its first step.
pub struct StagePlan<'a> {
    /// The method.
    pub method: &'a Method,
    /// How it is trained.
    pub settings: &'a TrainingSettings,
    /// The main stream and the others, by name.
    pub streams: &'a [(&'static str, &'a Set)],
    /// What is kept for the backward pass.
    pub recompute: Recompute,
    /// Root of the stage's randomness; the same for every method under one seed.
    pub key: Key,
}

/// The model with the trainable set of `settings`, and the weights it starts from.
///
/// # Errors
/// When the model has no layer that the adapter asks for.
pub fn trainable(
    base: &Arc<dyn Backbone>,
    settings: &TrainingSettings,
    key: &Key,
) -> Result<(Arc<dyn Backbone>, Params)> {
    let backbone = base.with_trainable(&settings.trainable)?;
    let start = backbone.initial(&key.child("adapter"))?;
    Ok((backbone, start))
}

impl StagePlan<'_> {
    /// The training of `backbone` from `start`, which stays as it is.
    ///
    /// # Errors
    /// When a stream has no samples.
    pub fn training<'b>(&self, backbone: &'b dyn Backbone, start: &Params) -> Result<Training<'b>> {
        let Self { settings, key, .. } = self;
        // Leaves once and for all: the optimiser moves them in place, and no pass copies them.
        let weights = start.detach().leaves()?;
        let mut streams = Streams::new();
        // A stream without samples is one that this stage does not have.
        for (name, set) in self.streams.iter().filter(|(_, set)| !set.is_empty()) {
            let order = key.child("order").child(name);
            let examples = set.examples.clone();
            let stream = Stream::new(examples, settings.batch_size, settings.order.into(), order);
            streams.insert(name, stream)?;
        }
        let (main, set) = self.streams[0];
        let total = settings.steps(set.examples.len());
        let mut session = Session::new(streams, main, key.child("session"));
        session.accumulation = settings.accumulation;
        session.recompute = self.recompute;
        let adam = AdamWConfig { weight_decay: settings.weight_decay, ..Default::default() };
        Ok(Training {
            backbone,
            optimizer: AdamW::new(adam, &backbone.parameters(), &weights)?,
            weights,
            defense: self.method.defense.config.build(),
            perturber: self.method.perturber.config.build(),
            session,
            schedule: Schedule {
                peak: settings.learning_rate,
                decay: settings.schedule,
                warmup: settings.warmup(total),
                total,
            },
            max_gradient_norm: Some(settings.max_gradient_norm).filter(|norm| *norm > 0.0),
            next: 0,
        })
    }
}

/// Writes what a stage trained into the directory `place`: an adapter in PEFT's layout as
/// `adapter/`, made for the model `base`; or all weights as `model.safetensors`.
///
/// # Errors
/// When it cannot be written.
pub fn save(trainable: &Trainable, weights: &Params, base: &str, place: &Path) -> Result<()> {
    match trainable {
        Trainable::Lora(lora) => peft::write(&place.join(ADAPTER), lora, weights, Some(base))?,
        Trainable::Full => {
            let tensors = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone()));
            let tensors: std::collections::HashMap<String, Tensor> = tensors.collect();
            candle_core::safetensors::save(&tensors, place.join(WEIGHTS))?;
        }
    }
    Ok(())
}

/// Reads what [`save`] wrote into `place`, for a model that computes in `dtype` on `device`.
///
/// # Errors
/// When it is missing or damaged.
pub fn load(trainable: &Trainable, place: &Path, dtype: DType, device: &Device) -> Result<Params> {
    let dtype = trained_in(dtype);
    if let Trainable::Lora(_) = trainable {
        return Ok(peft::read(&place.join(ADAPTER), dtype, device)?.1);
    }
    let weights = Checkpoint::weights(&place.join(WEIGHTS), dtype)?;
    Ok(weights.map(|weight| Ok(weight.to_device(device)?))?)
}

const ADAPTER: &str = "adapter";
const WEIGHTS: &str = "model.safetensors";
