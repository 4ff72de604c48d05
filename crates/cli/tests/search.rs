//! `vxf search` at the smallest size.

mod common;

use common::{Place, TINY};
use serde_json::{Value, json};

const SEARCH: [&str; 5] =
    ["search", "--over=perturber.rho=0.5..8:log", "--budget=4", "--seed=11,12", "--output-dir=out"];

fn search<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SEARCH[..], &TINY[1..], more].concat()
}

#[test]
fn the_better_half_of_the_candidates_goes_on_to_the_next_seed() {
    let place = Place::new();
    let found = place.vxf(&search(&["--json"])).json();
    assert_eq!(found["budget"], json!({ "candidates": 4, "evaluations": 6 }));
    assert_eq!((&found["for"], &found["harmful_ratio"]), (&json!("defender"), &json!(0.5)));
    let candidates = found["candidates"].as_array().expect("candidates");
    let rounds = |it: &Value| it["rounds"].as_array().map_or(0, Vec::len);
    assert_eq!(candidates.iter().map(rounds).collect::<Vec<_>>(), [2, 2, 1, 1]);
    let objective = |it: &Value| it["objective"].as_f64().expect("a number");
    assert!(objective(&candidates[0]) <= objective(&candidates[1]));
    assert_eq!(found["best"], candidates[0]["settings"]);
    let part = |it: &Value, name: &str| it["rounds"][0][name].as_f64().expect("a number");
    // After the first round the better half stays.
    let first =
        |it: &Value| part(it, "harmful") + part(it, "lost_help") + part(it, "lost_accuracy");
    let kept = candidates[..2].iter().map(first).fold(f64::MIN, f64::max);
    let dropped = candidates[2..].iter().map(first).fold(f64::MAX, f64::min);
    assert!(kept <= dropped, "{candidates:?}");
    for (round, runs) in [("round-1", 4), ("round-2", 2)] {
        let listed = place.vxf(&["runs", &format!("out/{round}"), "--json"]).json();
        let runs_there = listed["experiments"][0]["runs"].as_array().expect("runs").clone();
        let tested = runs_there
            .iter()
            .filter(|run| run["run"].as_str().is_some_and(|run| run.starts_with("vaccine/0.5")));
        assert_eq!(tested.count(), runs, "{runs_there:?}");
    }

    // The same command reads the records, and says which figures not to report.
    let text = place.vxf(&search(&[])).ok().to_owned();
    for part in ["4 candidates for vaccine, 6 evaluations over 2 seeds", "report it on others"] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    let attacker = ["--attacker", "--over=fine_tuning.epochs=1,2,3"];
    let own = ["search", "--budget=3", "--seed=11", "--output-dir=attack"];
    let text = place.vxf(&[&own[..], &TINY[1..], &attacker[..]].concat()).ok().to_owned();
    assert!(text.contains("less lost accuracy, the highest is best"), "{text}");
}

/// Without `--over`, the ranges are those of the methods.
#[test]
fn methods_state_their_own_ranges() {
    let place = Place::new();
    let own = ["search", "--fine-tune-defense=vlguard", "--budget=3", "--seed=11"];
    let found = place.vxf(&[&own[..], &TINY[1..], &["--output-dir=out", "--json"]].concat()).json();
    let candidates = found["candidates"].as_array().expect("candidates");
    let drawn = candidates.iter().filter_map(|it| it["settings"].as_object());
    let drawn: Vec<Vec<_>> = drawn.map(|settings| settings.keys().collect()).collect();
    let keys = ["perturber.rho", "fine_tune_defense.lambda", "fine_tune_defense.batch_size"];
    assert_eq!(drawn.iter().filter(|found| **found == keys).count(), 2, "{drawn:?}");
    let plain = ["search", "--defense=sft", "--seed=11"];
    place.vxf(&plain).fails(2, &["state no ranges", "--over fine_tuning.learning_rate"]);
    // An attacker does not set the defender's radius.
    let attacker = ["search", "--attacker", "--seed=11"];
    place.vxf(&attacker).fails(2, &["the recipe's attack states no ranges"]);
    let harmless = ["search", "--seed=11", "--harmful-ratio=0"];
    place.vxf(&harmless).fails(2, &["harmful_ratios", "must have a share above 0"]);
}

#[test]
fn a_search_that_cannot_be_meant_is_refused() {
    let place = Place::new();
    let refused = |over: &str, parts: &[&str]| {
        place.vxf(&["search", "--budget=4", &format!("--over={over}")]).fails(2, parts);
    };
    refused("perturber.rho", &["--over: `perturber.rho`: write KEY=LOW..HIGH"]);
    refused("perturber.rho=2..1", &["LOW below HIGH"]);
    refused("perturber.roh=1..2", &["perturber.roh"]);
    refused("perturber.rho=-2..-1", &["perturber.rho", "--over perturber.rho"]);
    refused(
        "world.harmful_test=10,20,30",
        &["`world.harmful_test` must be a setting of a stage", "--over"],
    );
    let twice = ["search", "--over=perturber.rho=1..2", "--over=perturber.rho=3..4"];
    place.vxf(&twice).fails(2, &["`perturber.rho` must be searched in one range"]);
    let axis = ["search", "--rho=1,2", "--over=alignment.epochs=2,4"];
    place.vxf(&axis).fails(2, &["axes.perturber.rho", "`--over`"]);
    place.vxf(&["search", "--no-baseline"]).fails(2, &["baseline", "plain alignment"]);
    assert!(place.names().is_empty(), "{:?}", place.names());
}
