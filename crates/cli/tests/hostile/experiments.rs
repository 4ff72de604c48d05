//! The directory of an experiment, as read when it is opened again.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use vxf_access::Access;
use vxf_builtins as _;
use vxf_recipe::{Experiment, Layer, Place};
use vxf_report::table::Shown;
use vxf_report::{Part, RunId, charts, detail, samples, summary, table};
use vxf_run::execute::Silent;
use vxf_run::measure::health;
use vxf_run::store::checkpoints::{Checkpoints, Identity};
use vxf_run::store::disk::FileSystem;
use vxf_run::store::{Directory, Manifest, Run, finished, weights};
use vxf_run::{Control, Every, Graph, Prepared, Progress, Stored, diff};

use crate::driver::Format;
use crate::formats::{RECIPE_MEMORY, SMALL, shown};

const RUN: &str = "vaccine/0.5/1";
static NEVER: AtomicBool = AtomicBool::new(false);
static AT_ONCE: AtomicBool = AtomicBool::new(false);

fn settings() -> Layer {
    let mut layer = Layer::new();
    let lora = json!({ "type": "lora", "rank": 2, "alpha": 4 });
    for (key, value) in [
        ("seeds", json!([1])),
        ("harmful_ratios", json!([0.5])),
        ("baseline", json!(false)),
        ("undefended", json!(false)),
        ("threads", json!(1)),
        ("world.alignment_samples", json!(8)),
        ("world.user_samples", json!(8)),
        ("world.harmful_test", json!(2)),
        ("world.task_test", json!(2)),
        ("world.benign_test", json!(2)),
        ("world.alignment_probe", json!(2)),
        ("world.max_new_tokens", json!(2)),
        ("alignment.epochs", json!(2)),
        ("alignment.trainable", lora.clone()),
        ("fine_tuning.epochs", json!(2)),
        ("fine_tuning.trainable", json!("full")),
    ] {
        layer.set(key, value, Place::Default).expect("a setting");
    }
    layer
}

fn expected() -> Experiment {
    Experiment::of(settings()).expect("a recipe")
}

/// One experiment for all formats; kept until the process ends.
fn made() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = tempfile::tempdir().expect("a temporary directory").keep().join("whole");
        let access = Access::new(true).expect("no network");
        let prepared = Prepared::new(expected(), access).expect("a sound recipe");
        let control = Control::new(Every::default(), &NEVER);
        prepared.run(Some(&root), control, &Silent).expect("a finished experiment");
        root
    })
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let place = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            std::fs::create_dir(&place).expect("a directory");
            copy(&path, &place);
        } else {
            std::fs::copy(&path, &place).expect("a copy");
        }
    }
}

/// Reads an experiment in every way and returns the first error.
fn open(root: &Path, manifest: &Manifest, recipe: &Experiment) -> Result<(), String> {
    let mut first = Ok(());
    let mut told = |result: Result<(), String>| {
        if first.is_ok() {
            first = result;
        }
    };
    told(diff::of_experiment(recipe, root).map(drop).map_err(shown));
    told(finished::experiment(root).map(drop).map_err(shown));
    told(finished::manifest(root).map(drop).map_err(shown));
    let run = Run::open(&root.join(RUN)).map_err(shown);
    if let Ok(run) = Run::open(&root.join(RUN)) {
        match run.lineage() {
            Err(error) => told(Err(shown(error))),
            Ok(lineage) => finished::layers(&lineage).iter().for_each(|layer| {
                let loaded = weights::load(
                    &layer.trainable,
                    &layer.place,
                    candle_core::DType::F32,
                    &candle_core::Device::Cpu,
                );
                told(loaded.map(drop).map_err(shown));
            }),
        }
    }
    told(run.map(drop));
    told(Run::to_start_from(root).map(drop).map_err(shown));
    let control = Control::new(Every::default(), &NEVER);
    let directory = match Directory::open(root, recipe, manifest, control, &Silent) {
        Err(error) => {
            told(Err(shown(error)));
            return first;
        }
        Ok(directory) => directory,
    };
    let graph = Graph::of(recipe, None).expect("a graph");
    let run = RunId { label: "vaccine".into(), ratio: Some(0.5), seed: 1, axes: Vec::new() };
    told(directory.answers(&run).map(drop).map_err(shown));
    match directory.records(graph.runs.iter().map(|run| &run.id)) {
        Err(error) => told(Err(shown(error))),
        Ok(records) => {
            table::comparison(&graph.layout, &records, &Shown::default());
            summary::summary(&graph.layout, &records, &[]);
            detail::of_metric(&graph.layout, &records, "drift");
            health::doubts(&graph.layout, &records);
            // The losses in a record may well be in doubt.
            let _ = health::verdict(&graph.layout, &records, true);
            let answers = samples::closing(&graph.layout, true, &Default::default(), |run| {
                directory.answers(run)
            });
            told(answers.map(drop).map_err(shown));
        }
    }
    told(pages(root).map_err(shown));
    first
}

/// Makes the page of an experiment, with all pictures.
fn pages(root: &Path) -> vxf_run::Result<()> {
    let stored = Stored::open(root)?;
    let (layout, records, curves) = (&stored.layout, &stored.records, stored.curves()?);
    let mut pictures = charts::against_ratio(layout, records);
    pictures.extend(charts::over_steps(layout, &curves));
    pictures.extend(charts::by_layer(layout, records, &curves));
    pictures.extend(charts::against_drift(layout, records));
    pictures.iter().for_each(|picture| drop(picture.csv()));
    let page = vxf_report::format::page("page", &[Part::Pictures(pictures)]);
    assert!(!page.contains("<script"), "{page}");
    vxf_report::format::tidy("page", records);
    Ok(())
}

fn format(place: &Path, file: &'static str, words: &'static [&'static str]) -> Format {
    copy(made(), place);
    let recipe = expected();
    let text = std::fs::read_to_string(place.join("manifest.json")).expect("a manifest");
    let manifest: Manifest = serde_json::from_str(&text).expect("a manifest");
    Format {
        file,
        specimens: vec![std::fs::read(place.join(file)).expect("a specimen")],
        words,
        read: Box::new(move |root| open(root, &manifest, &recipe)),
        // Each error names a file in the directory of the case.
        named: &["/"],
        memory: SMALL,
    }
}

/// The resolved recipe.
pub(crate) fn recipe(place: &Path) -> Format {
    let words = &[
        "seeds = [1]\n",
        "extends = \"x\"\n",
        "[model]\n",
        "path = \"/\"\n",
        "nan",
        "[[",
        "= {}\n",
    ];
    Format { memory: RECIPE_MEMORY, ..format(place, "config.resolved.toml", words) }
}

const JSON: &[&str] = &[
    "null",
    "[]",
    "{}",
    "\"x\"",
    "-1",
    "true",
    ",",
    "\"parent\":\"../../../..\",",
    "\"parent\":\"/etc\",",
    "\"value\":",
    "\"ratio\":null,",
    "\"label\":\"../x\",",
    "\"stage\":\"alignment\",",
    "\"training_loss\":null,",
];

/// The manifest.
pub(crate) fn manifest(place: &Path) -> Format {
    format(place, "manifest.json", JSON)
}

/// A run's record.
pub(crate) fn record(place: &Path) -> Format {
    format(place, "vaccine/0.5/1/result.json", JSON)
}

/// A run's answers.
pub(crate) fn answers(place: &Path) -> Format {
    format(place, "vaccine/0.5/1/generations.jsonl", JSON)
}

/// A run's weights; the header comes first.
pub(crate) fn weights(place: &Path) -> Format {
    let made = format(place, "vaccine/aligned/1/adapter/adapter_model.safetensors", JSON);
    Format { memory: 16 << 20, ..made }
}

/// Asks to stop at the first step.
struct AfterOne;

impl Progress for AfterOne {
    fn begin(&self, _: u64) {}
    fn run(&self, _: &RunId) {}
    fn step(&self, _: Option<f64>) {
        AT_ONCE.store(true, Ordering::Relaxed);
    }
    fn note(&self, _: &str) {}
    fn end(&self) {}
}

/// An experiment interrupted after its first step.
fn stopped() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let root = tempfile::tempdir().expect("a temporary directory").keep().join("stopped");
        let access = Access::new(true).expect("no network");
        let prepared = Prepared::new(expected(), access).expect("a sound recipe");
        let control = Control::new(Every::Steps(1), &AT_ONCE);
        prepared.run(Some(&root), control, &AfterOne).expect_err("stopped");
        root.join("checkpoints/vaccine/aligned/1")
    })
}

const STEP: &str = "step-0000000001";

/// A checkpoint with correct digests, as an attacker would make it.
fn checkpoint(place: &Path, file: &'static str, words: &'static [&'static str]) -> Format {
    copy(stopped(), place);
    let state = place.join(STEP).join("state.json");
    let state: Value =
        serde_json::from_slice(&std::fs::read(state).expect("a state")).expect("JSON");
    let digest = state["recipe"].as_str().expect("a digest").to_owned();
    let identity = Identity { digest, recipe: String::new() };
    let read = move |root: &Path| {
        let listing = root.join(STEP).join("manifest.json");
        if !file.ends_with("/manifest.json") {
            let bytes = std::fs::read(root.join(file)).expect("a case");
            let text = std::fs::read_to_string(&listing).expect("a list");
            let mut list: Value = serde_json::from_str(&text).expect("a list");
            let digest = Sha256::digest(&bytes);
            let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            let name = file.rsplit('/').next().expect("a name");
            list["files"][name] = json!({ "bytes": bytes.len(), "sha256": digest });
            std::fs::write(&listing, list.to_string()).expect("writable");
        }
        let checkpoints = Checkpoints::new(&FileSystem, root.to_owned(), identity.clone());
        checkpoints.read(1).map(drop)
    };
    Format {
        file,
        specimens: vec![std::fs::read(place.join(file)).expect("a specimen")],
        words,
        read: Box::new(read),
        named: &[STEP],
        memory: SMALL,
    }
}

/// A checkpoint's list of files.
pub(crate) fn checkpoint_list(place: &Path) -> Format {
    checkpoint(place, "step-0000000001/manifest.json", JSON)
}

/// The state of a training.
pub(crate) fn checkpoint_state(place: &Path) -> Format {
    checkpoint(place, "step-0000000001/state.json", JSON)
}

/// A group of its tensors; the header comes first.
pub(crate) fn checkpoint_tensors(place: &Path) -> Format {
    let made = checkpoint(place, "step-0000000001/second_moments.safetensors", JSON);
    Format { memory: 16 << 20, ..made }
}
