//! The published protocol in `examples/recipes`: each file is valid and has the paper's numbers.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Place, TINY};
use serde_json::{Value, json};

fn recipes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/recipes")
}

/// Rows of a local data file that a recipe expects.
fn rows(count: usize, row: impl Fn(usize) -> Value) -> String {
    Value::from_iter((0..count).map(row)).to_string()
}

/// A copy of all recipes with the local data files that they expect.
fn copied() -> Place {
    let (place, root) = (Place::new(), recipes());
    for directory in ["", "vaccine-neurips24"] {
        std::fs::create_dir_all(place.path("recipes").join(directory).join("data"))
            .expect("a new directory");
        for entry in std::fs::read_dir(root.join(directory)).expect("recipes") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let name = path.file_name().expect("a name");
                std::fs::copy(&path, place.path("recipes").join(directory).join(name))
                    .expect("a copy");
            }
        }
    }
    let refusals = rows(
        10_001,
        |row| json!({ "prompt": format!("placeholder {row}"), "response": "x", "refusal": "Question: x\nAnswer: no" }),
    );
    place.write("recipes/data/beavertails_with_refusals_train.json", &refusals);
    let instructions = rows(
        805,
        |row| json!({ "instruction": format!("placeholder {row}"), "input": "", "output": "x" }),
    );
    place.write("recipes/vaccine-neurips24/data/alpaca_eval.json", &instructions);
    place
}

/// The plan of every recipe by name, without model and hub data.
fn plans() -> BTreeMap<String, Value> {
    let place = copied();
    let root = place.path("recipes");
    let mut plans = BTreeMap::new();
    for directory in [root.clone(), root.join("vaccine-neurips24")] {
        for entry in std::fs::read_dir(&directory).expect("recipes") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|ending| ending != "toml") {
                continue;
            }
            let file = path.display().to_string();
            let mut command = place.command(&["validate", &file, "--json"]);
            command.env("HF_HOME", place.path("hub")).env_remove("HF_HUB_CACHE");
            let told = common::Told::from(command.output().expect("it starts"));
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            plans.insert(name, told.json());
        }
    }
    assert_eq!(place.names(), ["recipes"], "looking writes nothing");
    plans
}

/// Steps of the stages that train.
fn steps(plan: &Value) -> Vec<u64> {
    let stages = plan["stages"].as_array().expect("stages").iter();
    stages.map(|stage| stage["steps"].as_u64().expect("a number")).collect()
}

#[test]
fn every_published_recipe_is_valid_and_has_the_papers_numbers() {
    let plans = plans();
    assert!(plans.len() > 35, "{:?}", plans.keys());
    let of = |name: &str| plans.get(name).unwrap_or_else(|| panic!("no {name}.toml"));

    // Table 1: every ratio; 2000 samples for 50 epochs, then 1000 for 20, in batches of 5.
    let rows = [
        ("non-aligned", "none", "sft"),
        ("sft", "sft", "sft"),
        ("ewc", "sft", "ewc"),
        ("kl", "sft", "kl"),
        ("vlguard", "sft", "sft"),
        ("vaccine", "vaccine", "sft"),
    ];
    for (row, defense, user) in rows {
        let plan = of(&format!("table1-{row}"));
        let recipe = &plan["recipe"];
        assert_eq!(recipe["harmful_ratios"], json!([0.0, 0.01, 0.05, 0.1, 0.2]), "{row}");
        assert_eq!(recipe["defense"]["name"], defense, "{row}");
        assert_eq!(recipe["fine_tune_defense"]["name"], user, "{row}");
        assert_eq!(plan["rows"].as_array().map(Vec::len), Some(1), "{row}");
        // The 500 guide samples of VLGuard are added.
        let attack = if row == "vlguard" { 6000 } else { 4000 };
        match row {
            "non-aligned" => assert_eq!(steps(plan), [attack]),
            _ => assert_eq!(steps(plan), [20_000, attack], "{row}"),
        }
    }
    assert_eq!(of("table1-ewc")["recipe"]["fine_tune_defense"]["lambda"], json!(1e9));
    assert_eq!(of("table1-ewc")["recipe"]["fine_tuning"]["continue_adapter"], true);
    assert_eq!(of("table1-kl")["recipe"]["fine_tune_defense"]["lambda"], json!(0.1));

    let setting = |name: &str, path: &str| of(name)["recipe"].pointer(path).cloned();
    for n in [500, 1000, 1500, 2000, 2500] {
        let name = format!("table2-n{n}");
        assert_eq!(setting(&name, "/data/user_samples"), Some(json!(n)));
        assert_eq!(setting(&name, "/harmful_ratios"), Some(json!([0.05])));
        assert_eq!(steps(of(&name)), [20_000, n * 4]);
    }
    for (name, weights) in [("table3-opt-2.7b", 2_651_596_800_u64), ("table3-vicuna-7b", LLAMA)] {
        assert_eq!(of(name)["model"]["weights"], weights, "{name}");
    }
    for (name, user) in
        [("table4-agnews", 4000), ("table4-gsm8k", 50_000), ("table4-alpacaeval", 14_000)]
    {
        assert_eq!(steps(of(name)), [20_000, user], "{name}");
    }
    let alpha = |name: &str, stage: &str| setting(name, &format!("/{stage}/trainable/alpha"));
    assert_eq!(alpha("vaccine-neurips24", "alignment"), Some(json!(4.0)));
    assert_eq!(alpha("vaccine-neurips24-alpha1", "alignment"), Some(json!(1.0)));
    assert_eq!(alpha("vaccine-neurips24", "fine_tuning"), Some(json!(1.0)));
    assert_eq!(alpha("table4-gsm8k", "fine_tuning"), Some(json!(0.5)));
    // Rows 701 to 804 of 805, counted from 0.
    assert_eq!(setting("table4-alpacaeval", "/data/task_test/skip"), Some(json!(701)));

    for (table, key, texts) in [
        ("table6-rho", "/perturber/rho", &["0.01", "0.1", "1", "2", "5", "10"][..]),
        ("table7-random", "/perturber/rho", &["1e-4", "1e-3", "5e-3", "1e-2", "1e-1", "1"]),
        ("table9-vaccine-ewc", "/fine_tune_defense/lambda", &["1e6", "1e9", "1e12"]),
        ("table10-tau", "/defense/tau", &["100", "1000", "10000", "20000"]),
    ] {
        for text in texts {
            let name = format!("{table}{text}");
            let found = setting(&name, key).and_then(|value| value.as_f64());
            assert_eq!(found, text.parse().ok(), "{name}");
            assert_eq!(setting(&name, "/harmful_ratios"), Some(json!([0.1])), "{name}");
        }
    }
    for task in ["sst2", "agnews", "gsm8k"] {
        let name = format!("table8-single-lora-{task}");
        assert_eq!(setting(&name, "/fine_tuning/continue_adapter"), Some(json!(true)));
        assert_eq!(of(&name)["rows"], json!(["sft", "vaccine"]));
    }
    assert_eq!(setting("vaccine-neurips24-shuffled", "/data/mix"), Some(json!("shuffled")));

    // Booster: 4999 refusals for 20 epochs in batches of 10; the attacker has other rows.
    assert_eq!(steps(of("booster-iclr25")), [10_000, 2000]);
    let skip = |part: &str| setting("booster-iclr25", &format!("/data/{part}/skip"));
    assert_eq!((skip("alignment"), skip("harmful")), (Some(json!(5001)), Some(json!(1))));
}

/// Every attack is a recipe for the embedded world, and plain alignment is attacked in the same way.
#[test]
fn every_attack_has_a_plan_with_the_baseline_beside_the_defence() {
    let (place, mut names) = (Place::new(), Vec::new());
    for entry in std::fs::read_dir(recipes().join("attacks")).expect("attacks") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let plan = place.vxf(&["validate", &path.display().to_string(), "--json"]).json();
        let rows = plan["rows"].as_array().expect("rows");
        let row = |method: &str| {
            rows.iter()
                .filter(|row| row.as_str().is_some_and(|row| row.starts_with(method)))
                .count()
        };
        assert_eq!(row("sft"), row("vaccine"), "{name}: {rows:?}");
        assert!(row("sft") > 0, "{name}: {rows:?}");
        names.push(name);
    }
    names.sort();
    let known = [
        "abliteration",
        "benign-first",
        "benign-only",
        "continue-adapter",
        "few-shot",
        "harmful-share",
        "identity-shift",
        "learning-rate",
        "lora-and-full",
        "mlp-only",
        "pruning",
        "pure-harmful",
        "steps",
        "unalign",
    ];
    assert_eq!(names, known);
}

/// An attack on finished weights runs, on the defence and on the baseline, and an adapter is refused.
#[test]
fn an_attack_without_training_is_carried_out_on_both() {
    let place = Place::new();
    for name in ["abliteration", "pruning"] {
        let recipe = recipes().join(format!("attacks/{name}.toml")).display().to_string();
        let tiny: Vec<_> = TINY.iter().filter(|flag| !flag.contains("ratio")).copied().collect();
        let told = place.vxf(&[&["run", &recipe, "--json"], &tiny[..]].concat()).json();
        let runs = told["runs"].as_array().expect("runs");
        for method in ["sft", "vaccine"] {
            let attacked = runs.iter().filter(|run| run["label"] == method && run["ratio"] == 0.0);
            let edited: Vec<_> = attacked.map(|run| (&run["steps"], &run["edited"])).collect();
            assert!(edited.len() >= 3, "{name} {method}: {edited:?}");
            assert!(edited.iter().all(|it| *it == (&json!(0), &json!(true))), "{edited:?}");
        }
        let lora = "--set=fine_tuning.trainable={type=\"lora\"}";
        place.vxf(&["run", &recipe, lora]).fails(2, &["fine_tuning.trainable", "must be \"full\""]);
    }
}

/// A missing local file is reported before anything else.
#[test]
fn a_missing_data_file_of_a_recipe_is_named_with_its_place() {
    let place = Place::new();
    for (name, file) in [
        ("booster-iclr25.toml", "data/beavertails_with_refusals_train.json"),
        ("vaccine-neurips24/table4-alpacaeval.toml", "vaccine-neurips24/data/alpaca_eval.json"),
    ] {
        let recipe = recipes().join(name).display().to_string();
        place.vxf(&["validate", &recipe]).fails(2, &[&format!("{name}:"), "`data.", file]);
    }
}

/// Weights of Llama-2-7B.
const LLAMA: u64 = 6_738_415_616;

#[test]
fn a_plan_without_model_and_data_gives_upper_bounds() {
    let plans = plans();
    let plan = &plans["vaccine-neurips24"];
    let gib = f64::from(1u32 << 30);
    let model = &plan["model"];
    assert_eq!((&model["weights"], &model["bytes"]), (&json!(LLAMA), &json!(4 * LLAMA)));
    let stages = plan["stages"].as_array().expect("stages");
    for (stage, samples) in stages.iter().zip([2000, 1000]) {
        assert_eq!((&stage["samples"], &stage["counted"]), (&json!(samples), &json!(false)));
        assert_eq!(stage["trainable"], 19_988_480);
        let held = stage["bytes"].as_f64().expect("a number") / gib;
        assert!((25.0..30.0).contains(&held), "{held} GiB");
    }
    // Two passes of forward, recompute and backward over 20 million tokens of 6.6e9 weights each.
    let operations = stages[0]["operations"].as_f64().expect("a number");
    assert!((1.5e18..1.8e18).contains(&operations), "{operations:e}");
    // A perturbation every hundred steps costs almost nothing.
    let rarely = plans["table10-tau100"]["stages"][0]["operations"].as_f64().expect("a number");
    assert!((rarely / operations - 0.505).abs() < 1e-9, "{rarely:e}");
    let absent = plan["absent"].as_array().expect("a list");
    assert!(absent.iter().any(|what| what.to_string().contains("meta-llama/Llama-2-7b-hf")));
}
