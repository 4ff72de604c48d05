//! One chain: a model aligned under one seed, then fine-tuned by its user at every ratio.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use vxf_core::engine::Recompute;
use vxf_core::metric::{Model, Probes};
use vxf_core::minmax::Flow;
use vxf_core::{Backbone, Key, Params, Stage};

use crate::checkpoints::{ANSWERS, LOG};
use crate::control::Control;
use crate::dataset::{SeedData, Set};
use crate::directory::Directory;
use crate::experiment::Prepared;
use crate::kept_answers::KeptAnswers;
use crate::measure::{self, Pair};
use crate::plan::{Arm, CellId};
use crate::progress::Progress;
use crate::recipe::Method;
use crate::record::{Record, SCHEMA_VERSION, write_json, write_lines};
use crate::settings::TrainingSettings;
use crate::stage::{self, StagePlan};
use crate::{Error, Result, health, step_log};

/// A chain of an experiment.
pub(crate) struct Chain<'a> {
    prepared: &'a Prepared,
    directory: &'a Directory,
    progress: &'a dyn Progress,
    alignment: usize,
    seed: u64,
    data: &'a SeedData,
    recompute: Recompute,
    control: Control<'a>,
}

/// A trained model on its way into a cell.
struct Outcome {
    backbone: Arc<dyn Backbone>,
    weights: Params,
    start: Params,
    steps: u64,
    /// Seconds that earlier processes spent on it.
    before: f64,
    begun: Instant,
}

/// What a user is given: a model, and the adapter that is to be trained further, if any.
struct Given {
    model: Arc<dyn Backbone>,
    adapter: Option<Params>,
}

/// A user's stage that starts from what its chain has aligned; does not wait for any other.
pub(crate) struct Attack<'a> {
    chain: &'a Chain<'a>,
    aligned: Arc<(Given, Probes)>,
    cell: CellId,
    arm: &'a Arm,
    ratio: usize,
}

impl Attack<'_> {
    /// Fine-tunes and measures.
    pub(crate) fn run(&self) -> Result<()> {
        let Self { chain, aligned, cell, arm, ratio } = self;
        let (given, probes) = &**aligned;
        chain.attack(given, cell, arm, *ratio, probes).map_err(|error| named(cell, error))
    }
}

fn named(cell: &CellId, error: Error) -> Error {
    match error {
        Error::Stopped | Error::Core(vxf_core::Error::Stopped) => Error::Stopped,
        source => Error::Cell { cell: cell.to_string(), source: Box::new(source) },
    }
}

impl<'a> Chain<'a> {
    pub(crate) fn new(
        prepared: &'a Prepared,
        directory: &'a Directory,
        progress: &'a dyn Progress,
        alignment: usize,
        seed: u64,
        recompute: Recompute,
        control: Control<'a>,
    ) -> Self {
        let index = prepared.plan.seeds.iter().position(|known| *known == seed).unwrap_or(0);
        let data = &prepared.data[index];
        Self { prepared, directory, progress, alignment, seed, data, recompute, control }
    }

    fn method(&self) -> &'a Method {
        &self.prepared.plan.alignments[self.alignment].method
    }

    fn aligned_cell(&self) -> CellId {
        self.prepared.plan.aligned(self.alignment, self.seed)
    }

    fn attacks_left(&self) -> Vec<(CellId, &'a Arm, usize)> {
        let all = self.prepared.plan.attacks(self.alignment, self.seed);
        all.into_iter().filter(|(cell, _, _)| !self.directory.holds(cell)).collect()
    }

    fn needs_aligning(&self) -> bool {
        self.prepared.source.is_none() && !self.directory.holds(&self.aligned_cell())
    }

    /// Cells that this chain still has to compute.
    pub(crate) fn cells_left(&self) -> usize {
        usize::from(self.needs_aligning()) + self.attacks_left().len()
    }

    pub(crate) fn is_incomplete(&self) -> bool {
        self.cells_left() > 0
    }

    /// Optimiser steps that this chain still has to take.
    pub(crate) fn steps_left(&self) -> u64 {
        let recipe = &self.prepared.recipe;
        let aligning = match self.needs_aligning() && self.method().defense.config.build().trains()
        {
            true => {
                let all = recipe.alignment.steps(self.data.alignment.examples.len());
                all.saturating_sub(self.directory.checkpoints(&self.aligned_cell()).last())
            }
            false => 0,
        };
        let user = |&(ref cell, _, ratio): &(CellId, &Arm, usize)| {
            let all = recipe.fine_tuning.steps(self.data.user[ratio].examples.len());
            all.saturating_sub(self.directory.checkpoints(cell).last())
        };
        aligning + self.attacks_left().iter().map(user).sum::<u64>()
    }

    /// Aligns, unless that is done, and returns what is left of the user's stage.
    pub(crate) fn align_first(&'a self) -> Result<Vec<Attack<'a>>> {
        if !self.is_incomplete() {
            return Ok(Vec::new());
        }
        let Prepared { recipe, base, access, .. } = self.prepared;
        let probes = self.data.probes(recipe, base, access)?;
        let cell = self.aligned_cell();
        let aligned = self.align(&cell, &probes).map_err(|error| named(&cell, error))?;
        let left = self.attacks_left();
        if left.is_empty() {
            return Ok(Vec::new());
        }
        let given = self.given(aligned).map_err(|error| named(&cell, error))?;
        let aligned = Arc::new((given, probes));
        let attack = |(cell, arm, ratio)| {
            let aligned = aligned.clone();
            Attack { chain: self, aligned, cell, arm, ratio }
        };
        Ok(left.into_iter().map(attack).collect())
    }

    /// The weights that alignment trained, if it trains: read back if they were made before, else
    /// made. The model itself is let go of.
    fn align(&self, cell: &CellId, probes: &Probes) -> Result<Option<Params>> {
        let Prepared { base, recipe, source, .. } = self.prepared;
        let settings = &recipe.alignment;
        let trains = self.method().defense.config.build().trains();
        let place = source.clone().unwrap_or_else(|| self.directory.cell(cell));
        if source.is_some() || self.directory.holds(cell) {
            let load = || stage::load(&settings.trainable, &place, base.dtype(), base.device());
            return trains.then(load).transpose();
        }
        self.control.check()?;
        self.progress.cell(cell);
        let key = Key::root(self.seed).child("alignment");
        let (backbone, start) = stage::trainable(&base.model()?, settings, &key)?;
        let streams = [("alignment", &self.data.alignment), ("harmful", &self.data.harmful)];
        let plan = self.plan(self.method(), settings, &streams, key);
        let outcome = match trains {
            true => self.train(cell, &plan, backbone, start, None)?,
            false => {
                self.directory.checkpoints(cell).begin_log()?;
                let weights = start.copy()?;
                Outcome { backbone, weights, start, steps: 0, before: 0.0, begun: Instant::now() }
            }
        };
        let model = Model { backbone: &*outcome.backbone, weights: &outcome.weights };
        let pair = Pair { model, aligned: None };
        let set = trains.then_some(&self.data.alignment);
        self.write(cell, Stage::Alignment, plan.method, set, &outcome, pair, probes)?;
        Ok(trains.then_some(outcome.weights))
    }

    /// What the user is given to fine-tune.
    fn given(&self, aligned: Option<Params>) -> Result<Given> {
        let Prepared { base, recipe, .. } = self.prepared;
        Ok(match aligned {
            None => Given { model: base.model()?, adapter: None },
            Some(weights) if recipe.fine_tuning.continue_adapter => {
                let model = base.model()?.with_trainable(&recipe.alignment.trainable)?;
                Given { model, adapter: Some(weights) }
            }
            Some(weights) => {
                let model = base.merged(&recipe.alignment.trainable, &weights)?;
                Given { model, adapter: None }
            }
        })
    }

    fn attack(
        &self,
        given: &Given,
        cell: &CellId,
        arm: &Arm,
        ratio: usize,
        probes: &Probes,
    ) -> Result<()> {
        self.control.check()?;
        self.progress.cell(cell);
        let settings: &TrainingSettings = &self.prepared.recipe.fine_tuning;
        let key = Key::root(self.seed).child("fine_tuning");
        let (backbone, start) = match &given.adapter {
            Some(adapter) => (given.model.clone(), adapter.copy()?),
            None => stage::trainable(&given.model, settings, &key)?,
        };
        let user: &Set = &self.data.user[ratio];
        let streams = [("user", user), ("alignment", &self.data.alignment)];
        let plan = self.plan(&arm.fine_tuning, settings, &streams, key);
        let outcome = self.train(cell, &plan, backbone, start, Some(probes))?;
        let pair = Pair {
            model: Model { backbone: &*outcome.backbone, weights: &outcome.weights },
            aligned: Some(Model { backbone: &*outcome.backbone, weights: &outcome.start }),
        };
        self.write(cell, Stage::FineTuning, plan.method, Some(user), &outcome, pair, probes)
    }

    fn plan<'b>(
        &self,
        method: &'b Method,
        settings: &'b TrainingSettings,
        streams: &'b [(&'static str, &'b Set)],
        key: Key,
    ) -> StagePlan<'b> {
        StagePlan { method, settings, streams, recompute: self.recompute, key }
    }

    /// The aligned run that the user's stage begins with, if alignment trains.
    fn below(&self, stage: Stage) -> Result<Option<PathBuf>> {
        let trains = self.method().defense.config.build().trains();
        if stage == Stage::Alignment || !trains {
            return Ok(None);
        }
        match &self.prepared.source {
            Some(source) => source.canonicalize().map(Some).map_err(Error::io("read", source)),
            None => Ok(Some(self.aligned_cell().path())),
        }
    }

    /// Takes all steps of a stage, from its last checkpoint on; with `probes`, measures every so many
    /// of them.
    fn train(
        &self,
        cell: &CellId,
        plan: &StagePlan<'_>,
        backbone: Arc<dyn Backbone>,
        start: Params,
        probes: Option<&Probes>,
    ) -> Result<Outcome> {
        let recipe = &self.prepared.recipe;
        let every = recipe.settings.eval_every;
        let begun = Instant::now();
        let checkpoints = self.directory.checkpoints(cell);
        let mut training = plan.training(&*backbone, &start)?;
        let total = training.schedule.total;
        let (mut log, before) = match checkpoints.resume(&|text| self.progress.note(text))? {
            None => (checkpoints.begin_log()?, 0.0),
            Some(resumed) => {
                training.resume(resumed.saved)?;
                (resumed.log, resumed.seconds)
            }
        };
        let mut saved = Instant::now();
        let (mut losses, mut lossless) = (0, None);
        let done = training.run(|training, seen| {
            match seen.loss() {
                Ok(_) => losses += 1,
                Err(error) => lossless = Some(error),
            }
            let done = training.next;
            log.push(&json!({
                "kind": "step", "step": done, "learning_rate": seen.rate,
                "gradient_norm": seen.gradient_norm, "figures": seen.figures,
            }))?;
            if let Some(probes) =
                probes.filter(|_| every > 0 && (done % every == 0 || done == total))
            {
                let pair = Pair {
                    model: Model { backbone: training.backbone, weights: &training.weights },
                    aligned: Some(Model { backbone: training.backbone, weights: &start }),
                };
                for row in measure::followed(pair, probes, &recipe.metrics)? {
                    log.push(&json!({ "kind": "measurement", "step": done, "row": row }))?;
                }
            }
            self.progress.step(seen.figures.get("loss").copied());
            let stops = self.control.stops();
            if stops || self.control.every.due(done, total, saved.elapsed()) {
                let seconds = before + begun.elapsed().as_secs_f64();
                let mark = log.mark()?;
                checkpoints.save(&training.save()?, mark, seconds)?;
                saved = Instant::now();
            }
            Ok::<_, Error>(if stops { Flow::Stop } else { Flow::Continue })
        });
        // Rows up to a step that failed are worth seeing.
        log.flush()?;
        done?;
        if let (0, Some(error)) = (losses, lossless) {
            self.progress.note(&error.to_string());
        }
        if training.next < total {
            return Err(Error::Stopped);
        }
        let rates = (0..total).map(|step| training.schedule.rate(step));
        health::moved(&start, &training.weights, rates.fold(0.0, f64::max), total)?;
        let weights = training.finish()?.weights;
        Ok(Outcome { weights, backbone, start, steps: total, before, begun })
    }

    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        cell: &CellId,
        stage: Stage,
        method: &Method,
        set: Option<&Set>,
        outcome: &Outcome,
        pair: Pair<'_>,
        probes: &Probes,
    ) -> Result<()> {
        let metrics = &self.prepared.recipe.metrics;
        let checkpoints = self.directory.checkpoints(cell);
        let answers = checkpoints.root().join(ANSWERS);
        let keeper = KeptAnswers::open(self.directory.disk(), answers, self.control)?;
        let (measurements, answers) =
            measure::everything(pair, probes, metrics, BTreeMap::new(), &keeper)?;
        let below = self.below(stage)?;
        let log = checkpoints.root().join(LOG);
        let record = Record {
            schema_version: SCHEMA_VERSION,
            label: cell.label.clone(),
            stage,
            ratio: cell.ratio,
            seed: cell.seed,
            defense: method.defense.value(),
            perturber: method.perturber.value(),
            steps: outcome.steps,
            samples: set.map_or(0, |set| set.examples.len()),
            truncated: set.map_or(0, |set| set.truncated),
            dropped: set.map_or(0, |set| set.dropped),
            seconds: outcome.before + outcome.begun.elapsed().as_secs_f64(),
            trainable: outcome.backbone.trainable().clone(),
            continues: below.is_some() && self.prepared.recipe.fine_tuning.continue_adapter,
            below,
            training_loss: health::of_attack(
                stage,
                &self.prepared.recipe.fine_tuning,
                outcome.steps,
                step_log::losses(&log)?,
            ),
            measurements,
        };
        let base = &self.prepared.base.name;
        self.directory.write_cell(cell, |place| {
            fs::copy(&log, place.join(LOG)).map_err(Error::io("copy", &log))?;
            write_lines(&place.join("generations.jsonl"), &answers)?;
            if outcome.steps > 0 {
                stage::save(outcome.backbone.trainable(), &outcome.weights, base, place)?;
            }
            write_json(&place.join("result.json"), &record)
        })?;
        checkpoints.clear()
    }
}
