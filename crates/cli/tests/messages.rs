//! What is said on stderr: `-q`, `-v`, `--log-format json`, and a signal that asks to stop.

mod common;

use common::{Place, TINY};
use serde_json::Value;

#[test]
fn a_quiet_run_says_nothing_and_its_result_is_the_same() {
    let place = Place::new();
    let usual = place.tiny(&["--output-dir=runs"]);
    assert!(
        usual.stderr.contains("steps to take") && usual.stderr.contains(" steps in "),
        "{usual:?}"
    );
    assert!(!usual.stderr.contains("begins"), "{usual:?}");
    let quiet = place.tiny(&["--output-dir=quiet", "-q"]);
    assert!(quiet.stderr.is_empty(), "{quiet:?}");
    assert_eq!(quiet.ok().replace("quiet", "runs"), usual.ok());
    place.vxf(&["-q", "runs", "nowhere"]).fails(2, &["error: nowhere"]);
    place.vxf(&["-q", "-v", "list"]).fails(2, &["--quiet"]);
}

#[test]
fn a_verbose_run_names_each_run() {
    let place = Place::new();
    let told = place.tiny(&["--output-dir=runs", "-v"]);
    told.ok();
    for run in ["sft aligned, seed 1: begins", "vaccine p=0.5, seed 1: begins"] {
        assert!(told.stderr.contains(run), "no `{run}` in {}", told.stderr);
    }
}

#[test]
fn messages_are_json_if_asked() {
    let place = Place::new();
    let told = place.vxf(&[&["run", "--log-format=json", "--output-dir=runs"], TINY].concat());
    told.ok();
    let kinds: Vec<_> = told
        .stderr
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON")["kind"].clone())
        .collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|kind| kind == "note" || kind == "progress"),
        "{kinds:?}"
    );
    let told = place.vxf(&["--log-format=json", "runs", "nowhere"]);
    let line: Value = serde_json::from_str(told.stderr.trim()).expect("JSON");
    assert_eq!((told.code, &line["kind"]), (2, &Value::from("error")));
}
