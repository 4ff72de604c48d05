//! Experiments on a base whose matrices are held in four bits.

mod common;

use common::{Place, TINY};

const ADAPTERS: &[&str] = &[
    "--set=model.quantize=nf4",
    "--set=alignment.trainable.type=lora",
    "--set=fine_tuning.trainable.type=lora",
];

#[test]
fn a_quantised_base_is_trained_measured_resumed_and_handed_on() {
    let place = Place::new();
    let run = |more: &[&str], to: &str| {
        let mut all = vec!["run", "--json", "--no-undefended", "--output-dir", to];
        all.extend(TINY.iter().chain(more));
        place.vxf(&all)
    };
    let full = run(&["--set=model.quantize=nf4"], "full");
    full.fails(2, &["alignment.trainable", "must be \"lora\"", "model.quantize"]);

    let first = run(ADAPTERS, "few").json();
    let dense = run(&ADAPTERS[1..], "dense").json();
    let digests = |told: &serde_json::Value| -> Vec<String> {
        let runs = told["runs"].as_array().expect("runs");
        runs.iter().map(|run| run["digest"].as_str().expect("a digest").to_owned()).collect()
    };
    let (few, plain) = (digests(&first), digests(&dense));
    assert!(!few.is_empty() && few.iter().all(|digest| !plain.contains(digest)), "{few:?}");
    // A finished run is not computed again, and what is measured later is the same model.
    assert_eq!(run(ADAPTERS, "few").json()["runs"], first["runs"]);
    place.vxf(&["verify", "few"]).ok();

    let aligned = "few/sft/aligned/1";
    place
        .vxf(&["export", aligned, "--merged", "--output-dir", "merged"])
        .fails(1, &["--adapter", "model.quantize"]);
    place.vxf(&["export", aligned, "--adapter", "--output-dir", "adapter"]).ok();
    let card = std::fs::read_to_string(place.path("adapter/README.md")).expect("a card");
    assert!(card.contains("nf4"), "{card}");
}
