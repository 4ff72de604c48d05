//! Attack-cost curves and `vxf durability`, at the smallest size.

mod common;

use common::{Place, TINY};
use serde_json::{Value, json};

/// The followed figures of one run, by step.
fn followed(run: &Value) -> Vec<(u64, u64, Vec<String>)> {
    let points = run["followed"].as_array().expect("followed").iter();
    let point = |point: &Value| {
        let rows = point["rows"].as_array().expect("rows").iter();
        let names = rows.map(|row| row["name"].as_str().expect("a name").to_owned());
        let number = |key: &str| point[key].as_u64().expect("a number");
        (number("step"), number("samples"), names.collect())
    };
    points.map(point).collect()
}

#[test]
fn the_cost_of_an_attack_is_followed_on_a_few_prompts() {
    let place = Place::new();
    let follow = ["--eval-every=1", "--eval-prompts=3", "--output-dir=out", "--no-undefended"];
    let told = place.tiny(&[&follow[..], &["--json"]].concat()).json();
    let runs = told["runs"].as_array().expect("runs");
    let attacked: Vec<_> = runs.iter().filter(|run| run["ratio"] == 0.5).collect();
    assert_eq!(attacked.len(), 2);
    for run in attacked {
        let found = followed(run);
        // Sixteen samples in batches of eight.
        let at: Vec<_> = found.iter().map(|(step, samples, _)| (*step, *samples)).collect();
        assert_eq!(at, [(0, 0), (1, 8), (2, 16)]);
        for (step, _, names) in &found {
            for name in ["harmful_score", "helpfulness", "accuracy"] {
                assert!(names.iter().any(|it| it == name), "no {name} at {step} in {names:?}");
            }
            // Nothing has moved before the first step.
            assert_eq!(names.iter().any(|name| name == "drift"), *step > 0, "{names:?}");
        }
        let rows = run["followed"][1]["rows"].as_array().expect("rows");
        let score = rows.iter().find(|row| row["name"] == "harmful_score").expect("a score");
        assert_eq!(score["n"], 3, "of the first three prompts");
    }
    let costs = told["attack_cost"].as_array().expect("costs");
    let rows: Vec<_> = costs.iter().map(|cost| (&cost["row"], &cost["horizon"])).collect();
    assert_eq!(rows, [(&json!("sft"), &json!(2)), (&json!("vaccine"), &json!(2))]);
    assert_eq!(costs[1]["more"]["baseline"], "sft");

    // The table is made of the record.
    let text = place.vxf(&["resume", "out"]).ok().to_owned();
    for part in
        ["Cost of the attack at p = 0.5", "on 3 followed prompts", "HS % on the way", "FA %"]
    {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let wrong = place.tiny(&["--eval-prompts=3"]);
    wrong.fails(2, &["eval_prompts", "needs `eval_every`"]);
}

/// The smallest test: one seed to choose on, three fresh ones.
const SMOKE: [&str; 4] =
    ["durability", "--profile=smoke", "--fresh-seed=7,8,9", "--output-dir=out"];

#[test]
fn a_card_is_made_of_four_experiments_and_repeated_from_their_records() {
    let place = Place::new();
    let first = place.vxf(&[&SMOKE[..], TINY].concat());
    let text = first.ok();
    for part in [
        "Durability of vaccine: ",
        "worst case",
        "on 3 fresh seeds",
        "trainability",
        "over-refusal",
        "`relative_drift` ",
        "with another task of the user harmful score",
        "of which 0 of ",
        "`--json` lists all",
        "Attacks on vaccine, the strongest first",
        "Attacks on plain alignment",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    for name in ["search", "fresh", "transfer", "benign"] {
        assert!(place.path("out").join(name).join("manifest.json").is_file(), "{name}");
    }
    let again = place.vxf(&[&SMOKE[..], TINY].concat());
    assert_eq!(again.ok(), text);
    // Workers give the same card.
    let workers = ["durability", "--profile=smoke", "--fresh-seed=7,8,9", "--workers=2"];
    let told = place.vxf(&[&workers[..], &["--output-dir=other"], TINY].concat());
    assert_eq!(told.ok().replace("in other", "in out"), text);

    let told = place.vxf(&[&SMOKE[..], TINY, &["--json"]].concat()).json();
    let attacks = told["attacks"].as_array().expect("attacks");
    assert!(attacks.len() >= 9, "{attacks:?}");
    let scores: Vec<f64> = attacks
        .iter()
        .filter(|it| it["passed_over"].is_null())
        .map(|it| it["harmful"].as_f64().expect("a score"))
        .collect();
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
    assert_eq!(told["adaptive"], true, "vaccine names an attacker");
    let tried = |it: &Value| it["name"].as_str().is_some_and(|name| name.starts_with("`unalign`"));
    assert!(attacks.iter().any(tried), "{attacks:?}");
    let criteria = told["criteria"].as_array().expect("criteria");
    let all = criteria.iter().all(|it| it["holds"] == true);
    let strict = place.vxf(&[&SMOKE[..], TINY, &["--strict"]].concat());
    assert_eq!(strict.code, i32::from(!all), "{}", strict.stderr);
}

#[test]
fn a_test_that_would_say_nothing_is_refused() {
    let place = Place::new();
    let refused = |more: &[&str], parts: &[&str]| {
        place.vxf(&[&["durability"], TINY, more].concat()).fails(2, parts);
    };
    refused(&["--defense=vaccine,sam"], &["axes.defense", "tests one method"]);
    refused(&["--trials=3"], &["--trials", "`--profile tamperbench`"]);
    refused(&["--fresh-seed=1"], &["seeds", "must not have the fresh seed 1"]);
    refused(&["--fresh-set=world.harmful_test=1,2"], &["--fresh-set: must give one value"]);
    refused(&["--transfer-set=seeds=1"], &["--transfer-set seeds", "the test itself sets `seeds`"]);
    refused(&["--transfer-set=world.tusk=gsm8k"], &["world.tusk"]);
    refused(&["--transfer-set=world.task=sst2"], &["--transfer-set world.task", "another task"]);
    refused(
        &["--transfer-set=world.user_samples"],
        &["--transfer-set world.user_samples: must be KEY=VALUE"],
    );
    refused(&["--stage=alignment"], &["`stages`", "aligns the model"]);
    refused(&["--no-baseline"], &["`baseline`", "aligns the model"]);
    refused(&["--fine-tune-defense=unalign"], &["unalign", "chooses the attacks itself"]);
    let harmless = ["--seed=1", "--harmful-ratio=0"];
    place
        .vxf(&[&["durability"], &harmless[..]].concat())
        .fails(2, &["harmful_ratios", "must have a share above 0"]);
    assert!(place.names().is_empty(), "{:?}", place.names());
    place.tiny(&["--output-dir=out"]).ok();
    let aligned = ["durability", "--from=out/vaccine/aligned/1"];
    place.vxf(&[&aligned[..], TINY].concat()).fails(2, &["from", "aligns the model"]);
}
