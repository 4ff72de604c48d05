//! `vxf verify`: records that hold, and each kind of record that does not.

mod common;

use common::{Place, Told};
use serde_json::{Value, json};

const RUN: &str = "out/vaccine/0.5/1";

/// A finished experiment of the smallest size.
fn finished() -> Place {
    let place = Place::new();
    place.tiny(&["--no-undefended", "--metric=over-refusal", "--output-dir=out"]).ok();
    place
}

fn edit(place: &Place, file: &str, change: impl FnOnce(&mut Value)) {
    place.edit(&place.path(RUN).join(file), change);
}

fn row<'a>(record: &'a mut Value, name: &str) -> &'a mut Value {
    let rows = record["measurements"].as_array_mut().expect("rows");
    rows.iter_mut().find(|row| row["name"] == name).expect("the figure")
}

/// Asserts that something was found, and that it is an error.
#[track_caller]
fn found(told: &Told) {
    assert!(told.code == 1 && told.stderr.contains("do not hold"), "{told:?}");
    assert!(told.stdout.contains("Does not hold"), "{}", told.stdout);
}

/// Metrics may read weights that do not act yet, such as the first matrix of an adapter whose second one is zero.
#[test]
fn an_adapter_begins_as_in_the_run() {
    let place = Place::new();
    place
        .tiny(&[
            "--no-undefended",
            "--metric=curvature",
            "--set=alignment.trainable={ type = 'lora', rank = 4 }",
            "--set=fine_tuning.trainable={ type = 'lora', rank = 4 }",
            "--output-dir=out",
        ])
        .ok();
    let value = place.vxf(&["verify", "out", "--json"]).json();
    assert_eq!(value["holds"], true, "{value}");
}

#[test]
fn a_finished_experiment_holds() {
    let place = finished();
    let value = place.vxf(&["verify", "out", "--json"]).json();
    assert_eq!(value["holds"], true, "{value}");
    let verified = &value["verified"];
    assert_eq!((&verified["runs"], &verified["missing"]), (&json!(4), &json!(0)));
    assert_eq!(verified["figures"], verified["measured"], "every figure was measured again");
    assert!(verified["counted"].as_u64() > Some(0) && verified["identities"] == 4, "{verified}");
    let text = place.vxf(&["verify", RUN]);
    assert!(text.ok().contains("1 runs are done"), "{}", text.stdout);
    assert!(text.stdout.contains("Everything that was checked holds"), "{}", text.stdout);
    // Without weights what is not made of answers is not measured again, and that is said.
    place.vxf(&["prune", "out", "--keep=none"]).ok();
    let pruned = place.vxf(&["verify", "out"]);
    assert!(pruned.ok().contains("is not measured again"), "{}", pruned.stdout);
    assert!(place.vxf(&["verify", "out", "--records-only"]).ok().contains("0 figures measured"));
}

#[test]
fn a_figure_that_was_changed_is_found() {
    for (name, key, value, said) in [
        ("harmful_score", "value", json!(12.5), "by the outcomes of its answers"),
        ("harmful_score", "interval", json!([0.0, 1.0]), "the interval of `harmful_score`"),
        ("accuracy", "n", json!(400), "n = 400 in the record"),
        ("relative_drift", "value", json!(0.001), "measured again"),
    ] {
        let place = finished();
        edit(&place, "result.json", |record| row(record, name)[key] = value);
        let told = place.vxf(&["verify", "out"]);
        found(&told);
        assert!(told.stdout.contains("vaccine/0.5/1: "), "{}", told.stdout);
        assert!(told.stdout.contains(said), "no `{said}` in {}", told.stdout);
    }
}

#[test]
fn outcomes_that_agree_with_a_false_rate_are_judged_again() {
    let place = finished();
    edit(&place, "result.json", |record| {
        let row = row(record, "over_refusal");
        let n = row["n"].as_u64().expect("a count") as usize;
        // All refused, or none: whichever it was not.
        let letter = if row["value"] == 100.0 { "0" } else { "1" };
        row["outcomes"]["letters"] = json!(letter.repeat(n));
        row["value"] = json!(if letter == "1" { 100.0 } else { 0.0 });
        let [low, high] =
            vxf_stats::wilson(f64::from(u8::from(letter == "1")), n as f64).expect("n > 0");
        row["interval"] = json!([100.0 * low, 100.0 * high]);
    });
    let told = place.vxf(&["verify", RUN]);
    found(&told);
    assert!(told.stdout.contains("`over_refusal`"), "{}", told.stdout);
    // The records alone cannot tell.
    place.vxf(&["verify", RUN, "--records-only"]).ok();
}

#[test]
fn answers_identities_and_parents_are_checked() {
    let place = finished();
    let answers = place.path(RUN).join("generations.jsonl");
    let text = std::fs::read_to_string(&answers).expect("answers");
    std::fs::write(&answers, text + "\n").expect("writable");
    let told = place.vxf(&["verify", "out", "--records-only"]);
    found(&told);
    assert!(told.stdout.contains("its digest differs"), "{}", told.stdout);

    for (key, value, said) in [
        ("digest", json!("0".repeat(64)), "its identity is another"),
        ("parent", json!("sft/aligned/1"), "it started from sft/aligned/1"),
        ("seed", json!(2), "its record is that of vaccine/0.5/2"),
    ] {
        let place = finished();
        edit(&place, "result.json", |record| record[key] = value);
        let told = place.vxf(&["verify", RUN]);
        assert_eq!(told.code, 1, "{key}: {}", told.stdout);
        assert!(told.stdout.contains(said), "no `{said}` in {}", told.stdout);
    }
    place.vxf(&["verify", "elsewhere"]).fails(2, &["elsewhere"]);
}
