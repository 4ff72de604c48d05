//! The graph of runs: which runs a recipe has, how they are named, and which are shared.

use std::collections::{BTreeMap, BTreeSet};

use vxf_builtins as _;
use vxf_core::prelude::*;
use vxf_recipe::{Experiment, file};
use vxf_report::RunId;
use vxf_run::Graph;
use vxf_run::plan::RunSpec;

/// A post-tuning method that changes nothing.
struct Untouched;

impl Defense for Untouched {}

vxf_core::config! {
    /// Settings of `untouched`.
    pub struct UntouchedConfig {}
}

#[typetag::serde(name = "untouched")]
impl DefenseConfig for UntouchedConfig {
    fn trains(&self) -> bool {
        false
    }

    fn build(&self, _: &BuildContext<'_>) -> Result<Box<dyn Defense>> {
        Ok(Box::new(Untouched))
    }
}

vxf_core::register! {
    defense "untouched" => UntouchedConfig,
    summary: "Gives back what it gets",
    paper: "-",
    stages: [PostTuning],
}

fn graph(text: &str) -> Graph {
    let layer = file::parse(text, "recipe.toml").expect("TOML");
    let experiment = Experiment::of(layer).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Graph::of(&experiment, None).expect("a graph")
}

fn path(id: &RunId) -> String {
    id.path().to_str().expect("plain names").replace(std::path::MAIN_SEPARATOR, "/")
}

/// The paths of all runs; each is there once.
fn paths(graph: &Graph) -> BTreeSet<String> {
    let all: Vec<_> = graph.runs.iter().map(|run| path(&run.id)).collect();
    let set: BTreeSet<_> = all.iter().cloned().collect();
    assert_eq!(set.len(), all.len(), "{all:?}");
    set
}

/// All combinations of `labels`, `ratios` and `ends`, joined as paths.
fn product(labels: &[&str], ratios: &[&str], ends: &[&str]) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for label in labels {
        for ratio in ratios {
            all.extend(ends.iter().map(|end| format!("{label}/{ratio}/{end}")));
        }
    }
    all
}

/// The parent of each run by path; checks that parents come first.
fn parents(graph: &Graph) -> BTreeMap<String, Option<String>> {
    let parent = |(index, run): (usize, &RunSpec)| {
        assert!(run.parent.is_none_or(|parent| parent < index), "{}", path(&run.id));
        (path(&run.id), run.parent.map(|parent| path(&graph.runs[parent].id)))
    };
    graph.runs.iter().enumerate().map(parent).collect()
}

/// The rows of each block of the comparison, with their numbers of runs.
fn rows(graph: &Graph) -> Vec<(String, Vec<(String, usize)>)> {
    let blocks = graph.layout.blocks.iter().map(|block| {
        let lines = block.lines.iter().map(|line| (line.name.clone(), line.runs.len()));
        (block.when.headline(), lines.collect())
    });
    blocks.collect()
}

const ALL: [&str; 4] = ["aligned", "0", "0.1", "0.2"];
const FINE_TUNED: [&str; 3] = ["0", "0.1", "0.2"];
const SEEDS: [&str; 3] = ["1", "2", "3"];

#[test]
fn the_default_recipe_keeps_its_paths() {
    let graph = graph("");
    let wanted = product(&["none", "sft", "vaccine"], &ALL, &SEEDS);
    assert_eq!(wanted.len(), 36);
    assert_eq!(paths(&graph), wanted);
    for (child, parent) in parents(&graph) {
        let [label, ratio, seed] = child.split('/').collect::<Vec<_>>()[..] else {
            panic!("{child}")
        };
        let aligned = (ratio != "aligned").then(|| format!("{label}/aligned/{seed}"));
        assert_eq!(parent, aligned, "{child}");
    }
    let rows = rows(&graph);
    let headlines: Vec<_> = rows.iter().map(|(headline, _)| headline.as_str()).collect();
    assert_eq!(headlines.len(), 4, "{headlines:?}");
    assert!(headlines[0].starts_with("Aligned") && headlines[3].ends_with("p = 0.2"));
    let lines = ["none", "sft", "vaccine"].map(|name| (name.to_owned(), 3));
    assert!(rows.iter().all(|(_, seen)| *seen == lines), "{rows:?}");
    for block in &graph.layout.blocks {
        assert!(block.lines.iter().all(|line| line.baseline.as_deref() == Some("sft")));
        assert_eq!(block.tested, ["vaccine"]);
    }
}

#[test]
fn a_single_stage_has_only_its_own_runs() {
    let graph = graph("stages = \"alignment\"\nundefended = false\n");
    assert_eq!(paths(&graph), product(&["sft", "vaccine"], &["aligned"], &SEEDS));
}

#[test]
fn baselines_are_added_once_to_an_axis_of_defences() {
    let several = graph("[axes]\ndefense = [\"vaccine\", \"random\"]\n");
    assert_eq!(paths(&several), product(&["none", "sft", "vaccine", "random"], &ALL, &SEEDS));
    for block in &several.layout.blocks {
        let names: Vec<_> = block.lines.iter().map(|line| line.name.as_str()).collect();
        assert_eq!(names, ["none", "sft", "vaccine", "random"]);
        assert_eq!(block.tested, ["vaccine", "random"]);
    }
    // Plain training on the axis is the same row as the baseline.
    let plain = graph("[axes]\ndefense = [\"sft\", \"vaccine\", \"none\"]\n");
    assert_eq!(paths(&plain), product(&["none", "sft", "vaccine"], &ALL, &SEEDS));
    let tested: BTreeSet<_> = plain.layout.blocks[0].tested.iter().map(String::as_str).collect();
    assert_eq!(tested, BTreeSet::from(["none", "sft", "vaccine"]));
}

#[test]
fn an_axis_of_the_perturber_does_not_change_plain_training() {
    let graph = graph("[axes]\nperturber.rho = [1, 3, 5]\n");
    let ends: Vec<_> = SEEDS
        .iter()
        .flat_map(|seed| ["1", "3", "5"].map(|rho| format!("{seed}/perturber.rho={rho}")))
        .collect();
    let ends: Vec<_> = ends.iter().map(String::as_str).collect();
    let mut wanted = product(&["vaccine"], &ALL, &ends);
    wanted.extend(product(&["none", "sft"], &ALL, &SEEDS));
    assert_eq!(paths(&graph), wanted);
    let names: Vec<_> = rows(&graph)[1].1.iter().map(|(name, _)| name.clone()).collect();
    let vaccine = ["1", "3", "5"].map(|rho| format!("vaccine perturber.rho={rho}"));
    assert_eq!(names[..2], ["none", "sft"]);
    assert_eq!(names[2..], vaccine);
    assert_eq!(
        parents(&graph)["vaccine/0.1/2/perturber.rho=3"].as_deref(),
        Some("vaccine/aligned/2/perturber.rho=3")
    );
}

#[test]
fn an_axis_of_fine_tuning_shares_the_aligned_runs() {
    let graph = graph("[axes]\nfine_tuning.learning_rate = [1e-4, 2e-4]\n");
    let labels = ["none", "sft", "vaccine"];
    let ends: Vec<_> = SEEDS
        .iter()
        .flat_map(|seed| {
            ["0.0001", "0.0002"].map(|rate| format!("{seed}/fine_tuning.learning_rate={rate}"))
        })
        .collect();
    let ends: Vec<_> = ends.iter().map(String::as_str).collect();
    let mut wanted = product(&labels, &FINE_TUNED, &ends);
    wanted.extend(product(&labels, &["aligned"], &SEEDS));
    assert_eq!(paths(&graph), wanted);
    for (child, parent) in parents(&graph) {
        let parts: Vec<_> = child.split('/').collect();
        let aligned = (parts.len() == 4).then(|| format!("{}/aligned/{}", parts[0], parts[2]));
        assert_eq!(parent, aligned, "{child}");
    }
}

/// A row is compared with plain training under the same settings of the user, and stands below it.
#[test]
fn every_row_of_an_axis_has_the_baseline_of_its_own_point() {
    let graph = graph("undefended = false\n[axes]\nfine_tuning.learning_rate = [2e-4, 1e-4]\n");
    let name = |method: &str, rate: &str| format!("{method} fine_tuning.learning_rate={rate}");
    let block = graph.layout.blocks.last().expect("a block");
    let seen: Vec<_> =
        block.lines.iter().map(|line| (line.name.clone(), line.baseline.clone())).collect();
    let row = |method, rate| (name(method, rate), Some(name("sft", rate)));
    let wanted =
        [("sft", "0.0002"), ("vaccine", "0.0002"), ("sft", "0.0001"), ("vaccine", "0.0001")];
    assert_eq!(seen, wanted.map(|(method, rate)| row(method, rate)));
    assert_eq!(block.tested, [name("vaccine", "0.0002"), name("vaccine", "0.0001")]);
    // Alignment is shared by both rates, and each of its rows is there once.
    let aligned = graph.layout.blocks.first().expect("a block");
    assert_eq!(aligned.tested, ["vaccine"]);
    assert_eq!(aligned.lines.len(), 2);
}

/// With two axes, each run shows only the values on which it differs from others of its name.
#[test]
fn names_of_runs_show_the_axes_on_which_they_differ() {
    let graph = graph(
        "seeds = [1]\nharmful_ratios = [0.1]\nbaseline = false\nundefended = false\n\
         [axes]\ndefense = [\"vaccine\", \"sft\"]\nalignment.epochs = [1, 2]\n",
    );
    let ends = ["1/alignment.epochs=1", "1/alignment.epochs=2"];
    assert_eq!(paths(&graph), product(&["vaccine", "sft"], &["aligned", "0.1"], &ends));
}

/// A method with other settings than the baseline of the same name gets another name.
#[test]
fn two_rows_never_share_a_name() {
    let text = "seeds = [1]\nharmful_ratios = [0.1]\n[defense]\nname = \"sft\"\n\
                [fine_tune_defense]\nname = \"ewc\"\n";
    let labels = paths(&graph(text));
    assert!(labels.contains("sft+ewc/0.1/1") && labels.contains("sft/0.1/1"), "{labels:?}");
    assert_eq!(labels.len(), 5, "aligned plain training is shared: {labels:?}");
}

const FOUR: &str = r#"
seeds = [1, 2]
harmful_ratios = [0.0, 0.5]
[[stage]]
kind = "alignment"
defense = "vaccine"
[[stage]]
kind = "fine_tuning"
[[stage]]
kind = "post_tuning"
defense = "untouched"
[[stage]]
kind = "fine_tuning"
"#;

#[test]
fn a_kind_of_stage_may_come_twice() {
    let graph = graph(&format!("baseline = false\nundefended = false\n{FOUR}"));
    let (ratios, seeds) = (["0", "0.5"], ["1", "2"]);
    let mut wanted = product(&["vaccine"], &["aligned", "0", "0.5"], &seeds);
    wanted.extend(product(&["vaccine+untouched", "vaccine+untouched+sft"], &ratios, &seeds));
    assert_eq!(paths(&graph), wanted);

    let parents = parents(&graph);
    for ratio in ratios {
        for seed in seeds {
            let last = format!("vaccine+untouched+sft/{ratio}/{seed}");
            let mut lineage = vec![last];
            while let Some(parent) = &parents[&lineage[lineage.len() - 1]] {
                lineage.push(parent.clone());
            }
            let wanted = [
                format!("vaccine+untouched+sft/{ratio}/{seed}"),
                format!("vaccine+untouched/{ratio}/{seed}"),
                format!("vaccine/{ratio}/{seed}"),
                format!("vaccine/aligned/{seed}"),
            ];
            assert_eq!(lineage, wanted);
        }
    }
    for run in &graph.runs {
        let (kind, earlier) = [
            (Stage::Alignment, 0),
            (Stage::FineTuning, 0),
            (Stage::PostTuning, 0),
            (Stage::FineTuning, 1),
        ][run.depth];
        assert_eq!((run.stage.kind, run.earlier), (kind, earlier), "{}", path(&run.id));
        assert_eq!(run.id.ratio.is_none(), run.depth == 0);
    }
    let index = graph.runs.iter().position(|run| run.depth == 3).expect("a last stage");
    let lineage = graph.lineage(index);
    let depths: Vec<_> = lineage.iter().map(|run| graph.runs[*run].depth).collect();
    assert_eq!(depths, [0, 1, 2, 3]);
    let children: Vec<_> = graph.children(Some(lineage[2])).collect();
    assert_eq!(children, [index]);
}

/// A repaired model is compared with its parent and with plain training.
#[test]
fn post_tuning_is_compared_with_what_it_repairs() {
    let graph =
        graph("seeds = [1]\nharmful_ratios = [0.5]\n[post_tune_defense]\nname = \"untouched\"\n");
    let wanted = product(&["none", "sft", "vaccine"], &["aligned", "0.5"], &["1"]);
    let wanted: BTreeSet<_> =
        wanted.into_iter().chain(["vaccine+untouched/0.5/1".to_owned()]).collect();
    assert_eq!(paths(&graph), wanted);
    let rows = rows(&graph);
    let (headline, lines) = rows.last().expect("a block");
    assert!(headline.starts_with("After post-tuning"), "{headline}");
    let names: Vec<_> = lines.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["none", "sft", "vaccine", "vaccine+untouched"]);
    let last = graph.layout.blocks.last().expect("a block");
    assert_eq!(last.tested, ["vaccine+untouched"]);
    assert!(last.lines.iter().all(|line| line.baseline.as_deref() == Some("sft")));
}

/// Runs with different data are different runs, whichever stage reads it.
#[test]
fn runs_on_other_data_are_other_runs() {
    let graph = graph(
        "seeds = [1]\nharmful_ratios = [0.0]\nbaseline = false\nundefended = false\n\
         [axes]\nworld.alignment_samples = [16, 32]\n",
    );
    let ends = ["1/world.alignment_samples=16", "1/world.alignment_samples=32"];
    assert_eq!(paths(&graph), product(&["vaccine"], &["aligned", "0"], &ends));
}
