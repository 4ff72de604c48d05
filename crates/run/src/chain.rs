//! One chain: a model aligned under one seed, then fine-tuned by its user at every ratio.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use sha2::{Digest, Sha256};
use vxf_core::config::MetricConfig;
use vxf_core::engine::Recompute;
use vxf_core::metric::{Model, Probes};
use vxf_core::minmax::Flow;
use vxf_core::{Backbone, Key, Params, Stage};

use crate::checkpoints::{ANSWERS, LOG};
use crate::control::Control;
use crate::dataset::{SeedData, Set};
use crate::directory::Directory;
use crate::experiment::Prepared;
use crate::failures::Failures;
use crate::kept_answers::KeptAnswers;
use crate::measure::{self, Measured, Pair};
use crate::plan::{Arm, CellId};
use crate::progress::Progress;
use crate::recipe::{Chosen, Method, hex};
use crate::record::{Generated, Record, SCHEMA_VERSION, lines, pretty};
use crate::settings::TrainingSettings;
use crate::stage::{self, StagePlan};
use crate::stored_answers::{GENERATIONS, StoredAnswers};
use crate::{Error, Result, finished, health, step_log};

/// A chain of an experiment.
pub(crate) struct Chain<'a> {
    prepared: &'a Prepared,
    directory: &'a Directory,
    progress: &'a dyn Progress,
    alignment: usize,
    seed: u64,
    data: &'a SeedData,
    /// The metrics, and the digest of what each one's figures depend on.
    wanted: &'a BTreeMap<String, String>,
    recompute: Recompute,
    control: Control<'a>,
    failures: &'a Failures,
}

/// What a stage trained.
struct Outcome {
    weights: Params,
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
        (recompute, control, failures): (Recompute, Control<'a>, &'a Failures),
    ) -> Self {
        let index = prepared.plan.seeds.iter().position(|known| *known == seed).unwrap_or(0);
        let (data, wanted) = (&prepared.data[index], &prepared.wanted[index]);
        Self {
            prepared,
            directory,
            progress,
            alignment,
            seed,
            data,
            wanted,
            recompute,
            control,
            failures,
        }
    }

    fn method(&self) -> &'a Method {
        &self.prepared.plan.alignments[self.alignment].method
    }

    fn aligned_cell(&self) -> CellId {
        self.prepared.plan.aligned(self.alignment, self.seed)
    }

    /// Whether a cell is trained and measured by all metrics.
    fn is_done(&self, cell: &CellId) -> bool {
        self.directory.holds(cell) && self.directory.has_measured(cell, self.wanted)
    }

    fn attacks_left(&self) -> Vec<(CellId, &'a Arm, usize)> {
        let all = self.prepared.plan.attacks(self.alignment, self.seed);
        all.into_iter().filter(|(cell, _, _)| !self.is_done(cell)).collect()
    }

    fn aligning_left(&self) -> bool {
        self.prepared.source.is_none() && !self.is_done(&self.aligned_cell())
    }

    /// Cells that this chain still has to train or to measure.
    pub(crate) fn cells_left(&self) -> usize {
        usize::from(self.aligning_left()) + self.attacks_left().len()
    }

    pub(crate) fn is_incomplete(&self) -> bool {
        self.cells_left() > 0
    }

    /// Optimiser steps that this chain still has to take.
    pub(crate) fn steps_left(&self) -> u64 {
        let recipe = &self.prepared.recipe;
        let cell = self.aligned_cell();
        let aligns = self.prepared.source.is_none() && !self.directory.holds(&cell);
        let aligning = match aligns && self.method().defense.config.build().trains() {
            true => {
                let all = recipe.alignment.steps(self.data.alignment.examples.len());
                all.saturating_sub(self.directory.checkpoints(&cell).last())
            }
            false => 0,
        };
        let user = |&(ref cell, _, ratio): &(CellId, &Arm, usize)| {
            let all = recipe.fine_tuning.steps(self.data.user[ratio].examples.len());
            all.saturating_sub(self.directory.checkpoints(cell).last())
        };
        let left = self.attacks_left();
        let untrained = left.iter().filter(|(cell, _, _)| !self.directory.holds(cell));
        aligning + untrained.map(user).sum::<u64>()
    }

    /// Aligns, unless that is done, and returns what is left of the user's stage.
    pub(crate) fn align_first(&'a self) -> Result<Vec<Attack<'a>>> {
        if !self.is_incomplete() {
            return Ok(Vec::new());
        }
        let Prepared { base, judges, .. } = self.prepared;
        let probes = self.data.probes(base, judges);
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
    /// made. What is not measured yet is measured. The model itself is let go of.
    fn align(&self, cell: &CellId, probes: &Probes) -> Result<Option<Params>> {
        let Prepared { base, recipe, source, .. } = self.prepared;
        let settings = &recipe.alignment;
        let trains = self.method().defense.config.build().trains();
        let place = source.clone().unwrap_or_else(|| self.directory.cell(cell));
        let load = || stage::load(&settings.trainable, &place, base.dtype(), base.device());
        if source.is_some() || self.is_done(cell) {
            return trains.then(load).transpose();
        }
        self.control.check()?;
        self.progress.cell(cell);
        let key = Key::root(self.seed).child("alignment");
        let (backbone, start) = stage::trainable(&base.model()?, settings, &key)?;
        let weights = match (self.directory.holds(cell), trains) {
            (true, true) => load()?,
            (true, false) => start,
            (false, _) => {
                let streams =
                    [("alignment", &self.data.alignment), ("harmful", &self.data.harmful)];
                let plan = self.plan(self.method(), settings, &streams, key);
                let outcome = match trains {
                    true => self.train(cell, &plan, &backbone, &start, None)?,
                    false => {
                        self.directory.checkpoints(cell).begin_log()?;
                        let begun = Instant::now();
                        Outcome { weights: start.copy()?, steps: 0, before: 0.0, begun }
                    }
                };
                let set = trains.then_some(&self.data.alignment);
                self.place(cell, Stage::Alignment, plan.method, set, &*backbone, &outcome)?;
                outcome.weights
            }
        };
        let model = Model { backbone: &*backbone, weights: &weights };
        self.measure(cell, Pair { model, aligned: None }, probes)?;
        Ok(trains.then_some(weights))
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
        let weights = match self.directory.holds(cell) {
            true => {
                let (base, place) = (&self.prepared.base, self.directory.cell(cell));
                self.report_unfollowed(&place)?;
                stage::load(backbone.trainable(), &place, base.dtype(), base.device())?
            }
            false => {
                let user: &Set = &self.data.user[ratio];
                let streams = [("user", user), ("alignment", &self.data.alignment)];
                let plan = self.plan(&arm.fine_tuning, settings, &streams, key);
                let outcome = self.train(cell, &plan, &backbone, &start, Some(probes))?;
                let (stage, set) = (Stage::FineTuning, Some(user));
                self.place(cell, stage, plan.method, set, &*backbone, &outcome)?;
                outcome.weights
            }
        };
        let with = |weights| Model { backbone: &*backbone, weights };
        let pair = Pair { model: with(&weights), aligned: Some(with(&start)) };
        self.measure(cell, pair, probes)
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
        backbone: &Arc<dyn Backbone>,
        start: &Params,
        probes: Option<&Probes>,
    ) -> Result<Outcome> {
        let recipe = &self.prepared.recipe;
        let every = recipe.settings.eval_every;
        let begun = Instant::now();
        let checkpoints = self.directory.checkpoints(cell);
        let mut training = plan.training(&**backbone, start)?;
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
                    aligned: Some(Model { backbone: training.backbone, weights: start }),
                };
                let Measured { rows, failures, .. } =
                    measure::followed(pair, probes, &recipe.metrics)?;
                for row in rows {
                    log.push(&json!({ "kind": "measurement", "step": done, "row": row }))?;
                }
                self.report(cell, &failures);
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
        health::moved(start, &training.weights, rates.fold(0.0, f64::max), total)?;
        let weights = training.finish()?.weights;
        Ok(Outcome { weights, steps: total, before, begun })
    }

    /// Puts a trained run in place: weights, log and the record of the training.
    fn place(
        &self,
        cell: &CellId,
        stage: Stage,
        method: &Method,
        set: Option<&Set>,
        backbone: &dyn Backbone,
        outcome: &Outcome,
    ) -> Result<()> {
        let checkpoints = self.directory.checkpoints(cell);
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
            trainable: backbone.trainable().clone(),
            continues: below.is_some() && self.prepared.recipe.fine_tuning.continue_adapter,
            below,
            training_loss: health::of_attack(
                stage,
                &self.prepared.recipe.fine_tuning,
                outcome.steps,
                step_log::losses(&log)?,
            ),
            measurements: Vec::new(),
            measured: BTreeMap::new(),
            failed: BTreeMap::new(),
            answers: None,
        };
        let base = &self.prepared.base.name;
        self.directory.write_cell(cell, |place| {
            fs::copy(&log, place.join(LOG)).map_err(Error::io("copy", &log))?;
            if outcome.steps > 0 {
                stage::save(backbone.trainable(), &outcome.weights, base, place)?;
            }
            let path = place.join(finished::TRAINING);
            fs::write(&path, pretty(&path, &record)?).map_err(Error::io("write", &path))
        })?;
        checkpoints.clear()
    }

    /// Measures a run that is in place by the metrics that it lacks. One that fails is reported, and
    /// costs its own figures alone.
    fn measure(&self, cell: &CellId, pair: Pair<'_>, probes: &Probes) -> Result<()> {
        let begun = Instant::now();
        let place = self.directory.cell(cell);
        let mut record = finished::record(&place)?;
        let metrics = &self.prepared.recipe.metrics;
        let lacks = |metric: &&Chosen<dyn MetricConfig>| {
            record.measured.get(metric.name) != self.wanted.get(metric.name)
        };
        let lacking: Vec<_> = metrics.iter().filter(lacks).collect();

        let sets = self.data.generations();
        // How answers in records of older versions were generated is not known.
        let stored = StoredAnswers::read(&place, &record, probes, &sets, false)?;
        let checkpoints = self.directory.checkpoints(cell);
        let (disk, path) = (self.directory.disk(), checkpoints.root().join(ANSWERS));
        let keeper = KeptAnswers::open(disk, path, self.control, &sets, stored.single)?;
        let Measured { rows, answers, failures, .. } =
            measure::everything(pair, probes, &lacking, stored.whole, &keeper)?;
        self.report(cell, &failures);

        record.failed = failures.into_iter().collect();
        for metric in lacking {
            record.measurements.retain(|row| row.metric != metric.name);
            match (record.failed.contains_key(metric.name), self.wanted.get(metric.name)) {
                (false, Some(digest)) => {
                    record.measured.insert(metric.name.to_owned(), digest.clone());
                }
                _ => {
                    record.measured.remove(metric.name);
                }
            }
        }
        record.measurements.extend(rows);
        record.measurements.sort_by_key(|row| {
            let listed = metrics.iter().position(|metric| metric.name == row.metric);
            listed.unwrap_or(metrics.len())
        });
        let text = lines(&place.join(GENERATIONS), &answers)?;
        let there = |set: &String| answers.iter().any(|answer| answer.probe == *set);
        record.answers = Some(Generated {
            file: hex(&Sha256::digest(&text)),
            sets: sets.iter().filter(|(set, _)| there(set)).map(cloned).collect(),
        });
        record.seconds += begun.elapsed().as_secs_f64();
        self.directory.write_measured(cell, &text, &record)?;
        checkpoints.clear()
    }

    /// Says which of the metrics that follow a training were not asked for when it took place.
    fn report_unfollowed(&self, place: &Path) -> Result<()> {
        let recipe = &self.prepared.recipe;
        if recipe.settings.eval_every == 0 {
            return Ok(());
        }
        let followed = step_log::followed(&place.join(LOG))?;
        let metrics = recipe.metrics.iter().filter(|metric| metric.config.follows_training());
        for metric in metrics.filter(|metric| !followed.contains(metric.name)) {
            let (cell, problem) = (place.display(), "was not measured during training");
            self.progress
                .note(&format!("{cell}: `{}` {problem}; its curve is missing", metric.name));
        }
        Ok(())
    }

    fn report(&self, cell: &CellId, failures: &[(String, String)]) {
        for (metric, problem) in failures {
            let warn = |text: &str| self.progress.note(text);
            self.failures.add(&cell.to_string(), metric, problem, warn);
        }
    }
}

fn cloned((key, value): (&String, &String)) -> (String, String) {
    (key.clone(), value.clone())
}
