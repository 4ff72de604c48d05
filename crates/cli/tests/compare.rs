//! `vxf compare`: experiments and runs in one table.

mod common;

use common::Place;

#[test]
fn experiments_share_rows_and_their_differences_are_named() {
    let place = Place::new();
    place.tiny(&["--output-dir=a"]).ok();
    place.tiny(&["--output-dir=b", "--rho=1", "--set=world.harmful_test=5"]).ok();
    let told = place.vxf(&["compare", "a", "b"]);
    let text = told.ok();
    for part in [
        "harmful score (%, lower is better)",
        "aligned",
        "p = 0.5",
        "vaccine (a)",
        "vaccine (b)",
        "Settings that differ",
        "(`perturber.rho`): 5.0 in a, 1.0 in b",
        "`world.harmful_test`",
        "different prompts",
        "* marks the best",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    let table = text.split("\n\n").nth(1).expect("a table");
    // Some figure differs, and the best is marked.
    let marked = |line: &str| line.starts_with("  ") && line.ends_with(" *");
    assert!(text.lines().any(marked), "{text}");
    // Plain training is the same model in both, and has other figures where it was asked other prompts.
    let plain = |table: &str| table.lines().filter(|line| line.starts_with("  sft ")).count();
    assert_eq!(plain(table), 2, "{table}");
    place.tiny(&["--output-dir=c", "--rho=1"]).ok();
    let told = place.vxf(&["compare", "a", "c"]);
    assert_eq!(plain(told.ok().split("\n\n").nth(1).expect("a table")), 1, "{}", told.stdout);
    let json = place.vxf(&["compare", "a", "b", "--format=json"]).json();
    let settings = json["differences"][0]["settings"].as_array().expect("a list");
    assert!(settings.iter().any(|one| one["key"] == "perturber.rho"), "{settings:?}");
    let csv = place.vxf(&["compare", "a", "b", "--format=csv"]);
    assert_eq!(csv.ok().matches("experiment,run").count(), 1);
    assert!(csv.stdout.lines().any(|line| line.starts_with("b,vaccine/0.5/1,")), "{}", csv.stdout);
}

#[test]
fn runs_are_compared_alone() {
    let place = Place::new();
    place.tiny(&["--output-dir=a"]).ok();
    let told = place.vxf(&["compare", "a/sft/0.5/1", "a/vaccine/0.5/1"]);
    assert!(told.ok().contains("One seed") && !told.stdout.contains("none"), "{}", told.stdout);
    assert!(!told.stdout.contains("Settings that differ"), "{}", told.stdout);
    place.vxf(&["compare"]).fails(2, &["PATHS"]);
    place.vxf(&["compare", "a", "nothing"]).fails(2, &["nothing", "no such directory"]);
}
