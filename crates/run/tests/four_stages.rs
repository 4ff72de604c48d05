//! Alignment, fine-tuning, post-tuning, fine-tuning: interrupted at every event and resumed to the same
//! bits, measured again later, and kept without weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use serde_json::{Value, json};
use vxf_access::Access;
use vxf_builtins as _;
use vxf_core::metric::{Better, View};
use vxf_core::prelude::*;
use vxf_recipe::{Experiment, Layer, Place};
use vxf_report::{Record, RunId};
use vxf_run::execute::Silent;
use vxf_run::{Control, Error as RunError, Every, Prepared, Progress, Run};

/// Goes halfway back to the aligned model.
struct HalfBack;

impl Defense for HalfBack {
    fn finish(&mut self, step: &mut Step<'_>, weights: Params) -> Result<Params> {
        let aligned = step.reference(Reference::Aligned)?;
        let half = |(name, weight): (&str, &candle_core::Tensor)| {
            let module = name.strip_suffix(".weight").unwrap_or(name);
            let start = aligned.weight(module)?;
            Ok((name.to_owned(), ((weight.detach() + start)? * 0.5)?))
        };
        weights.iter().map(half).collect()
    }
}

vxf_core::config! {
    /// Settings of `half-back`.
    pub struct HalfBackConfig {}
}

#[typetag::serde(name = "half-back")]
impl DefenseConfig for HalfBackConfig {
    fn needs(&self) -> Needs {
        Needs::none().reference(Reference::Aligned)
    }

    fn trains(&self) -> bool {
        false
    }

    fn makes_gradient(&self) -> bool {
        false
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(HalfBack))
    }
}

vxf_core::register! {
    defense "half-back" => HalfBackConfig,
    summary: "Goes back half of the way to the aligned model",
    paper: "-",
    stages: [PostTuning],
}

/// Counts how often it was asked; a stored figure must not be measured again.
struct Counting;

static COUNTED: AtomicU64 = AtomicU64::new(0);

impl Metric for Counting {
    fn measure(&self, _: &View<'_>) -> Result<Vec<Measurement>> {
        let before = COUNTED.fetch_add(1, Ordering::Relaxed);
        Ok(vec![Measurement::new("asked_before", before as f64, "times", Better::Lower, 1)])
    }
}

vxf_core::config! {
    /// Settings of `counting`.
    pub struct CountingConfig {}
}

#[typetag::serde(name = "counting")]
impl MetricConfig for CountingConfig {
    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Metric>> {
        Ok(Box::new(Counting))
    }
}

vxf_core::register! {
    metric "counting" => CountingConfig,
    summary: "How often it was asked before",
    paper: "-",
}

static NEVER: AtomicBool = AtomicBool::new(false);

/// The runs of the four stages.
const RUNS: [&str; 4] = [
    "vaccine/aligned/1",
    "vaccine/0.5/1",
    "vaccine+half-back/0.5/1",
    "vaccine+half-back+sft/0.5/1",
];

/// Four steps in each stage that trains.
fn experiment(changes: &[(&str, Value)]) -> Experiment {
    let lora = json!({ "type": "lora", "rank": 2, "alpha": 4 });
    let stages = json!([
        { "kind": "alignment", "defense": "vaccine", "trainable": lora },
        { "kind": "fine_tuning", "trainable": "full" },
        { "kind": "post_tuning", "defense": "half-back" },
        { "kind": "fine_tuning", "trainable": lora },
    ]);
    let mut layer = Layer::new();
    for (key, value) in [
        ("seeds", json!([1])),
        ("harmful_ratios", json!([0.5])),
        ("baseline", json!(false)),
        ("undefended", json!(false)),
        ("threads", json!(1)),
        ("metrics", json!(["harmful-score", "drift"])),
        ("world.alignment_samples", json!(8)),
        ("world.user_samples", json!(8)),
        ("world.harmful_test", json!(2)),
        ("world.task_test", json!(2)),
        ("world.benign_test", json!(2)),
        ("world.alignment_probe", json!(2)),
        ("world.max_new_tokens", json!(2)),
        ("alignment.epochs", json!(2)),
        ("alignment.batch_size", json!(4)),
        ("fine_tuning.epochs", json!(2)),
        ("fine_tuning.batch_size", json!(4)),
        ("fine_tuning.learning_rate", json!(1e-3)),
        ("stage", stages),
    ] {
        layer.set(key, value, Place::Default).expect("a setting");
    }
    for (key, value) in changes {
        layer.set(key, value.clone(), Place::Default).expect("a setting");
    }
    Experiment::of(layer).unwrap_or_else(|error| panic!("{error}"))
}

/// What a process leaves when it ends, with the directory unlocked.
struct Seen {
    records: Vec<Record>,
    failures: usize,
    was_finished: bool,
}

/// Executes the experiment as one process.
fn run(
    root: &Path,
    experiment: Experiment,
    asked: &AtomicBool,
    progress: &dyn Progress,
) -> Result<Seen, RunError> {
    let access = Access::new(true).expect("no network");
    let prepared = Prepared::new(experiment, access).expect("a sound recipe");
    let done = prepared.run(Some(root), Control::new(Every::Steps(1), asked), progress)?;
    let (failures, was_finished) = (done.failures.len(), done.was_finished);
    Ok(Seen { records: done.records, failures, was_finished })
}

fn finished(root: &Path, experiment: Experiment) -> Seen {
    run(root, experiment, &NEVER, &Silent).expect("a finished experiment")
}

/// Asks to stop at the given event: the start of a run, or a step.
struct StopAt {
    asked: AtomicBool,
    left: AtomicUsize,
}

impl StopAt {
    fn new(event: usize) -> Self {
        Self { asked: AtomicBool::new(false), left: AtomicUsize::new(event) }
    }

    fn event(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.asked.store(true, Ordering::Relaxed);
        }
    }
}

impl Progress for StopAt {
    fn begin(&self, _: u64) {}
    fn run(&self, _: &RunId) {
        self.event();
    }
    fn step(&self, _: Option<f64>) {
        self.event();
    }
    fn note(&self, _: &str) {}
    fn end(&self) {}
}

/// Counts steps and runs.
#[derive(Default)]
struct Counted {
    runs: AtomicUsize,
    steps: AtomicUsize,
}

impl Counted {
    fn seen(&self) -> (usize, usize) {
        (self.runs.load(Ordering::Relaxed), self.steps.load(Ordering::Relaxed))
    }
}

impl Progress for Counted {
    fn begin(&self, _: u64) {}
    fn run(&self, _: &RunId) {
        self.runs.fetch_add(1, Ordering::Relaxed);
    }
    fn step(&self, _: Option<f64>) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
    fn note(&self, _: &str) {}
    fn end(&self) {}
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// Whether a file of a run holds weights.
fn is_weights(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "model.safetensors")
        || path.parent().is_some_and(|parent| parent.ends_with("adapter"))
}

/// The files that must be equal: weights, answers and step logs.
fn outcome(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = Vec::new();
    files(root, &mut all);
    all.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        is_weights(path) || name == "generations.jsonl" || name == "metrics.jsonl"
    });
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).expect("a file");
        (path.strip_prefix(root).expect("inside").to_owned(), bytes)
    };
    all.into_iter().map(read).collect()
}

fn weights(root: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut all = Vec::new();
    files(root, &mut all);
    all.retain(|path| is_weights(path));
    let stamp = |path: PathBuf| {
        let changed = fs::metadata(&path).and_then(|found| found.modified()).expect("a time");
        let bytes = fs::read(&path).expect("a file");
        (path, (changed, bytes))
    };
    all.into_iter().map(stamp).collect()
}

/// The figures of each run.
fn figures(finished: &Seen) -> BTreeMap<String, Value> {
    let rows =
        |record: &Record| (record.id.path().display().to_string(), json!(record.measurements));
    finished.records.iter().map(rows).collect()
}

fn same(seen: &BTreeMap<PathBuf, Vec<u8>>, wanted: &BTreeMap<PathBuf, Vec<u8>>, when: &str) {
    assert!(seen.keys().eq(wanted.keys()), "{when}: {:?}\n{:?}", seen.keys(), wanted.keys());
    for (path, bytes) in wanted {
        assert!(seen[path] == *bytes, "{when}: {} differs", path.display());
    }
}

#[test]
fn four_stages_resume_to_the_bit_wherever_they_are_interrupted() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let whole = place.path().join("whole");
    let counted = Counted::default();
    let done = run(&whole, experiment(&[]), &NEVER, &counted).expect("undisturbed");
    assert_eq!(counted.seen(), (4, 12));
    let (wanted, figures_wanted) = (outcome(&whole), figures(&done));
    for run in RUNS {
        let of = |name: &str| wanted.contains_key(&Path::new(run).join(name));
        assert!(of("generations.jsonl") && of("metrics.jsonl"), "{run}");
        assert!(of("model.safetensors") != of("adapter/adapter_model.safetensors"), "{run}");
    }
    assert!(!whole.join("checkpoints").exists());

    // Stop once at each event.
    for event in 1..=16 {
        let root = place.path().join(format!("once-{event}"));
        let stop = StopAt::new(event);
        match run(&root, experiment(&[]), &stop.asked, &stop) {
            Err(RunError::Interrupted { path }) => assert_eq!(path, root),
            Err(error) => panic!("event {event}: {error}"),
            Ok(_) => panic!("event {event}: the stop was not heeded"),
        }
        let seen = finished(&root, experiment(&[]));
        same(&outcome(&root), &wanted, &format!("event {event}"));
        assert_eq!(figures(&seen), figures_wanted, "event {event}");
    }

    // Stop repeatedly, every few events.
    for events in [2, 3, 5] {
        let root = place.path().join(format!("every-{events}"));
        let mut stops = 0;
        let seen = loop {
            let stop = StopAt::new(events);
            match run(&root, experiment(&[]), &stop.asked, &stop) {
                Ok(seen) => break seen,
                Err(RunError::Interrupted { .. }) => stops += 1,
                Err(error) => panic!("every {events} events, stop {stops}: {error}"),
            }
            assert!(stops < 64, "every {events} events: it does not get on");
        };
        assert!(stops >= 3, "every {events} events: {stops} stops");
        same(&outcome(&root), &wanted, &format!("every {events} events"));
        assert_eq!(figures(&seen), figures_wanted, "every {events} events");
    }
}

/// The stage without steps undid half of what the user changed.
#[test]
fn post_tuning_reads_the_aligned_model_and_gives_weights() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = place.path().join("x");
    let seen = finished(&root, experiment(&[]));
    let of = |label: &str, name: &str| -> f64 {
        let run = |record: &&Record| record.id.label == label && record.id.ratio.is_some();
        let record = seen.records.iter().find(run).expect("a record");
        let row = record.measurements.iter().find(|row| row.figure.name == name);
        row.and_then(vxf_report::Row::value).expect("a figure")
    };
    let (before, after) = (of("vaccine", "drift"), of("vaccine+half-back", "drift"));
    assert!(after > 0.0 && after < 0.75 * before, "{before} {after}");

    let record = |run: &str| Run::open(&root.join(run)).expect("a run").record;
    let repaired = record(RUNS[2]);
    assert!(repaired.edited && repaired.steps == 0 && repaired.has_weights());
    assert_eq!(repaired.stage, Stage::PostTuning);
    for pair in RUNS.windows(2) {
        assert_eq!(record(pair[1]).parent.as_deref(), Some(Path::new(pair[0])));
    }
    let lineage = Run::open(&root.join(RUNS[3])).and_then(Run::lineage).expect("all there");
    let ids = lineage.iter().map(|run| run.record.id.path());
    assert!(ids.eq(RUNS.map(PathBuf::from)));
}

#[test]
fn a_metric_is_added_to_a_finished_experiment_without_training() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = place.path().join("x");
    let first = finished(&root, experiment(&[("metrics", json!(["counting"]))]));
    let (before, figures_before) = (weights(&root), figures(&first));
    let asked = COUNTED.load(Ordering::Relaxed);
    assert_eq!((asked, before.is_empty()), (4, false));

    let both = || experiment(&[("metrics", json!(["drift", "counting"]))]);
    let counted = Counted::default();
    let second = run(&root, both(), &NEVER, &counted).expect("measured");
    assert_eq!(counted.seen(), (4, 0), "no step is taken");
    assert!(!second.was_finished && second.failures == 0);
    assert_eq!(COUNTED.load(Ordering::Relaxed), asked, "what was measured stays");
    assert!(weights(&root) == before, "weights are not written again");
    for record in &second.records {
        let run = record.id.path().display().to_string();
        let metrics: Vec<_> = record.measured.keys().map(String::as_str).collect();
        assert_eq!(metrics, ["counting", "drift"], "{run}");
        let kept: Vec<_> =
            record.measurements.iter().filter(|row| row.metric == "counting").collect();
        assert_eq!(json!(kept), figures_before[&run], "{run}");
        // The aligned model has no drift from itself.
        let drifted = record.measurements.iter().any(|row| row.metric == "drift");
        assert_eq!(drifted, record.id.ratio.is_some(), "{run}");
    }

    // The figures equal those of asking for both metrics at once.
    let at_once = finished(&place.path().join("y"), experiment(&[("metrics", json!(["drift"]))]));
    for (one, other) in second.records.iter().zip(&at_once.records) {
        let drift: Vec<_> = one.measurements.iter().filter(|row| row.metric == "drift").collect();
        assert_eq!(json!(drift), json!(other.measurements));
    }
    let counted = Counted::default();
    assert!(run(&root, both(), &NEVER, &counted).expect("finished").was_finished);
    assert_eq!(counted.seen(), (0, 0));
}

#[test]
fn an_experiment_without_its_weights_counts_as_done() {
    let place = tempfile::tempdir().expect("a temporary directory");
    let root = place.path().join("x");
    let kept = finished(&place.path().join("kept"), experiment(&[]));
    let none = || experiment(&[("keep", json!("none"))]);
    let first = finished(&root, none());
    assert_eq!(figures(&first), figures(&kept));
    assert!(weights(&root).is_empty(), "{:?}", weights(&root).keys());
    for run in RUNS {
        assert!(root.join(run).join("result.json").is_file(), "{run}");
        assert!(Run::open(&root.join(run)).is_ok_and(|run| run.is_measured()), "{run}");
    }
    let counted = Counted::default();
    let again = run(&root, none(), &NEVER, &counted).expect("finished");
    assert!(again.was_finished);
    assert_eq!(counted.seen(), (0, 0));
    assert_eq!(figures(&again), figures(&first));

    // A metric that needs the weights is refused with advice, and the records stay.
    let more = experiment(&[("keep", json!("none")), ("metrics", json!(["accuracy"]))]);
    let error = run(&root, more, &NEVER, &Silent).map(drop).expect_err("no weights");
    let mut shown = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        shown += &format!(": {cause}");
        source = cause.source();
    }
    assert!(shown.contains("removed") && shown.contains("--keep weights"), "{shown}");
    let last = finished(&root, none());
    assert_eq!(figures(&last), figures(&first));

    // The same with `--keep adapters`.
    let root = place.path().join("adapters");
    finished(&root, experiment(&[("keep", json!("adapters"))]));
    let left = weights(&root);
    assert!(left.keys().all(|path| path.parent().is_some_and(|it| it.ends_with("adapter"))));
    assert!(left.keys().any(|path| path.starts_with(root.join(RUNS[3]))));
    assert!(!root.join(RUNS[1]).join("model.safetensors").exists());
}
