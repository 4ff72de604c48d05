//! What the directory of an experiment holds, finished or not, read without its data and its model.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value};
use vxf_core::Stage;
use vxf_recipe::Experiment;
use vxf_report::curve::Logged;
use vxf_report::{Answer, Curve, Failure, Failures, Layout, Record, Row, RunId};

use super::checkpoints::LOG;
use super::directory::{self, CHECKPOINTS};
use super::finished::{self, Run};
use super::manifest::Manifest;
use super::step_log;
use crate::Result;

/// An experiment on disk, finished or not.
#[derive(Debug)]
pub struct Stored {
    /// Its directory.
    pub root: PathBuf,
    /// Its recipe, as resolved.
    pub experiment: Experiment,
    /// Its manifest.
    pub manifest: Manifest,
    /// Which runs are compared with each other.
    pub layout: Layout,
    /// All its runs with their stages, done or not.
    pub runs: Vec<(RunId, Stage)>,
    /// The records of the runs that are done, with the figures that the recipe asks for.
    pub records: Vec<Record>,
}

/// A row of a log.
#[derive(Deserialize)]
struct LogRow {
    kind: String,
    step: u64,
    #[serde(default)]
    figures: Map<String, Value>,
    #[serde(default)]
    row: Option<Row>,
}

impl Stored {
    /// Reads the experiment that `path` is, or belongs to.
    ///
    /// # Errors
    /// When there is none, or one of its files cannot be read.
    pub fn open(path: &Path) -> Result<Self> {
        let root = Run::root_of(path)?;
        let experiment = finished::experiment(&root)?;
        let manifest = finished::manifest(&root)?;
        let graph = finished::graph(&root)?;
        let runs: Vec<_> = graph.runs.into_iter().map(|run| (run.id, run.stage.kind)).collect();
        let done = runs.iter().map(|(id, _)| root.join(id.path()));
        let done = done.filter(|place| Run::is_single(place));
        let mut records = done.map(|place| finished::record(&place)).collect::<Result<Vec<_>>>()?;
        finished::only_asked(&mut records, &experiment);
        Ok(Self { root, experiment, manifest, layout: graph.layout, runs, records })
    }

    /// How many runs are not done yet.
    pub fn missing(&self) -> usize {
        self.runs.len() - self.records.len()
    }

    /// The metrics that failed.
    pub fn failures(&self) -> Vec<Failure> {
        let failures = Failures::default();
        for record in &self.records {
            for (metric, problem) in &record.failed {
                failures.add(&record.id.to_string(), metric, problem, |_| {});
            }
        }
        failures.into_all()
    }

    /// The stored answers of a run; none if there are none.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn answers(&self, run: &RunId) -> Result<Vec<Answer>> {
        directory::answers(&self.root, run)
    }

    /// What was logged while its runs trained, also by those under way.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn curves(&self) -> Result<Vec<Curve>> {
        let mut curves = Vec::new();
        for (run, stage) in &self.runs {
            let place = self.root.join(run.path()).join(LOG);
            let under_way = self.root.join(CHECKPOINTS).join(run.path()).join(LOG);
            let done = place.is_file();
            let path = if done { place } else { under_way };
            if path.is_file() {
                curves.push(curve(&path, run, *stage, done)?);
            }
        }
        Ok(curves)
    }
}

fn curve(path: &Path, run: &RunId, stage: Stage, done: bool) -> Result<Curve> {
    let mut curve =
        Curve { run: run.clone(), stage, done, steps: Vec::new(), measured: Vec::new() };
    let read = step_log::for_each(path, |LogRow { kind, step, figures, row }: LogRow| {
        if kind == "step" {
            let number = |(name, value): (String, Value)| Some((name, value.as_f64()?));
            let figures = figures.into_iter().filter_map(number).collect();
            curve.steps.push(Logged { step, figures });
        }
        curve.measured.extend(row.map(|row| (step, row)));
    });
    match read {
        // The last line of a run under way may be half written.
        Err(_) if !done => Ok(curve),
        read => read.map(|()| curve),
    }
}
