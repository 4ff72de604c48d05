//! `list`, `show`, `validate`, and general behaviour of the command line.

mod common;

use std::process::Stdio;

use common::Place;
use serde_json::{Value, json};

#[test]
fn lists_are_readable() {
    let place = Place::new();
    let told = place.vxf(&["list", "defenses"]);
    assert!(told.ok().contains("vaccine") && !told.stdout.contains("gaussian"), "{}", told.stdout);
    // Grouped by stage, each with its passes; a method of two stages stands in both.
    let text = told.stdout.replace("  ", " ");
    let (alignment, rest) = text.split_once("defenses: fine_tuning").expect("three groups");
    let (user, after) = rest.split_once("defenses: post_tuning").expect("three groups");
    let row = |part: &str, name: &str| {
        let mut rows = part.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row.first() == Some(&name))
            .and_then(|row| row.get(1).map(|it| it.to_string()))
    };
    assert_eq!(row(alignment, "vaccine").as_deref(), Some("2"));
    assert_eq!(row(alignment, "none").as_deref(), Some("-"));
    assert_eq!(row(user, "kl").as_deref(), Some("1.33"));
    assert_eq!(row(after, "safelora").as_deref(), Some("-"));
    assert!(row(alignment, "sft").is_some() && row(user, "sft").is_some());
    place.vxf(&["list", "everything"]).fails(2, &["everything"]);
    assert_eq!(place.vxf(&["list", "--json"]).json()["schema_version"], 2);
}

#[test]
fn show_prints_both_defaults() {
    let place = Place::new();
    let told = place.vxf(&["show", "vaccine"]);
    for part in [
        "defense vaccine",
        "perturber vaccine",
        "2402.01109",
        "tau = 1",
        "rho = 2.0; 5.0",
        "searched in 0.5..20:log",
        "relative_drift",
        "attacker  unalign",
    ] {
        assert!(told.ok().contains(part), "no `{part}` in:\n{}", told.stdout);
    }
    let told = place.vxf(&["show", "ewc", "--json"]);
    let lambda = &told.json()["entries"][0]["settings"][0];
    assert_eq!((&lambda["default"], &lambda["embedded_world"]), (&json!(1e9), &json!(1e8)));
}

#[test]
fn everything_that_is_listed_can_be_shown() {
    let place = Place::new();
    let all = place.vxf(&["list", "--json"]).json();
    let kinds = all.as_object().expect("an object").values().filter_map(|kind| kind.as_array());
    let names: Vec<_> = kinds.flatten().filter_map(|entry| entry["name"].as_str()).collect();
    assert!(names.contains(&"vaccine") && names.contains(&"files"), "{names:?}");
    for name in names {
        place.vxf(&["show", name]).ok();
    }
    let told = place.vxf(&["show", "files"]);
    for part in ["source files", "user_samples = 1000", "harmful (not set)"] {
        assert!(told.ok().contains(part), "no `{part}` in:\n{}", told.stdout);
    }
}

#[test]
fn every_example_recipe_is_valid_and_every_world_default_is_a_setting() {
    let place = Place::new();
    let all = place.vxf(&["list", "--json"]).json();
    let kinds = ["defenses", "perturbers", "metrics", "judges"];
    for entry in kinds.iter().flat_map(|kind| all[kind].as_array().expect("a list")) {
        let name = entry["name"].as_str().expect("a name");
        let shown = place.vxf(&["show", name, "--json"]).json();
        for entry in shown["entries"].as_array().expect("entries") {
            let example = entry["example"].as_str().expect("text");
            if entry["kind"] == "backbone" {
                continue;
            }
            place.write("example.toml", example);
            let told = place.vxf(&["validate", "example.toml"]);
            match example.contains("path/to/model") {
                // The model is looked for when all settings are known to be right.
                true => told.fails(2, &["`model.path` must be", "path/to/model"]),
                false => _ = told.ok(),
            }
        }
    }
    for (kind, plugin, key, own) in [
        ("perturber", "vaccine", "rho", 5.0),
        ("perturber", "gaussian", "rho", 5.0),
        ("defense", "ewc", "lambda", 1e8),
    ] {
        let shown = place.vxf(&["show", plugin, "--json"]).json();
        let entries = shown["entries"].as_array().expect("entries");
        let entry = entries.iter().find(|entry| entry["kind"] == kind).expect("the kind");
        let settings = entry["settings"].as_array().expect("settings");
        let setting = settings.iter().find(|setting| setting["name"] == key).expect("the key");
        assert_eq!(setting["embedded_world"], json!(own));
    }
}

#[test]
fn validate_prints_the_plan() {
    let place = Place::new();
    let recipe = "seeds = [1, 2]\nharmful_ratios = [0.0, 0.1]\n[world]\nuser_samples = 100\n\
                  profile = \"helpful\"\n[fine_tuning]\nbatch_size = 10\n";
    place.write("recipe.toml", recipe);
    let value = place.vxf(&["validate", "recipe.toml", "--json"]).json();
    let steps = |stage: usize| value["stages"][stage]["steps"].clone();
    assert_eq!((steps(0), steps(1)), (json!(160), json!(40)));
    assert_eq!(value["runs"].as_array().map(Vec::len), Some(3 * 2 + 3 * 2 * 2));
    assert_eq!(value["recipe"]["world"]["benign_share"], json!(0.1));
    assert_eq!(value["recipe"]["fine_tuning"]["learning_rate"], json!(8e-5));
    let text = place.vxf(&["validate", "recipe.toml", "--seed", "5"]);
    for part in ["is valid", "vaccine with perturber vaccine", "40 steps", "seeds        5"] {
        assert!(text.ok().contains(part), "no `{part}` in:\n{}", text.stdout);
    }
    assert_eq!(place.names(), ["recipe.toml"]);
}

#[test]
fn flags_override_the_file_and_set_overrides_both() {
    let place = Place::new();
    place.write(
        "recipe.toml",
        "seeds = [1]\n[perturber]\nname = \"vaccine\"\nrho = 1.0\n[world]\ntask = \"gsm8k\"\n",
    );
    let resolved = |args: &[&str]| -> Value {
        let base = ["validate", "recipe.toml", "--json"];
        place.vxf(&[&base[..], args].concat()).json()["recipe"].clone()
    };
    assert_eq!(resolved(&[])["perturber"]["rho"], json!(1.0));
    assert_eq!(resolved(&[])["world"]["task"], json!("gsm8k"));
    let flag = resolved(&["--rho", "2", "--task", "agnews"]);
    assert_eq!(
        (&flag["perturber"]["rho"], &flag["world"]["task"]),
        (&json!(2.0), &json!("agnews"))
    );
    let set = resolved(&["--rho", "2", "--set", "perturber.rho=3", "--set", "world.task=sst2"]);
    assert_eq!((&set["perturber"]["rho"], &set["world"]["task"]), (&json!(3.0), &json!("sst2")));
    // Settings of another perturber in the file do not apply.
    assert_eq!(resolved(&["--perturber", "gaussian"])["perturber"]["rho"], json!(5.0));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let place = Place::new();
    for args in [&["list"][..], &["show", "vaccine"], &["--help"]] {
        let mut command = place.command(args);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "{args:?}");
    }
}

#[test]
fn help_lists_the_exit_codes() {
    let place = Place::new();
    for args in [&["--help"][..], &["run", "--help"]] {
        assert!(place.vxf(args).ok().contains("Exit codes"), "{args:?}");
    }
    place.vxf(&[]).fails(2, &["Usage"]);
}
