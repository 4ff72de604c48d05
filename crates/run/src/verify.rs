//! Whether an experiment's records say what its files say: every digest and every figure again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use vxf_core::Measurement;
use vxf_recipe::Experiment;
use vxf_report::{Record, Row};

use crate::measure::evaluate::Evaluator;
use crate::measure::stored_answers::GENERATIONS;
use crate::plan::Graph;
use crate::store::finished::{self, Run};
use crate::{Error, Prepared, Result};
use vxf_access::Access;
use vxf_access::file_digest;

/// Relative tolerance of figures that are measured again: another processor may round differently.
const TOLERANCE: f64 = 1e-4;

/// Relative tolerance of rates, which are counted: the last digits of a division.
const COUNTED: f64 = 1e-12;

/// What was checked, and what did not hold.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Runs that are done.
    pub runs: usize,
    /// Runs of the recipe that are not.
    pub missing: usize,
    /// Figures whose record was checked.
    pub figures: usize,
    /// Rates that were counted again from the outcomes of single answers.
    pub counted: usize,
    /// Figures that were measured again, from the stored answers and weights.
    pub measured: usize,
    /// Identities that were derived again from model, data and settings.
    pub identities: usize,
    /// What does not hold.
    pub problems: Vec<Problem>,
    /// What could not be checked, and why.
    pub unchecked: Vec<String>,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Problem {
    /// The run, by its path within the experiment.
    pub run: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Verified {
    fn problem(&mut self, run: &str, problem: String) {
        self.problems.push(Problem { run: run.to_owned(), problem });
    }

    fn unchecked(&mut self, why: String) {
        if !self.unchecked.contains(&why) {
            self.unchecked.push(why);
        }
    }
}

/// Checks the experiment in `path`, or the single run there. With `records_only` no model is opened:
/// figures that are not made of single answers are not measured again.
///
/// # Errors
/// When there is no experiment, or its recipe or a record cannot be read.
pub fn verify(path: &Path, records_only: bool, access: Access) -> Result<Verified> {
    let root = Run::root_of(path)?;
    let experiment = finished::experiment(&root)?;
    let graph = finished::graph(&root)?;
    let only = Run::is_single(path).then(|| path.canonicalize().ok()).flatten();
    let mut verified = Verified::default();
    let access = Arc::new(access);
    let prepared = match records_only {
        true => None,
        false => match Prepared::with(experiment.clone(), access.clone()) {
            Ok(prepared) => Some(prepared),
            Err(error) => {
                verified.unchecked(format!(
                    "identities and measurements: model or data cannot be opened ({error})"
                ));
                None
            }
        },
    };
    let mut evaluator = match &prepared {
        Some(prepared) => Some(Evaluator::new(prepared.experiment.recipe(), &access)?),
        None => None,
    };
    for (index, spec) in graph.runs.iter().enumerate() {
        let place = root.join(spec.id.path());
        if only.as_ref().is_some_and(|only| place.canonicalize().ok().as_ref() != Some(only)) {
            continue;
        }
        if !Run::is_single(&place) {
            verified.missing += 1;
            continue;
        }
        verified.runs += 1;
        let run = Run::open(&place)?;
        let name = spec.id.path().display().to_string();
        of_record(&run, &name, &mut verified)?;
        parent(&run, &graph, index, &name, &mut verified);
        if let Some(prepared) = &prepared {
            identity(&run.record, prepared, index, &name, &mut verified);
        }
        if let Some(evaluator) = &mut evaluator {
            again(run, evaluator, &experiment, &name, &mut verified);
        }
    }
    Ok(verified)
}

/// The record against itself and against the file of answers.
fn of_record(run: &Run, name: &str, verified: &mut Verified) -> Result<()> {
    let Run { record, place, .. } = run;
    if record.id.path().display().to_string() != name {
        verified.problem(name, format!("its record is that of {}", record.id.path().display()));
    }
    if !run.is_measured() {
        verified.unchecked(format!("{name} is trained and not measured"));
    }
    for metric in record.failed.keys() {
        verified.problem(name, format!("the metric `{metric}` failed"));
    }
    if let Some(answers) = &record.answers {
        let path = place.join(GENERATIONS);
        match path.is_file() {
            false => verified.problem(name, format!("{GENERATIONS} is gone")),
            true if file_digest(&path)? != answers.file => {
                let problem =
                    format!("{GENERATIONS} is not the file that was measured: its digest differs");
                verified.problem(name, problem);
            }
            true => {}
        }
    }
    for Row { figure, .. } in &record.measurements {
        verified.figures += 1;
        let Some(outcomes) = &figure.outcomes else { continue };
        verified.counted += 1;
        let again = Measurement::share(&figure.name, outcomes.clone(), figure.better);
        if let Some(problem) = differs(figure, &again, COUNTED) {
            verified.problem(name, format!("{problem}, by the outcomes of its answers"));
        }
    }
    Ok(())
}

/// Whether the run started from what the recipe says.
fn parent(run: &Run, graph: &Graph, index: usize, name: &str, verified: &mut Verified) {
    let wanted = graph.runs[index].parent.map(|parent| graph.runs[parent].id.path());
    match (&run.record.parent, wanted) {
        (Some(found), Some(wanted)) if *found != wanted => {
            let problem =
                format!("it started from {}, not from {}", found.display(), wanted.display());
            verified.problem(name, problem);
        }
        (None, Some(wanted)) => {
            verified.problem(name, format!("its record names no parent, not {}", wanted.display()));
        }
        _ => {}
    }
    if let Err(error) = run.parent() {
        verified.problem(name, format!("its parent cannot be read: {error}"));
    }
}

/// What decides the weights, derived again, and what each metric depends on.
fn identity(
    record: &Record,
    prepared: &Prepared,
    index: usize,
    name: &str,
    verified: &mut Verified,
) {
    match &record.digest {
        None => verified.unchecked("records of version 1 have no identity".to_owned()),
        Some(digest) => {
            verified.identities += 1;
            if *digest != prepared.digests[index] {
                let problem = "its identity is another than model, data, settings and version of the \
                               arithmetic give now";
                verified.problem(name, problem.to_owned());
            }
        }
    }
    for (metric, wanted) in prepared.wanted(index) {
        match record.measured.get(metric) {
            Some(found) if found != wanted => {
                let problem = format!(
                    "`{metric}` was measured on other prompts, by other judges or with other settings \
                     than the recipe gives now"
                );
                verified.problem(name, problem);
            }
            _ => {}
        }
    }
}

/// All figures measured again, from stored answers and weights.
fn again(
    run: Run,
    evaluator: &mut Evaluator<'_>,
    experiment: &Experiment,
    name: &str,
    verified: &mut Verified,
) {
    let (stored, removed) = (run.record.clone(), weights_are_removed(&run));
    let evaluation = match evaluator.run(run, experiment.recipe(), false) {
        Ok(evaluation) => evaluation,
        // Weights may be removed on purpose; damaged ones are another matter.
        Err(Error::Core(error @ vxf_core::Error::Checkpoint { .. })) if !removed => {
            verified.problem(name, format!("its weights cannot be read: {error}"));
            return;
        }
        Err(error) => {
            verified.unchecked(format!("{name} is not measured again: {error}"));
            return;
        }
    };
    for set in &evaluation.other {
        verified.problem(
            name,
            format!("its answers to `{set}` are not those to the prompts of its seed"),
        );
    }
    let rows: BTreeMap<_, _> =
        evaluation.measured.rows.iter().map(|row| (row.figure.name.as_str(), row)).collect();
    for Row { figure, .. } in &stored.measurements {
        let Some(row) = rows.get(figure.name.as_str()) else {
            verified.unchecked(format!(
                "{name}: `{}` is no figure of the recipe's metrics",
                figure.name
            ));
            continue;
        };
        verified.measured += 1;
        let tolerance = if figure.outcomes.is_some() { COUNTED } else { TOLERANCE };
        if let Some(problem) = differs(figure, &row.figure, tolerance) {
            verified.problem(name, format!("{problem}, measured again"));
        } else if figure.outcomes != row.figure.outcomes {
            let problem =
                format!("single answers of `{}` are judged otherwise, measured again", figure.name);
            verified.problem(name, problem);
        }
    }
}

/// Whether weights that the model of `run` is made of are not there.
fn weights_are_removed(run: &Run) -> bool {
    let lineage = Run::open(&run.place).and_then(Run::lineage);
    lineage.is_ok_and(|lineage| finished::layers(&lineage).iter().any(|layer| !layer.exists()))
}

/// In what a figure differs from the same made again.
fn differs(stored: &Measurement, again: &Measurement, tolerance: f64) -> Option<String> {
    let near = |a: f64, b: f64| {
        a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * a.abs().max(b.abs())
    };
    if !near(stored.value, again.value) || stored.n != again.n {
        return Some(format!(
            "`{}` is {} of n = {} in the record and {} of n = {}",
            stored.name, stored.value, stored.n, again.value, again.n
        ));
    }
    let ends = |interval: Option<[f64; 2]>| interval.unwrap_or([f64::NAN; 2]);
    let (a, b) = (ends(stored.interval), ends(again.interval));
    let same = a.iter().zip(b).all(|(a, b)| near(*a, b));
    (!same).then(|| format!("the interval of `{}` is {a:?} in the record and {b:?}", stored.name))
}
