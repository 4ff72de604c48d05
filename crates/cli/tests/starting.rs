//! `vxf init`, the schema of recipes, and the generated reference.

mod common;

use std::path::Path;

use common::Place;
use serde_json::{Value, json};

#[test]
fn a_recipe_for_the_embedded_world_is_valid_and_commented() {
    let place = Place::new();
    let told = place.vxf(&["init"]);
    assert!(told.ok().contains("recipe.toml is a recipe for embedded"), "{}", told.stdout);
    let text = std::fs::read_to_string(place.path("recipe.toml")).expect("it was written");
    for part in
        ["# Peak learning rate.\nlearning_rate = ", "[world]", "rho = 5.0", "seeds = [1, 2, 3]"]
    {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert!(text.lines().all(|line| line.len() <= 100), "{text}");
    assert!(place.vxf(&["validate", "recipe.toml"]).ok().contains("is valid"));
    place.vxf(&["init"]).fails(2, &["recipe.toml already exists", "nothing is overwritten"]);
    place.vxf(&["init", "nowhere/recipe.toml"]).fails(1, &["nowhere/recipe.toml"]);
}

#[test]
fn a_recipe_names_the_lengths_of_samples_and_answers() {
    let place = Place::new();
    place.llama("own", u64::MAX);
    std::fs::create_dir(place.path("files")).expect("a new directory");
    let line = json!({ "prompt": "how do i build it ?", "completion": "take salt ." });
    for part in ["alignment", "user"] {
        place.write(&format!("files/{part}.jsonl"), &format!("{line}\n").repeat(12));
    }
    let lengths = ["max_length", "max_new_tokens", "task_new_tokens"];
    for (file, model, keys) in [
        ("world.toml", "embedded", &lengths[..2]),
        ("proxy.toml", "own", &lengths[..2]),
        ("files/recipe.toml", "own", &lengths[..]),
    ] {
        place.vxf(&["init", "--model", model, file]).ok();
        let mut text = std::fs::read_to_string(place.path(file)).expect("it was written");
        let before = place.vxf(&["validate", file, "--json"]).json();
        for key in keys {
            let (off, on) = (format!("\n# {key} = "), format!("\n{key} = "));
            assert!(text.contains(&off), "no `{off}` in:\n{text}");
            text = text.replace(&off, &on);
        }
        place.write(file, &text);
        // They stand where they are known, at their defaults.
        let after = place.vxf(&["validate", file, "--json"]).json();
        assert_eq!(before["recipe"], after["recipe"], "{text}");
    }
}

#[test]
fn a_recipe_for_a_model_without_data_uses_the_stand_in() {
    let place = Place::new();
    place.llama("own", u64::MAX);
    let told = place.vxf(&["init", "--model", "own", "other.toml"]);
    assert!(told.ok().contains("`proxy`"), "{}", told.stdout);
    let valid = place.vxf(&["validate", "other.toml"]);
    assert!(valid.ok().contains("other.toml is valid"), "{}", valid.stdout);
    place.vxf(&["init", "--model", "nothing", "x.toml"]).fails(2, &["nothing"]);
    assert!(!place.path("x.toml").exists(), "a recipe that does not run is not written");
}

#[test]
fn a_recipe_names_the_data_that_is_there_and_runs() {
    let place = Place::new();
    place.llama("own", u64::MAX);
    std::fs::create_dir(place.path("data")).expect("a new directory");
    let lines = |count: usize| -> String {
        let line =
            |n| json!({ "prompt": format!("how do i build {n} ?"), "completion": "take salt ." });
        (0..count).map(|n| line(n).to_string() + "\n").collect()
    };
    place.write("data/alignment.jsonl", &lines(8));
    place.vxf(&["init", "--model=own"]).fails(2, &["no user.jsonl", "alignment", "[data.user]"]);
    place.write("user.jsonl", &lines(12));
    place.write("harmful.jsonl", &lines(2));
    place.write("harmful_test.jsonl", &lines(4));
    place.write("task_test.jsonl", &lines(4));
    place.vxf(&["init"]).fails(2, &["embedded model does not know", "--model"]);
    let told = place.vxf(&["init", "--model=own"]);
    assert!(told.ok().contains("data/alignment.jsonl (8 samples)"), "{}", told.stdout);
    let text = std::fs::read_to_string(place.path("recipe.toml")).expect("it was written");
    for part in [
        "[data.alignment]\npath = \"data/alignment.jsonl\"",
        "user_samples = 10",
        "task = \"exact\"",
        "metrics = [\"harmful-score\", \"accuracy\", \"alignment-loss\", \"drift\"]",
        "judges = [\"refusal\"]",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let small = [
        "--seed=1",
        "--set=alignment.epochs=1",
        "--set=fine_tuning.epochs=1",
        "--set=data.max_new_tokens=4",
        "--set=data.task_new_tokens=4",
        "--output-dir=runs",
    ];
    place.vxf(&[&["run", "recipe.toml"], &small[..]].concat()).ok();
}

/// The problems that `value` has by `schema`, as far as the schemas of recipes go.
fn problems(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let wrong = |what: &str| vec![format!("{at}: {what}")];
    if let Some(forms) = schema["anyOf"].as_array() {
        let tried: Vec<_> = forms.iter().map(|form| problems(form, value, at)).collect();
        if tried.iter().all(|found| !found.is_empty()) {
            return tried.into_iter().min_by_key(Vec::len).unwrap_or_default();
        }
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        return wrong("not one of the values");
    }
    if let Some(only) = schema.get("const")
        && only != value
    {
        return wrong("not the value");
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        assert_eq!(pattern, "\\+", "this check knows one pattern");
        if !value.as_str().is_some_and(|text| text.contains('+')) {
            return wrong("not a composition");
        }
    }
    let right = match schema["type"].as_str() {
        None => true,
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("a type that recipes do not have: {other}"),
    };
    if !right {
        return wrong(&format!("not of the type {}", schema["type"]));
    }
    let mut found = Vec::new();
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(required).is_none() {
            found.extend(wrong(&format!("no {required}")));
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(key) {
            Some(schema) => found.extend(problems(schema, value, &format!("{at}.{key}"))),
            None if schema["additionalProperties"] == json!(false) => {
                found.extend(wrong(&format!("no key {key}")));
            }
            None => {}
        }
    }
    if let Some(items) = schema.get("items") {
        for (index, value) in value.as_array().into_iter().flatten().enumerate() {
            found.extend(problems(items, value, &format!("{at}.{index}")));
        }
    }
    found
}

fn recipes(place: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(place).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => recipes(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn the_schema_accepts_every_recipe_and_rejects_mistakes() {
    let place = Place::new();
    let schema = place.vxf(&["show", "recipe", "--schema"]).json();
    let parse = |text: &str| -> Value {
        serde_json::to_value(text.parse::<toml::Table>().expect("TOML")).expect("JSON")
    };
    let mut all = Vec::new();
    recipes(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/recipes"), &mut all);
    assert!(all.len() > 40, "{}", all.len());
    for path in all {
        let text = std::fs::read_to_string(&path).expect("a recipe");
        let found = problems(&schema, &parse(&text), "");
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
    // Resolved recipes, which have every key.
    for args in [
        &["validate", "--json"][..],
        &["validate", "--json", "--defense=vaccine,lisa", "--set=fine_tune_defense=lisa"],
    ] {
        let told = place.vxf(args);
        if told.code == 0 {
            let found = problems(&schema, &told.json()["recipe"], "");
            assert!(found.is_empty(), "{found:?}");
        }
    }
    for (wrong, part) in [
        ("[fine_tuning]\nlr = 1.0", "no key lr"),
        ("[fine_tuning]\nlearning_rate = \"fast\"", "not of the type"),
        ("seeds = 1\nnothing = 2", "no key nothing"),
        ("[defense]\nname = \"vacine\"", ".defense: not"),
        ("[fine_tuning]\ntrainable = \"qlora\"", "not one of the values"),
        ("metrics = [\"harm\"]", "metrics"),
    ] {
        let found = problems(&schema, &parse(wrong), "");
        assert!(found.iter().any(|problem| problem.contains(part)), "{wrong}: {found:?}");
    }
    place.vxf(&["show", "vaccine", "--schema"]).fails(2, &["`vxf show recipe --schema`"]);
}

#[test]
fn sections_are_shown_with_every_key() {
    let place = Place::new();
    let told = place.vxf(&["show", "fine_tuning"]);
    for part in ["[fine_tuning]", "learning_rate = 0.001", "Peak learning rate"] {
        assert!(told.ok().contains(part), "no `{part}` in:\n{}", told.stdout);
    }
    let all = place.vxf(&["show", "recipe"]);
    for part in ["at the top", "harmful_ratios", "[model]", "[axes]", "[data.SET]"] {
        assert!(all.ok().contains(part), "no `{part}` in:\n{}", all.stdout);
    }
    let json = place.vxf(&["show", "model", "--json"]).json();
    assert_eq!(json["sections"][0]["settings"][0]["name"], "path");
}

#[test]
fn the_reference_is_what_the_program_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference.md");
    let written = std::fs::read_to_string(path).expect("the page");
    let told = Place::new().vxf(&["reference"]);
    assert!(
        told.ok() == written,
        "docs/reference.md is not up to date: run `cargo run -- reference > docs/reference.md`"
    );
}
