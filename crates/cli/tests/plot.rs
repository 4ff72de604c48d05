//! `vxf plot`: curves in the terminal.

mod common;

use common::Place;

#[test]
fn curves_of_a_run_are_drawn_and_unknown_ones_named() {
    let place = Place::new();
    place.tiny(&["--output-dir=runs", "--eval-every=1"]).ok();
    let told = place.vxf(&["plot", "runs/sft/0.5/1", "loss", "drift"]);
    let text = told.ok();
    for part in ["loss of sft p=0.5, seed 1", "drift of sft p=0.5, seed 1", "│", "└"] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "{text}");
    // Without a name, the first figure.
    assert!(place.vxf(&["plot", "runs/vaccine/aligned/1"]).ok().contains(" of vaccine aligned"));
    place
        .vxf(&["plot", "runs/sft/0.5/1", "los"])
        .fails(2, &["no figure `los`", "loss", "--eval-every"]);
    place.vxf(&["plot", "runs"]).fails(2, &["name one run", "none/aligned/1"]);
    place.vxf(&["plot", "runs/none/aligned/1"]).fails(2, &["no step of it was logged"]);
    place.vxf(&["plot", "nowhere"]).fails(2, &["nowhere"]);
}
