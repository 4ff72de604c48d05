//! One stage of one model: what the loop is given.

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;
use vxf_core::minmax::Training;
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::schedule::Schedule;
use vxf_core::step::Session;
use vxf_core::stream::{Stream, Streams};
use vxf_core::{Backbone, Key, Params};

use crate::dataset::Set;
use crate::recipe::Method;
use crate::settings::TrainingSettings;
use crate::{Error, Result};

/// A stage before its first step.
pub struct StagePlan<'a> {
    /// The method.
    pub method: &'a Method,
    /// How it is trained.
    pub settings: &'a TrainingSettings,
    /// The main stream and the others, by name.
    pub streams: &'a [(&'static str, &'a Set)],
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
        for (name, set) in self.streams {
            let order = key.child("order").child(name);
            let examples = set.examples.clone();
            let stream = Stream::new(examples, settings.batch_size, settings.order.into(), order);
            streams.insert(name, stream)?;
        }
        let (main, set) = self.streams[0];
        let total = settings.steps(set.examples.len());
        let mut session = Session::new(streams, main, key.child("session"));
        session.accumulation = settings.accumulation;
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

/// Writes weights under their own names.
///
/// # Errors
/// When the file cannot be written.
pub fn save(weights: &Params, path: &Path) -> Result<()> {
    let tensors = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone()));
    let tensors: std::collections::HashMap<String, Tensor> = tensors.collect();
    candle_core::safetensors::save(&tensors, path)?;
    Ok(())
}

/// Reads weights that [`save`] wrote for `backbone`.
///
/// # Errors
/// When the file is damaged, or its tensors are not those that `backbone` trains.
pub fn load(backbone: &dyn Backbone, path: &Path) -> Result<Params> {
    let fail = |problem: String| Error::NoRun { path: path.to_owned(), problem };
    let read = candle_core::safetensors::load(path, backbone.device());
    let mut tensors = read.map_err(|error| fail(format!("cannot be read: {error}")))?;
    let mut weights = Params::new();
    for parameter in backbone.parameters() {
        let name = &parameter.name;
        let tensor = tensors.remove(name).ok_or_else(|| fail(format!("has no tensor `{name}`")))?;
        if tensor.dims() != parameter.shape {
            let (found, wanted) = (tensor.dims(), &parameter.shape);
            return Err(fail(format!("tensor `{name}` has shape {found:?}, not {wanted:?}")));
        }
        weights.insert(name, tensor.to_dtype(backbone.dtype())?);
    }
    Ok(weights)
}
