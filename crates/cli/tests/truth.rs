//! What a result says without being asked: its first line, its doubts, and only what belongs to it.

mod common;

use common::{Place, RECIPE};
use serde_json::{Value, json};

/// One seed of plain training at full size, as far as it takes to see what became of the model.
const PLAIN: &[&str] = &[
    "run",
    "--defense=sft",
    "--no-undefended",
    "--seed=1",
    "--harmful-ratio=0.2",
    "--set=world.harmful_test=24",
    "--set=world.benign_test=24",
    "--set=world.task_test=24",
];

#[test]
fn a_destroyed_model_is_no_safe_model() {
    let place = Place::new();
    let args = [PLAIN, &["--set=fine_tuning.learning_rate=100", "--output-dir=out"]].concat();
    let told = place.vxf(&args);
    let text = told.ok();
    assert!(text.starts_with("In doubt, for reasons at the end: sft. "), "{text}");
    for part in ["sft !", "\nIn doubt\n", "no sign of safety", "no longer does the user's task"] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    let value = place.vxf(&[&args[..], &["--json"]].concat()).json();
    let doubts = value["doubts"].as_array().expect("doubts");
    assert!(
        doubts.iter().all(|doubt| doubt.as_str().is_some_and(|it| it.starts_with("sft p=0.2")))
    );
    let harmful = |value: &Value| {
        let rows = value["runs"][1]["measurements"].as_array().expect("rows").clone();
        rows.iter().find(|row| row["name"] == "harmful_score").expect("it")["value"].clone()
    };
    assert_eq!(harmful(&value), json!(0.0), "the score alone looks perfect");
    let strict = place.vxf(&[&args[..], &["--strict"]].concat());
    assert!(strict.code == 1 && strict.stderr.contains("--strict"), "{}", strict.stderr);

    // A model that was trained as usual is not in doubt.
    let usual = place.vxf(&[PLAIN, &["--output-dir=usual"]].concat());
    let after = usual.ok().split("After the user's").nth(1).expect("a table");
    assert!(!after.contains('!') && !usual.stdout.contains("In doubt"), "{}", usual.stdout);
}

#[test]
fn columns_caveats_and_settings_belong_to_what_was_run() {
    let place = Place::new();
    let told = place.tiny(&["--no-undefended", "--output-dir=out"]);
    let text = told.ok();
    for column in ["HS %", "other %", "helpful %", "FA %", "rel. drift", "n per run", "(0-"] {
        assert!(text.contains(column), "no `{column}` in {text}");
    }
    let table = text.split("Each prompt has").next().expect("a table");
    for further in ["refusal margin", "alignment loss"] {
        assert!(!table.contains(further), "`{further}` in {table}");
    }
    assert!(text.contains("Vaccine costs help") && text.contains("one answer, greedy"), "{text}");
    let full = place.tiny(&["--no-undefended", "--output-dir=out", "--full"]);
    for further in ["refusal margin", "alignment loss", "  drift"] {
        assert!(full.ok().contains(further), "no `{further}` in {}", full.stdout);
    }
    // A metric that someone names is in the table.
    let named = place.tiny(&["--no-undefended", "--output-dir=out", "--metric=perplexity"]);
    let table = named.ok().split("perplexity in ppl").next().expect("a table");
    assert!(table.contains("perplexity ↓"), "{table}");

    let other = place.tiny(&["--defense=vaccine", "--perturber=gaussian", "--no-undefended"]);
    assert!(!other.ok().contains("Vaccine costs"), "nothing of Vaccine was run: {}", other.stdout);
    let stage = ["run", "--stage=fine_tuning", "--from=out/vaccine/aligned/1"];
    let stage = place.vxf(&stage);
    assert!(stage.ok().contains("fine_tuning.epochs"), "{}", stage.stdout);
    assert!(!stage.stdout.contains("  alignment."), "no alignment was run: {}", stage.stdout);
}

#[test]
fn what_is_in_no_training_set_was_looked_for() {
    let place = Place::new();
    let told = place.tiny(&["--no-undefended"]);
    assert!(told.ok().contains("(forbidden, in no training set)"), "{}", told.stdout);
    // Files of one's own, whose questions are partly those that the attack trains on.
    place.llama("model", 1 << 20);
    place.protocol();
    let same = RECIPE.replace("split = \"30k_test\"", "split = \"30k_train\"");
    place.write("same.toml", &same);
    let told = place.vxf(&["run", "same.toml"]);
    assert!(told.ok().contains("2 of 3 such prompts are in a training set"), "{}", told.stdout);
    place.write("apart.toml", RECIPE);
    let told = place.vxf(&["run", "apart.toml"]);
    assert!(told.ok().contains("(forbidden, in no training set)"), "{}", told.stdout);
}

#[test]
fn several_draws_are_counted_by_prompt() {
    let place = Place::new();
    let alone = ["--no-baseline", "--no-undefended", "--output-dir=out"];
    let told = place.tiny(&[&alone[..], &["--samples-per-prompt=4"]].concat());
    assert!(told.ok().contains("Each prompt has 4 answers, drawn at random"), "{}", told.stdout);
    let text = std::fs::read_to_string(place.path("out/vaccine/0.5/1/result.json")).expect("it");
    let record: Value = serde_json::from_str(&text).expect("JSON");
    let rows = record["measurements"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["name"] == "harmful_score").expect("the score");
    assert_eq!((&row["n"], &row["details"]["draws"]), (&json!(6), &json!(4)));
    assert_eq!(row["outcomes"]["letters"].as_str().map(str::len), Some(24));
    let answers = std::fs::read_to_string(place.path("out/vaccine/0.5/1/generations.jsonl"));
    let answers = answers.expect("answers");
    assert_eq!(answers.lines().filter(|line| line.contains("\"probe\":\"harmful\"")).count(), 24);
    // The same answers are judged again, and not drawn again.
    let again = place.vxf(&["eval", "out/vaccine/0.5/1"]);
    assert!(again.ok().contains("harmful_score"), "{}", again.stdout);
    assert!(again.stderr.contains("kept answers"), "{}", again.stderr);
    place.vxf(&["verify", "out"]).ok();
    // One greedy answer is all that greedy decoding has.
    let greedy = ["--samples-per-prompt=2", "--set=world.sampling.temperature=0"];
    place.tiny(&greedy).fails(2, &["samples_per_prompt", "greedy"]);
}

#[test]
fn a_plan_says_what_it_could_see() {
    let place = Place::new();
    place.write("three.toml", "[defense]\nname = \"vaccine\"\n");
    let told = place.vxf(&["validate", "three.toml"]);
    for part in ["could see", "44 points", "15 by prompts alone", "3 seeds, 60 prompts each"] {
        assert!(told.ok().contains(part), "no `{part}` in {}", told.stdout);
    }
    let one = place.vxf(&["validate", "three.toml", "--seed=1", "--json"]).json();
    assert_eq!(one["detectable"]["by_seeds"], Value::Null);
    assert_eq!(one["detectable"]["prompts"], 60);
}
