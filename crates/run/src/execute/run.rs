//! Executes one run: a stage carried out once. The same for all stages.
//!
//! Open the parent's model, give the method the streams and references it declared, train if it trains,
//! call `finish`, save, then measure. A failed metric costs only its own figures, never the weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use vxf_core::config::BuildContext;
use vxf_core::engine::Recompute;
use vxf_core::lineage::Lineage;
use vxf_core::metric::{Model, Probes};
use vxf_core::minmax::Flow;
use vxf_core::{Backbone, Params, Reference};
use vxf_report::{Failures, Record, SCHEMA_VERSION};

use super::control::Control;
use super::prepared::Prepared;
use super::progress::{Doing, Phase, Progress};
use super::stage::{self, Read, StagePlan};
use super::start::{Aligned, Ancestor, SharedStart, Start};
use crate::measure::data::SetName;
use crate::measure::metrics::Pair;
use crate::measure::{SeedData, Set, health};
use crate::plan::RunSpec;
use crate::store::checkpoints::{Checkpoints, LOG};
use crate::store::finished::{self, Run, StageWeights};
use crate::store::{Directory, files, step_log, weights};
use crate::{Error, Result};

/// Executes the runs of one experiment.
#[derive(Clone, Copy)]
pub(crate) struct Executor<'a> {
    pub(crate) prepared: &'a Prepared,
    pub(crate) directory: &'a Directory,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) recompute: Recompute,
    pub(crate) control: Control<'a>,
    pub(crate) failures: &'a Failures,
}

/// The result of a stage.
struct Outcome {
    weights: Params,
    steps: u64,
    /// Samples of the set that it trained on: those that a filter left out do not count.
    samples: usize,
    edited: bool,
    /// Seconds spent by earlier processes.
    before: f64,
    begun: Instant,
}

impl<'a> Executor<'a> {
    pub(super) fn spec(&self, run: usize) -> &'a RunSpec {
        &self.prepared.graph.runs[run]
    }

    /// Whether a run is trained and measured with all metrics.
    pub(crate) fn is_done(&self, run: usize) -> bool {
        self.prepared.is_done(self.directory, run)
    }

    pub(super) fn checkpoints(&self, run: usize) -> Checkpoints<'a> {
        self.directory.checkpoints(&self.spec(run).id, &self.prepared.digests[run])
    }

    /// The optimiser steps that remain in a run.
    pub(crate) fn steps_left(&self, run: usize) -> u64 {
        match self.directory.holds(&self.spec(run).id) {
            true => 0,
            false => {
                let all = self.prepared.steps(run);
                all.saturating_sub(self.checkpoints(run).last())
            }
        }
    }

    /// Trains the run unless that is done, then measures what is missing. `shared` is the model that it
    /// and its siblings start from.
    pub(crate) fn carry_out(&self, run: usize, shared: &SharedStart) -> Result<()> {
        if self.is_done(run) {
            return Ok(());
        }
        let id = &self.spec(run).id;
        self.control.check()?;
        self.progress.run(id);
        self.train_and_measure(run, shared).map_err(|error| match error {
            Error::Stopped | Error::Core(vxf_core::Error::Stopped) => Error::Stopped,
            source => Error::Run { run: id.to_string(), source: Box::new(source) },
        })
    }

    fn train_and_measure(&self, run: usize, shared: &SharedStart) -> Result<()> {
        let spec = self.spec(run);
        let base = &self.prepared.base;
        let lineage = self.parents(run)?;
        let settings = &spec.stage.training;
        let continues = settings.continue_adapter && !finished::layers(&lineage).is_empty();
        let given = shared.get(continues, || Start::of(base, &lineage, continues))?;
        let key = stage::key(spec.id.seed, spec.stage.kind, spec.earlier);
        let (backbone, start) = match given.adapter.as_ref() {
            Some(adapter) => (given.model.clone(), adapter.copy()?),
            None => stage::trainable(&given.model, &settings.trainable, &key)?,
        };
        let data = self.prepared.data(run);
        let probes = data.probes(base, &self.prepared.judges);
        let begun = spec.id.ratio.map(|_| Model { backbone: &*backbone, weights: &start });
        let aligned = Aligned::of(base, begun, finished::apart(&spec.id, &lineage));
        let weights = match self.directory.holds(&spec.id) {
            true => self.trained(spec, &*backbone, &start)?,
            false => {
                let plan = StagePlan {
                    stage: &spec.stage,
                    streams: self.streams(run, data)?,
                    references: self.references(spec, &lineage)?,
                    recompute: self.recompute,
                    key,
                };
                let outcome = self.train(run, &plan, &backbone, &start, &aligned, &probes)?;
                self.save(run, &*backbone, &outcome, &lineage, continues)?;
                outcome.weights
            }
        };
        let model = Model { backbone: &*backbone, weights: &weights };
        self.measure(run, Pair { model, aligned: aligned.model()? }, &probes, data)
    }

    /// The weights of a run that an earlier process trained; `start` if it trained none.
    fn trained(&self, spec: &RunSpec, backbone: &dyn Backbone, start: &Params) -> Result<Params> {
        let place = self.directory.run(&spec.id);
        if spec.stage.is_user() {
            self.report_unfollowed(&place)?;
        }
        match finished::record(&place)?.has_weights() {
            true => {
                let (stage, trainable) = (spec.stage.kind, backbone.trainable().clone());
                StageWeights { stage, trainable, place }.weights(&self.prepared.base)
            }
            false => start.copy().map_err(Error::from),
        }
    }

    /// The ancestors of `run`, the first stage first.
    fn parents(&self, run: usize) -> Result<Vec<Run>> {
        match (self.spec(run).parent, &self.prepared.source) {
            (Some(parent), _) => Run::open(&self.directory.run(&self.spec(parent).id))?.lineage(),
            (None, Some(source)) => Run::open(source)?.lineage(),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// The main stream of the run, and the streams that its method declares.
    fn streams(&self, run: usize, data: &'a SeedData) -> Result<Vec<Read<'a>>> {
        static EMPTY: std::sync::LazyLock<Set> = std::sync::LazyLock::new(Set::default);
        let RunSpec { id, stage, .. } = self.spec(run);
        let batch_size = stage.training.batch_size;
        let set =
            |name: &str| data.set(&SetName::new(name, id.ratio)).filter(|set| !set.is_empty());
        let mut all = Vec::new();
        let main = set(&stage.set).unwrap_or(&EMPTY);
        all.push(Read { name: &stage.set, set: main, batch_size, first: None });
        for need in stage.needs().streams.into_iter().filter(|need| need.name != stage.set) {
            let Some(set) = set(need.set()) else { continue };
            let name = self.prepared.stream_name(&need.name);
            let batch_size = need.batch_size.unwrap_or(batch_size);
            all.push(Read { name, set, batch_size, first: need.first });
        }
        // An empty stream is left out, except the main one: a stage without steps may have no samples.
        all.retain(|read| !read.set.is_empty() || read.name == stage.set);
        Ok(all)
    }

    /// The reference models of the method.
    fn references(
        &self,
        spec: &RunSpec,
        lineage: &[Run],
    ) -> Result<BTreeMap<Reference, Arc<dyn Lineage>>> {
        let base = &self.prepared.base;
        let mut found: BTreeMap<Reference, Arc<dyn Lineage>> = BTreeMap::new();
        for reference in spec.stage.needs().references {
            let runs = match reference {
                Reference::Base => &[],
                Reference::Aligned => finished::aligned(lineage),
                Reference::Parent => lineage,
            };
            found.insert(reference, Arc::new(Ancestor::of(base, runs)?));
        }
        Ok(found)
    }

    /// Takes all steps of a stage from its last checkpoint on, then calls `finish`.
    fn train(
        &self,
        run: usize,
        plan: &StagePlan<'_>,
        backbone: &Arc<dyn Backbone>,
        start: &Params,
        aligned: &Aligned<'_>,
        probes: &Probes,
    ) -> Result<Outcome> {
        let spec = self.spec(run);
        let begun = Instant::now();
        let checkpoints = self.checkpoints(run);
        let locate = |name: &str| self.prepared.access.model_for_plugin(name);
        let context = BuildContext { device: self.prepared.base.device(), model: &locate };
        let mut training = plan.training(&**backbone, start, &context)?;
        let total = training.schedule.total;
        let (mut log, before) = match checkpoints.resume(&|text| self.progress.note(text))? {
            None => (checkpoints.begin_log()?, 0.0),
            Some(resumed) => {
                training.resume(resumed.saved)?;
                (resumed.log, resumed.seconds)
            }
        };
        let following = self.following(run, plan, aligned, probes, &context);
        if training.next == 0 && following.is_due(0, total) {
            self.follow(run, &following, &training, &mut log)?;
        }
        let mut saved = Instant::now();
        let done = training.run(|training, seen| {
            let done = training.next;
            log.push(&json!({
                "kind": "step", "step": done, "learning_rate": seen.rate,
                "gradient_norm": seen.gradient_norm, "figures": seen.figures,
            }))?;
            if following.is_due(done, total) {
                self.follow(run, &following, training, &mut log)?;
            }
            let loss = seen.figures.get("loss").copied();
            self.progress.step(loss);
            let phase = Phase::Training { stage: spec.stage.kind, loss };
            self.progress.doing(Doing { run: &spec.id, phase, done, total });
            let stops = self.control.stops();
            if stops || self.control.every.due(done, total, saved.elapsed()) {
                let seconds = before + begun.elapsed().as_secs_f64();
                let mark = log.mark()?;
                checkpoints.save(&training.save()?, mark, seconds)?;
                saved = Instant::now();
            }
            Ok::<_, Error>(if stops { Flow::Stop } else { Flow::Continue })
        });
        // Write the rows up to a failed step, too.
        log.flush()?;
        done?;
        if training.next < total {
            return Err(Error::Stopped);
        }
        let rates = (0..total).map(|step| training.schedule.rate(step));
        health::moved(start, &training.weights, rates.fold(0.0, f64::max), total)?;
        // A stage without steps may have no stream.
        let samples = if total > 0 { training.samples()? } else { 0 };
        let finished = training.finish()?;
        if !finished.figures.is_empty() {
            log.push(&json!({ "kind": "finish", "step": total, "figures": finished.figures }))?;
            log.flush()?;
        }
        let edited = total == 0 && health::differ(start, &finished.weights)?;
        Ok(Outcome { weights: finished.weights, steps: total, samples, edited, before, begun })
    }

    /// Saves a trained run: weights, log and training record.
    fn save(
        &self,
        run: usize,
        backbone: &dyn Backbone,
        outcome: &Outcome,
        lineage: &[Run],
        continues: bool,
    ) -> Result<()> {
        let RunSpec { id, stage, .. } = self.spec(run);
        let checkpoints = self.checkpoints(run);
        let log = checkpoints.root().join(LOG);
        let data = self.prepared.data(run);
        let set = data.set(&SetName::new(&stage.set, id.ratio)).filter(|_| outcome.steps > 0);
        let record = Record {
            schema_version: SCHEMA_VERSION,
            id: id.clone(),
            digest: Some(self.prepared.digests[run].clone()),
            stage: stage.kind,
            defense: stage.method_value(),
            perturber: stage.perturber.value(),
            steps: outcome.steps,
            samples: set.map_or(0, |_| outcome.samples),
            truncated: set.map_or(0, |set| set.truncated),
            dropped: set.map_or(0, |set| set.dropped),
            seconds: outcome.before + outcome.begun.elapsed().as_secs_f64(),
            trainable: backbone.trainable().clone(),
            parent: self.parent_path(lineage),
            taken_from: None,
            edited: outcome.edited,
            continues,
            // Other stages are not judged by their loss: some defences raise it on purpose.
            training_loss: match stage.is_user() {
                true => {
                    let passes = stage.training.passes(outcome.samples) as u64;
                    health::training_loss(step_log::losses(&log)?, outcome.steps, passes)
                }
                false => None,
            },
            followed: step_log::measurements(&log)?,
            measurements: Vec::new(),
            measured: BTreeMap::new(),
            failed: BTreeMap::new(),
            answers: None,
        };
        let base = &self.prepared.base.name;
        self.directory.write_run(id, |place| {
            fs::copy(&log, place.join(LOG)).map_err(Error::io("copy", &log))?;
            if record.has_weights() {
                weights::save(backbone.trainable(), &outcome.weights, base, place)?;
            }
            let path = place.join(finished::TRAINING);
            fs::write(&path, files::pretty(&path, &record)?).map_err(Error::io("write", &path))
        })?;
        checkpoints.clear()
    }

    /// Path of the parent: relative within the experiment, absolute elsewhere.
    fn parent_path(&self, lineage: &[Run]) -> Option<PathBuf> {
        let parent = lineage.last()?;
        let root = self.directory.root().canonicalize().ok();
        let inside = root.and_then(|root| parent.place.strip_prefix(root).ok().map(Path::to_owned));
        Some(inside.unwrap_or_else(|| parent.place.clone()))
    }
}
