//! A crate outside the workspace: built, listed, rejected where necessary, run, and checked by its laws.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// The settings of this workspace's profile, so that the crates of others are shared with it; and our own crates
/// but the arithmetic without optimisation, which takes a third of the time.
fn profile(root: &Path) -> Vec<String> {
    let manifest = |path: &Path| -> toml::Table {
        let text = std::fs::read_to_string(path).expect("a manifest");
        text.parse().expect("TOML")
    };
    let whole = manifest(&root.join("Cargo.toml"));
    let tuned = whole["profile"]["dev"]["package"].as_table().expect("a table");
    let mut settings = Vec::new();
    for (name, package) in tuned {
        for (key, value) in package.as_table().expect("a table") {
            settings.push(format!("profile.dev.package.\"{name}\".{key}={value}"));
        }
    }
    let folders = ["crates", "plugins"].map(|folder| root.join(folder));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let places = entries.map(|entry| entry.expect("an entry").path().join("Cargo.toml"));
    for place in places.filter(|place| place.is_file()) {
        let manifest = manifest(&place);
        let name = manifest["package"]["name"].as_str().expect("a name");
        if !tuned.contains_key(name) {
            settings.push(format!("profile.dev.package.{name}.opt-level=0"));
        }
    }
    settings
}

/// Runs cargo on the example, with this workspace's target directory, so that dependencies are shared.
fn cargo(arguments: &[&str]) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = Path::new(env!("CARGO_BIN_EXE_vxf"));
    let target = program.parent().and_then(Path::parent).expect("target/<profile>/vxf");
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--locked", "--quiet", "--manifest-path"])
        .arg(root.join("examples/custom-defense/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .args(profile(&root).iter().flat_map(|setting| ["--config", setting]))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "cargo {} fails on the example", arguments.join(" "));
    target.join("debug/custom-defense")
}

fn call(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).env("CI", "1").output().expect("the program starts")
}

/// The output of a successful command.
#[track_caller]
fn text(program: &Path, arguments: &[&str]) -> String {
    let output = call(program, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn json(program: &Path, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(program, arguments)).expect("one JSON value")
}

/// Asserts that the command fails and says all of `parts`.
#[track_caller]
fn refuses(program: &Path, arguments: &[&str], parts: &[&str]) {
    let refused = call(program, arguments);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    for part in parts {
        assert!(message.contains(part), "no `{part}` in:\n{message}");
    }
}

#[test]
fn an_external_defense_has_the_whole_command_line() {
    let program = cargo(&["build"]);

    let list = json(&program, &["list", "--json"]);
    let names = |kind: &str| -> Vec<&str> {
        let entries = list[kind].as_array().expect("a list");
        entries.iter().filter_map(|entry| entry["name"].as_str()).collect()
    };
    // Its own and those of the program.
    for name in ["blend", "pull-back", "step-away", "none", "sft", "vaccine", "booster"] {
        assert!(names("defenses").contains(&name), "{list}");
    }
    assert!(names("metrics").contains(&"brevity"), "{list}");
    assert_eq!(names("sources"), ["files", "proxy", "village", "world"]);

    let shown = text(&program, &["show", "blend"]);
    assert!(shown.contains("share") && shown.contains("0 is plain fine-tuning"), "{shown}");

    // The plugin's own range check is reported by the command line.
    refuses(
        &program,
        &["run", "--defense=blend", "--set=defense.share=2"],
        &["share", "must be between 0 and 1"],
    );

    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("blend");
    let run = Command::new(&program)
        .args(["run", "--json", "--defense=blend", "--seed=1", "--harmful-ratio=0.5"])
        .args(["--set=world.alignment_samples=16", "--set=world.user_samples=16"])
        .args(["--set=alignment.epochs=2", "--set=fine_tuning.epochs=1", "--output-dir"])
        .arg(&output)
        .env("CI", "1")
        .output()
        .expect("the program starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let result: Value = serde_json::from_slice(&run.stdout).expect("one JSON value");
    let runs = result["runs"].as_array().expect("runs");
    let own = runs.iter().filter(|run| run["label"] == "blend").count();
    assert_eq!(own, 2, "the aligned model and the fine-tuned one");
    assert!(output.join("blend/0.5/1/result.json").is_file());
}

/// The recipe of the tests below; its data comes from the example.
const RECIPE: &str = r#"
seeds = [1]
harmful_ratios = [0.5]
baseline = false
undefended = false
metrics = ["harmful-score", "accuracy", "brevity"]

[data]
source = "village"
samples = 16
prompts = 4

[alignment]
epochs = 2

[fine_tuning]
epochs = 1

[post_tuning]
epochs = 1
"#;

/// The recipe in a temporary directory.
fn recipe() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("village.toml");
    std::fs::write(&path, RECIPE).expect("a recipe");
    let path = path.display().to_string();
    (directory, path)
}

#[test]
fn needs_of_external_plugins_are_checked_before_a_run() {
    let program = cargo(&["build"]);
    let (_directory, recipe) = recipe();
    let validate = |arguments: &[&str]| {
        let all = [&["validate", &recipe, "--json"], arguments].concat();
        json(&program, &all)["runs"].clone()
    };

    let runs = validate(&["--defense=step-away", "--post-tune-defense=pull-back"]);
    let expected = ["step-away/aligned/1", "step-away/0.5/1", "step-away+pull-back/0.5/1"];
    assert_eq!(runs, serde_json::json!(expected));

    // One member computes the gradient of a short repair, the other one acts in `finish`.
    let runs = validate(&["--defense=blend", "--post-tune-defense=step-away+pull-back"]);
    let last = runs.as_array().and_then(|runs| runs.last());
    assert_eq!(last, Some(&Value::from("blend+step-away_pull-back/0.5/1")));

    let refused = |arguments: &[&str], parts: &[&str]| {
        let all = [&["validate", &recipe, "--post-tune-defense=pull-back"], arguments].concat();
        refuses(&program, &all, parts);
    };
    let two = "`blend` and `step-away` both compute the gradient";
    refused(&["--defense=blend+step-away"], &["--defense", two]);
    refused(&["--defense=pull-back"], &["`pull-back` belongs to the stage `post_tuning`"]);
    refused(&["--set=data.source=vilage"], &["vilage", "village"]);
    refused(&["--set=data.prompts=0"], &["data.prompts", "must be from 1 to"]);

    // The embedded world has no notes.
    refuses(
        &program,
        &["run", "--defense=sft", "--metric=brevity"],
        &["the metric `brevity`", "has no such set"],
    );
}

#[test]
fn external_method_metric_and_data_run_together() {
    let program = cargo(&["build"]);
    let (directory, recipe) = recipe();
    let output = directory.path().join("out");
    let output_dir = format!("--output-dir={}", output.display());
    let shown = text(
        &program,
        &[
            "run",
            &recipe,
            "--defense=step-away",
            "--set=defense.batch_size=2",
            "--post-tune-defense=pull-back",
            "--set=post_tune_defense.share=0.75",
            &output_dir,
        ],
    );

    // The metric's column is in the block of each stage.
    let blocks = shown.lines().filter(|line| line.contains("short % ↑")).count();
    assert_eq!(blocks, 3, "{shown}");
    assert!(shown.contains("After post-tuning, p = 0.5"), "{shown}");

    let record = |run: &str| -> Value {
        let file = output.join(run).join("result.json");
        let text = std::fs::read_to_string(file).expect("a record");
        serde_json::from_str(&text).expect("JSON")
    };
    let figure = |record: &Value| -> Option<Value> {
        let rows = record["measurements"].as_array()?;
        rows.iter().find(|row| row["metric"] == "brevity").cloned()
    };
    let aligned = record("step-away/aligned/1");
    assert_eq!((&aligned["samples"], &aligned["defense"]["batch_size"]), (&16.into(), &2.into()));
    let edited = record("step-away+pull-back/0.5/1");
    assert_eq!((&edited["stage"], &edited["steps"]), (&"post_tuning".into(), &0.into()));
    assert_eq!((&edited["edited"], &edited["defense"]["share"]), (&true.into(), &0.75.into()));
    let short = figure(&edited).expect("a figure of the metric");
    assert_eq!((&short["n"], &short["name"]), (&4.into(), &"brevity".into()));
}

#[test]
fn external_plugins_pass_the_laws() {
    cargo(&["test", "--test=laws"]);
}
