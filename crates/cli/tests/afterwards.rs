//! Commands on a finished run of a user's own model: evaluate, generate, export, compare.

mod common;

use common::{Place, RECIPE};
use serde_json::{Value, json};

/// The figure called `name` among rows.
fn figure<'a>(rows: &'a Value, name: &str) -> &'a Value {
    let rows = rows.as_array().expect("rows");
    rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name} in {rows:?}"))
}

const RUN: &str = "out/vaccine/0.2/1";

#[test]
fn eval_generate_export_and_diff_work_on_a_run() {
    let place = Place::new();
    place.llama("model", 8_000);
    place.protocol();
    let told = place.vxf(&["run", "recipe.toml", "--output-dir", "out"]);
    // Answers to harmful requests are kept in files and not shown.
    assert!(told.ok().contains("[withheld: `--log-samples` shows it]"), "{}", told.stdout);

    // Figures of two judges stand side by side; the judge without scores has none yet.
    let rows = place.vxf(&["eval", RUN, "--json"]).json()["measurements"].clone();
    let score = figure(&rows, "harmful_score");
    assert_eq!((&score["details"]["judge"], &score["n"]), (&json!("refusal"), &json!(3)));
    assert!(score["details"]["bound"].as_str().is_some_and(|bound| bound.contains("upper bound")));
    assert_eq!(figure(&rows, "harmful_score.file")["n"], 0);
    assert_eq!(figure(&rows, "judge_agreement")["n"], 0);

    // Write the answers, then read scores for them.
    let told = place.vxf(&["eval", RUN, "--generations", "answers.jsonl"]);
    told.ok();
    let answers = std::fs::read_to_string(place.path("answers.jsonl")).expect("answers");
    let flagged = answers.lines().map(|line| {
        let mut row: Value = serde_json::from_str(line).expect("JSON");
        row["flagged"] = json!(row["prompt"].as_str().expect("a text").ends_with('1'));
        format!("{row}\n")
    });
    place.write("scores.jsonl", &flagged.collect::<String>());
    let rows = place.vxf(&["eval", RUN, "--json"]).json()["measurements"].clone();
    let score = figure(&rows, "harmful_score.file");
    // Of the test requests 1, 3 and 5, one is scored so.
    assert_eq!((score["n"].clone(), score["value"].as_f64()), (json!(3), Some(100.0 / 3.0)));
    assert_eq!(figure(&rows, "judge_agreement")["n"], 3);
    let text = place.vxf(&["eval", RUN]);
    assert!(text.ok().contains("judge_agreement kappa"), "{}", text.stdout);
    place
        .vxf(&["eval", RUN, "--generations", "answers.jsonl"])
        .fails(2, &["answers.jsonl", "nothing is overwritten"]);

    // The merged model answers like the run.
    let export = |what: &str, to: &str| place.vxf(&["export", RUN, what, "--output-dir", to]);
    export("--merged", "merged").ok();
    let asked = |target: &str| {
        let args = ["generate", target, "-p", "placeholder", "--max-new-tokens", "8", "--json"];
        place.vxf(&args).json()["answers"].clone()
    };
    assert_eq!(asked("merged"), asked(RUN));
    assert_ne!(asked("merged"), asked("model"));
    let recipe = ["eval", "merged", "--recipe", "recipe.toml", "--judge", "refusal", "--json"];
    let fresh = place.vxf(&recipe).json()["measurements"].clone();
    for name in ["harmful_score", "accuracy", "alignment_loss"] {
        let (merged, run) = (&figure(&fresh, name)["value"], &figure(&rows, name)["value"]);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-4;
        assert!(
            near(merged.as_f64().expect("a number"), run.as_f64().expect("a number")),
            "{name}"
        );
    }
    // Two stages give two adapters; an existing directory is not changed.
    let adapters = export("--adapter", "adapters");
    adapters.ok();
    for stage in ["alignment", "fine_tuning"] {
        assert!(place.path("adapters").join(stage).join("adapter_config.json").is_file());
    }
    export("--adapter", "adapters").fails(2, &["adapters already exists", "--output-dir"]);

    // Every difference from a recipe is listed, and none from its own.
    let told = place.vxf(&["diff", "recipe.toml", "out"]);
    assert!(told.ok().contains("agrees with recipe.toml in every setting"), "{}", told.stdout);
    place.write(
        "other.toml",
        &RECIPE.replace("take = 8", "take = 9").replace("alpha = 1", "alpha = 3"),
    );
    let told = place.vxf(&["diff", "other.toml", "out"]);
    for part in ["data.alignment.take = 8 (9)", "fine_tuning.trainable.alpha = 1.0 (3.0)"] {
        assert!(told.ok().contains(part), "no `{part}` in:\n{}", told.stdout);
    }
}

#[test]
fn single_lora_continues_one_adapter_and_stages_can_run_separately() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    let single = "fine_tuning.continue_adapter=true";
    let run = |more: &[&str]| place.vxf(&[&["run", "recipe.toml"], more].concat());
    run(&["--stage", "alignment", "--output-dir", "aligned"]).ok();
    let user = ["--stage", "fine-tuning", "--from", "aligned", "--output-dir", "single"];
    run(&[&user[..], &["--set", single]].concat()).ok();

    // Single-LoRA: one adapter with the scale of the alignment's.
    place.vxf(&["export", "single", "--adapter", "--output-dir", "adapter"]).ok();
    let config = std::fs::read_to_string(place.path("adapter/adapter_config.json")).expect("one");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!((&config["r"], &config["lora_alpha"]), (&json!(2), &json!(4.0)));

    // Running all stages at once gives the same figures.
    run(&["--set", single, "--output-dir", "whole"]).ok();
    let rows = |root: &str| {
        let path = place.path(root).join("vaccine/0.2/1/result.json");
        let text = std::fs::read_to_string(path).expect("a record");
        serde_json::from_str::<Value>(&text).expect("JSON")["measurements"].clone()
    };
    assert_eq!(rows("single"), rows("whole"));
}
