//! Measuring a trained run: all metrics that its record lacks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use sha2::{Digest, Sha256};
use vxf_core::config::{BuildContext, MetricConfig};
use vxf_core::generate::AnswerCache;
use vxf_core::metric::Probes;
use vxf_recipe::Chosen;
use vxf_report::{Generated, Record, Row, RunId};

use super::progress::{Doing, Phase, Progress};
use super::run::Executor;
use crate::Result;
use crate::measure::SeedData;
use crate::measure::kept_answers::KeptAnswers;
use crate::measure::metrics::{self, Measured, Pair};
use crate::measure::stored_answers::{GENERATIONS, StoredAnswers};
use crate::store::checkpoints::{ANSWERS, LOG};
use crate::store::{files, finished, step_log};

impl Executor<'_> {
    /// Measures a trained run with all metrics that it lacks. A failed metric is reported and costs only
    /// its own figures.
    pub(super) fn measure(
        &self,
        run: usize,
        pair: Pair<'_>,
        probes: &Probes,
        data: &SeedData,
    ) -> Result<()> {
        let begun = Instant::now();
        let id = &self.spec(run).id;
        let place = self.directory.run(id);
        let mut record = finished::record(&place)?;
        let all = &self.prepared.recipe(run).metrics;
        let wanted = self.prepared.wanted(run);
        let lacks = |metric: &&Chosen<dyn MetricConfig>| {
            record.measured.get(metric.name) != wanted.get(metric.name)
        };
        let lacking: Vec<_> = all.iter().filter(lacks).collect();

        let sets = data.generations();
        // Older records do not say how their answers were generated.
        let stored = StoredAnswers::read(&place, &record, probes, &sets, false)?;
        let checkpoints = self.checkpoints(run);
        let (disk, path) = (self.directory.disk(), checkpoints.root().join(ANSWERS));
        let cache = KeptAnswers::open(disk, path, self.control, &sets, stored.single)?;
        let locate = |name: &str| self.prepared.access.model_for_plugin(name);
        let context = BuildContext { device: self.prepared.base.device(), model: &locate };
        let cache = Counted::new(&cache, probes, id, self.progress);
        let Measured { rows, answers, failures, .. } =
            metrics::everything(pair, probes, &lacking, stored.whole, &cache, &context)?;
        self.report(id, &failures);

        record.failed = failures.into_iter().collect();
        renew(&mut record, &lacking, wanted, rows);
        record.measurements.sort_by_key(|row| {
            let listed = all.iter().position(|metric| metric.name == row.metric);
            listed.unwrap_or(all.len())
        });
        let text = files::lines(&place.join(GENERATIONS), &answers)?;
        let there = |set: &String| answers.iter().any(|answer| answer.probe == *set);
        let made = sets.iter().filter(|(set, _)| there(set));
        record.answers = Some(Generated {
            file: hex::encode(Sha256::digest(&text)),
            sets: made.map(|(set, digest)| (set.clone(), digest.clone())).collect(),
        });
        record.seconds += begun.elapsed().as_secs_f64();
        self.directory.write_measured(id, &text, &record)?;
        checkpoints.clear()
    }

    /// Notes which metrics should have been followed during training and were not.
    pub(super) fn report_unfollowed(&self, place: &Path) -> Result<()> {
        let recipe = self.prepared.experiment.recipe();
        if recipe.settings.eval_every == 0 {
            return Ok(());
        }
        let followed = step_log::followed(&place.join(LOG))?;
        let metrics = recipe.metrics.iter().filter(|metric| metric.config.follows_training());
        for metric in metrics.filter(|metric| !followed.contains(metric.name)) {
            let (run, problem) = (place.display(), "was not measured during training");
            self.progress
                .note(&format!("{run}: `{}` {problem}; its curve is missing", metric.name));
        }
        Ok(())
    }

    /// Reports failed metrics with their problems.
    pub(super) fn report(&self, run: &RunId, failures: &[(String, String)]) {
        for (metric, problem) in failures {
            let warn = |text: &str| self.progress.note(text);
            self.failures.add(&run.to_string(), metric, problem, warn);
        }
    }
}

/// Puts `rows` in place of the figures that the metrics `measured` gave before. A metric that failed counts as
/// not measured, so that it is tried again.
fn renew(
    record: &mut Record,
    measured: &[&Chosen<dyn MetricConfig>],
    wanted: &BTreeMap<String, String>,
    rows: Vec<Row>,
) {
    for metric in measured {
        record.measurements.retain(|row| row.metric != metric.name);
        match (record.failed.contains_key(metric.name), wanted.get(metric.name)) {
            (false, Some(digest)) => {
                record.measured.insert(metric.name.to_owned(), digest.clone());
            }
            _ => {
                record.measured.remove(metric.name);
            }
        }
    }
    record.measurements.extend(rows);
}

/// A cache that reports how many answers of a set are there.
struct Counted<'a> {
    cache: &'a dyn AnswerCache,
    probes: &'a Probes,
    run: &'a RunId,
    progress: &'a dyn Progress,
    done: RefCell<BTreeMap<String, u64>>,
}

impl<'a> Counted<'a> {
    fn new(
        cache: &'a dyn AnswerCache,
        probes: &'a Probes,
        run: &'a RunId,
        progress: &'a dyn Progress,
    ) -> Self {
        Self { cache, probes, run, progress, done: RefCell::default() }
    }
}

impl AnswerCache for Counted<'_> {
    fn get(&self, set: &str, index: usize) -> Option<String> {
        self.cache.get(set, index)
    }

    fn store(&self, set: &str, made: &[(usize, String)]) -> vxf_core::Result<()> {
        self.cache.store(set, made)?;
        let mut done = self.done.borrow_mut();
        let done = done.entry(set.to_owned()).or_default();
        *done += made.len() as u64;
        let prompts = self.probes.questions.get(set).map_or(0, |set| set.prompts.len());
        let total = ((prompts * self.probes.draws.max(1)) as u64).max(*done);
        let phase = Phase::Answering { set };
        self.progress.doing(Doing { run: self.run, phase, done: *done, total });
        Ok(())
    }
}
