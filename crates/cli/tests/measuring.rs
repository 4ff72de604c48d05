//! What is measured and when; a failed metric never costs a trained model.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Place, RECIPE, Told};
use serde_json::{Value, json};

const FINE_TUNED: &str = "out/vaccine/0.5/1";
const ALONE: &[&str] = &["--no-baseline", "--no-undefended", "--output-dir=out"];

fn read(place: &Place, file: &str) -> Value {
    let text = std::fs::read_to_string(place.path(file)).expect("a record");
    serde_json::from_str(&text).expect("JSON")
}

/// All files of an experiment's runs, without times.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    fn collect(root: &Path, at: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(at).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(root, &path, all);
                continue;
            }
            let mut bytes = std::fs::read(&path).expect("readable");
            if path.ends_with("result.json") || path.ends_with("training.json") {
                let mut record: Value = serde_json::from_slice(&bytes).expect("a record");
                record["seconds"].take();
                bytes = record.to_string().into_bytes();
            }
            let name = path.strip_prefix(root).expect("inside").display().to_string();
            if name.contains('/') {
                all.insert(name, bytes);
            }
        }
    }
    let mut all = BTreeMap::new();
    collect(root, root, &mut all);
    all
}

/// The figure of a metric.
fn figure(rows: &Value, metric: &str) -> Option<Value> {
    let row = rows.as_array().expect("rows").iter().find(|row| row["metric"] == metric);
    row.map(|row| row["value"].clone())
}

/// The comparison at the beginning of the output.
fn table(told: &Told) -> &str {
    let text = told.ok();
    let end = ["\nSettings that differ", ", in full\n"].iter().filter_map(|it| text.find(it)).min();
    let table = &text[..end.expect("something follows the table")];
    let (table, _) = table.rsplit_once('\n').expect("lines");
    table.trim_end()
}

/// A model of one's own without data, on the proxy policy: run, measured again, and verified.
#[test]
fn a_model_without_data_is_run_and_measured_again() {
    let place = Place::new();
    place.llama("model", 8_000);
    let sizes = [
        "alignment_samples=8",
        "user_samples=8",
        "harmful_test=3",
        "benign_test=3",
        "task_test=3",
        "alignment_probe=2",
        "max_new_tokens=2",
    ];
    let sizes = sizes.map(|size| format!("--set=data.{size}"));
    let mut args = vec!["run", "--model=model", "--defense=sft", "--seed=1", "--output-dir=out"];
    // A setting names the section, so the source is named with it.
    args.extend(["--set=data.source=proxy", "--set=fine_tuning.learning_rate=0.01"]);
    args.push("--set=fine_tuning.epochs=8");
    args.extend(sizes.iter().map(String::as_str));
    let run = place.vxf(&args);
    let table = table(&run);
    let again = place.vxf(&["eval", "out"]);
    assert!(again.ok().starts_with(table), "{}\nis not\n{table}", again.stdout);
    place.vxf(&["eval", "out", "--template", "chat"]).fails(2, &["has its own template"]);
    place.vxf(&["verify", "out"]).ok();
    // Without any setting it is the same source.
    let plan = place.vxf(&["validate", "--model=model", "--json"]).json();
    assert_eq!(plan["recipe"]["data"]["source"], "proxy");
}

#[test]
fn eval_prints_the_table_of_the_run_to_the_digit() {
    let place = Place::new();
    let run = place.tiny(&["--seed=2", "--no-undefended", "--output-dir=out"]);
    let table = table(&run);
    assert!(table.contains("mean over 2 seeds") && table.contains("95 % interval"), "{table}");
    // With stored answers, and with new ones.
    let kept = place.vxf(&["eval", "out"]);
    assert!(kept.ok().starts_with(table), "{}\nis not\n{table}", kept.stdout);
    assert_eq!(kept.stderr.matches("stored answers").count(), 1, "{}", kept.stderr);
    let anew = place.vxf(&["eval", "out", "--anew"]);
    assert!(anew.ok().starts_with(table), "{}\nis not\n{table}", anew.stdout);
    assert!(!anew.stderr.contains("stored answers"), "{}", anew.stderr);
    // A run with another seed than the recipe's first.
    for run in ["out/sft/0.5/2", "out/vaccine/aligned/2"] {
        let again = place.vxf(&["eval", run, "--json"]).json();
        let record = read(&place, &format!("{run}/result.json"));
        assert_eq!(again["measurements"], record["measurements"], "{run}");
    }

    // With other data, a note says so, and no stored answers are reused.
    let other = place.vxf(&["eval", "out", "--set=seeds=[7]"]);
    assert!(other.stderr.contains("measured on the data of seed 7"), "{}", other.stderr);
    assert!(other.stderr.contains("new answers are generated"), "{}", other.stderr);
    assert!(!other.ok().starts_with(table) && !other.stderr.contains("stored answers"));
    place.vxf(&["eval", "out", "--set=seeds=[7,8]"]).fails(2, &["seeds", "--set seeds=[7]"]);
    let longer = place.vxf(&["eval", "out/sft/0.5/1", "--set=world.max_new_tokens=5"]);
    longer.ok();
    assert!(longer.stderr.contains("new answers are generated"), "{}", longer.stderr);
}

#[test]
fn a_failed_metric_costs_only_its_own_figures() {
    let place = Place::new();
    let whole = place.tiny(&["--output-dir=whole", "--no-baseline", "--no-undefended"]);
    whole.ok();
    // Without a judge there is no harmful score.
    let told = place.tiny(&[ALONE, &["--set=judges=[]"]].concat());
    assert_eq!(told.code, 1, "{}", told.stderr);
    let row = told.stdout.lines().find(|line| line.contains("vaccine")).expect("a row");
    assert!(row.contains(" - ") && row.chars().any(|c| c.is_ascii_digit()), "{}", told.stdout);
    assert_eq!(told.stderr.matches("warning: ").count(), 1, "once per kind: {}", told.stderr);
    for part in ["`harmful-score`", "a judge", "and 1 more", "`vxf resume out`"] {
        assert!(told.stderr.contains(part), "no `{part}` in {}", told.stderr);
    }
    let record = read(&place, &format!("{FINE_TUNED}/result.json"));
    assert!(record["failed"]["harmful-score"].is_string(), "{record}");
    assert!(figure(&record["measurements"], "accuracy").is_some());
    let again = place.vxf(&["resume", "out"]);
    assert!(again.code == 1 && again.stderr.contains("0 steps to take"), "{}", again.stderr);

    // With a judge it is measured, and nothing is trained again.
    let told = place.tiny(ALONE);
    assert_eq!(table(&told), table(&whole));
    assert!(told.stderr.contains("0 steps to take"), "{}", told.stderr);
    assert_eq!(files(&place.path("out")), files(&place.path("whole")));
}

#[test]
fn a_metric_is_added_to_finished_runs_and_nothing_else_is_done() {
    let place = Place::new();
    place.tiny(ALONE).ok();
    // This value would change if the figure were measured again.
    let result = place.path(FINE_TUNED).join("result.json");
    place.edit(&result, |record| {
        let rows = record["measurements"].as_array_mut().expect("rows");
        let row = rows.iter_mut().find(|row| row["metric"] == "accuracy").expect("accuracy");
        row["value"] = json!(12.5);
    });
    let more = [ALONE, &["--metric=helpfulness", "--metric=perplexity"]].concat();
    let told = place.tiny(&more);
    assert!(told.ok().contains("helpfulness in %") && told.stdout.contains("perplexity in ppl"));
    for part in ["2 runs are trained and not measured", "0 steps to take"] {
        assert!(told.stderr.contains(part), "no `{part}` in {}", told.stderr);
    }
    let rows = read(&place, &format!("{FINE_TUNED}/result.json"))["measurements"].clone();
    assert_eq!(figure(&rows, "accuracy"), Some(json!(12.5)));
    // The same call again has nothing to do.
    let again = place.tiny(&more);
    assert!(again.ok() == told.stdout && again.stderr.contains("is finished"), "{}", again.stderr);
    // A call without the metric does not show it, and `resume` shows the metrics of the last call.
    let fewer = place.tiny(ALONE);
    assert!(!fewer.ok().contains("helpfulness") && fewer.stderr.contains("is finished"));
    let resumed = place.vxf(&["resume", "out"]);
    assert_eq!(table(&resumed), table(&fewer));
    assert!(!resumed.stdout.contains("helpfulness"), "{}", resumed.stdout);

    // Measured at once or one by one, the bytes are the same, except for the figure above.
    let once = ["--no-baseline", "--no-undefended", "--output-dir=once"];
    let metrics = ["--metric=helpfulness", "--metric=perplexity"];
    place.tiny(&[&once[..], &metrics].concat()).ok();
    let (mut one, mut other) = (files(&place.path("once")), files(&place.path("out")));
    let attacked = "vaccine/0.5/1/result.json";
    assert!(one.remove(attacked) != other.remove(attacked), "the figure above");
    assert_eq!(one, other);
}

#[test]
fn measurements_are_not_part_of_an_experiments_identity() {
    let place = Place::new();
    let first = place.tiny(&["--no-baseline", "--no-undefended", "--json"]).json();
    for (key, value) in [
        ("world.max_new_tokens", "3"),
        ("world.harmful_test", "5"),
        ("world.alignment_probe", "3"),
        ("metrics", "[\"perplexity\"]"),
    ] {
        let set = format!("--set={key}={value}");
        let told = place.tiny(&["--no-baseline", "--no-undefended", "--json", &set]);
        assert_eq!(told.json()["experiment"], first["experiment"], "{key}");
        assert!(told.stderr.contains("0 steps to take"), "{key}: {}", told.stderr);
    }
    let back = place.tiny(&["--no-baseline", "--no-undefended", "--json"]).json();
    let rows = |value: &Value| {
        let runs = value["runs"].as_array().expect("runs").iter();
        runs.map(|run| run["measurements"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(rows(&back), rows(&first));
}

#[test]
fn a_run_that_was_killed_before_it_was_measured_is_measured() {
    let place = Place::new();
    place.tiny(ALONE).ok();
    let whole = files(&place.path("out"));
    for run in ["out/vaccine/aligned/1", FINE_TUNED] {
        for file in ["result.json", "generations.jsonl"] {
            std::fs::remove_file(place.path(run).join(file)).expect("it was there");
        }
    }
    // An interrupted write.
    place.write(&format!("{FINE_TUNED}/.partial-result.json"), "{");
    // It is a run already: it can be measured, and taken away.
    assert!(place.vxf(&["eval", FINE_TUNED]).ok().contains("harmful_score"));
    place.vxf(&["export", FINE_TUNED, "--merged", "--output-dir=away"]).ok();
    let told = place.tiny(ALONE);
    told.ok();
    assert!(told.stderr.contains("0 steps to take"), "{}", told.stderr);
    assert_eq!(files(&place.path("out")), whole);
    assert!(!place.path("out/checkpoints").exists());
}

#[test]
fn runs_of_the_previous_schema_are_read() {
    let place = Place::new();
    let told = place.tiny(ALONE);
    for run in ["out/vaccine/aligned/1", FINE_TUNED] {
        std::fs::remove_file(place.path(run).join("training.json")).expect("it was there");
        place.edit(&place.path(run).join("result.json"), |record| {
            for key in ["measured", "answers"] {
                assert!(record.as_object_mut().expect("a record").remove(key).is_some(), "{key}");
            }
        });
    }
    let again = place.vxf(&["eval", "out"]);
    assert!(again.ok().starts_with(table(&told)), "{}", again.stdout);
    assert!(again.stderr.contains("stored answers"), "{}", again.stderr);
    // Nobody knows what it was measured on, so it is measured again; nothing is trained.
    let again = place.tiny(ALONE);
    assert_eq!(again.ok(), told.stdout);
    assert!(again.stderr.contains("0 steps to take"), "{}", again.stderr);
}

#[test]
fn perplexity_on_files_says_what_it_needs_before_anything_is_trained() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    let before = place.names();
    let run: &[&str] = &["run", "recipe.toml", "--output-dir=out", "--metric=perplexity"];
    for args in [&["validate", "recipe.toml", "--metric=perplexity"], run] {
        place.vxf(args).fails(2, &["`perplexity` needs samples", "`data.fluency`"]);
    }
    assert_eq!(place.names(), before, "nothing is written");
    let text = "{\"text\": \"placeholder text one\"}\n{\"text\": \"placeholder text two\"}\n";
    place.write("fluency.jsonl", text);
    place.write("recipe.toml", &format!("{RECIPE}fluency = {{ path = \"fluency.jsonl\" }}\n"));
    let value = place.vxf(&[run, &["--json"]].concat()).json();
    for run in value["runs"].as_array().expect("runs") {
        let perplexity = figure(&run["measurements"], "perplexity").expect("perplexity");
        assert!(perplexity.as_f64().is_some_and(|it| it > 1.0), "{perplexity}");
    }
}

#[test]
fn eval_measures_the_requested_metrics_and_never_none() {
    let place = Place::new();
    place.tiny(&[ALONE, &["--metric=drift"]].concat()).ok();
    // `--metric` replaces the metrics of the recipe.
    for target in [FINE_TUNED, "out"] {
        let told = place.vxf(&["eval", target, "--metric=helpfulness"]);
        assert!(told.ok().contains("helpfulness"), "{}", told.stdout);
        assert!(!told.stdout.contains("drift"), "{}", told.stdout);
    }
    let told = place.vxf(&["eval", "out/vaccine/aligned/1", "--metric=drift"]);
    told.fails(2, &["nothing was measured", "drift compares with the aligned model"]);
    place
        .vxf(&["eval", FINE_TUNED, "--set=metrics=[]"])
        .fails(2, &["nothing was measured", "--metric"]);
    let told = place.vxf(&["eval", "out", "--metric=harmful-score", "--set=judges=[]"]);
    told.fails(1, &["`harmful-score`", "a judge", "and 1 more"]);
    // A failed metric does not affect the others.
    let told = place.vxf(&["eval", FINE_TUNED, "--set=judges=[]"]);
    assert!(told.code == 1 && told.stdout.contains("alignment_loss"), "{told:?}");
}
