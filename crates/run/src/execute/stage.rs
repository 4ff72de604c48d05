//! Prepares the training of one stage for the loop.

use std::collections::BTreeMap;
use std::sync::Arc;

use vxf_core::config::BuildContext;
use vxf_core::engine::Recompute;
use vxf_core::lineage::Lineage;
use vxf_core::minmax::Training;
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::schedule::Schedule;
use vxf_core::step::Session;
use vxf_core::stream::{Stream, Streams};
use vxf_core::{Backbone, Composition, Defense, Example, Key, Params, Reference, Stage, Trainable};
use vxf_recipe::StageRecipe;

use crate::Result;
use crate::measure::Set;

/// A training set as a stage reads it.
pub struct Read<'a> {
    /// The stream's name.
    pub name: &'a str,
    /// Its samples.
    pub set: &'a Set,
    /// Samples in a batch.
    pub batch_size: usize,
    /// The number of its first samples that are read; all if none is given.
    pub first: Option<usize>,
}

impl Read<'_> {
    fn examples(&self) -> Arc<Vec<Example>> {
        match self.first.filter(|first| *first < self.set.examples.len()) {
            Some(first) => Arc::new(self.set.examples[..first].to_vec()),
            None => self.set.examples.clone(),
        }
    }
}

/// Everything a stage needs before its first step.
pub struct StagePlan<'a> {
    /// Method, perturber and training settings.
    pub stage: &'a StageRecipe,
    /// The main stream first, then the others.
    pub streams: Vec<Read<'a>>,
    /// The reference models.
    pub references: BTreeMap<Reference, Arc<dyn Lineage>>,
    /// What is kept for the backward pass.
    pub recompute: Recompute,
    /// The root key of the stage's randomness; the same for every method under one seed.
    pub key: Key,
}

/// The model with the trainable weights of `settings`, and their start values.
///
/// # Errors
/// When an adapter names a layer that the model does not have.
pub fn trainable(
    base: &Arc<dyn Backbone>,
    trainable: &Trainable,
    key: &Key,
) -> Result<(Arc<dyn Backbone>, Params)> {
    let backbone = base.with_trainable(trainable)?;
    let start = backbone.initial(&key.child("adapter"))?;
    Ok((backbone, start))
}

/// The root key of the randomness of a stage after `earlier` ones of its kind: the same for every method under one seed.
pub(crate) fn key(seed: u64, kind: Stage, earlier: usize) -> Key {
    let key = Key::root(seed).child(&kind.to_string());
    match earlier {
        0 => key,
        earlier => key.index(earlier as u64),
    }
}

/// The method of a stage: its defence, or the composition of several.
///
/// # Errors
/// When a method cannot be built.
pub fn method(stage: &StageRecipe, context: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
    if let [method] = stage.methods.as_slice()
        && method.config.makes_gradient()
    {
        return Ok(method.config.build(context)?);
    }
    let mut composition = Composition::new();
    for method in &stage.methods {
        let built = method.config.build(context)?;
        composition = composition.with(method.name, built, method.config.makes_gradient());
    }
    Ok(Box::new(composition))
}

impl StagePlan<'_> {
    /// The training of `backbone` from `start`, which is not changed.
    ///
    /// # Errors
    /// When a stream has no samples, or a plugin cannot be built.
    pub fn training<'b>(
        &self,
        backbone: &'b dyn Backbone,
        start: &Params,
        context: &BuildContext<'_>,
    ) -> Result<Training<'b>> {
        let Self { stage, key, .. } = self;
        let settings = &stage.training;
        // Make leaves once: the optimiser updates them in place, and no pass copies them.
        let weights = start.detach().leaves()?;
        let mut streams = Streams::new();
        for read in &self.streams {
            // A stage that does not train may have no samples of its own.
            if read.set.is_empty() && !stage.trains() {
                continue;
            }
            let order = key.child("order").child(read.name);
            let stream = Stream::new(read.examples(), read.batch_size, settings.order, order);
            streams.insert(read.name, stream)?;
        }
        let main = &self.streams[0];
        let total = match stage.trains() {
            true => settings.steps(main.set.examples.len()),
            false => 0,
        };
        let mut session = Session::new(streams, main.name, key.child("session"));
        session.accumulation = settings.accumulation;
        session.recompute = self.recompute;
        session.references = self.references.clone();
        let adam = AdamWConfig { weight_decay: settings.weight_decay, ..Default::default() };
        // Without steps, no moments are needed.
        let moved = if total > 0 { weights.clone() } else { Params::new() };
        Ok(Training {
            backbone,
            optimizer: AdamW::new(adam, &backbone.parameters(), &moved)?,
            weights,
            defense: method(stage, context)?,
            perturber: stage.perturber.config.build(context)?,
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
