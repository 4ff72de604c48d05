//! Models that others could have changed, and weights that are not finite, are reported.
#![cfg(unix)]

mod common;

use std::os::unix::fs::{PermissionsExt, symlink};

use common::Place;
use serde_json::Value;

fn mode(place: &Place, name: &str, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(place.path(name), permissions).expect("one's own");
}

fn manifest(place: &Place, root: &str) -> Value {
    let text = std::fs::read_to_string(place.path(root).join("manifest.json")).expect("a manifest");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_model_that_others_can_write_is_reported_and_noted() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    mode(&place, "model", 0o755);
    let run = |out: &str| place.vxf(&["run", "recipe.toml", "--output-dir", out]);
    let quiet = run("quiet");
    quiet.ok();
    assert!(!quiet.stderr.contains("warning"), "{}", quiet.stderr);
    assert_eq!(manifest(&place, "quiet")["warnings"], Value::Null);

    mode(&place, "model", 0o777);
    mode(&place, "model/config.json", 0o666);
    let told = run("told");
    told.ok();
    let sentence = "/model is writable by everyone (mode 777) (and 1 more like it)";
    assert_eq!(told.stderr.matches(sentence).count(), 1, "{}", told.stderr);
    let warnings = &manifest(&place, "told")["warnings"];
    assert!(warnings[0].as_str().is_some_and(|it| it.contains("/model is writable by everyone")));
    let generated = place.vxf(&["generate", "model", "--prompt", "x", "--max-new-tokens", "1"]);
    assert!(generated.stderr.contains("writable by everyone"), "{}", generated.stderr);

    // When a run is evaluated, it is a model too.
    mode(&place, "told/vaccine/0.2/1", 0o777);
    mode(&place, "model", 0o755);
    mode(&place, "model/config.json", 0o644);
    let again = place.vxf(&["eval", "told/vaccine/0.2/1"]);
    again.ok();
    assert!(again.stderr.contains("0.2/1 is writable by everyone"), "{}", again.stderr);
}

#[test]
fn links_must_lead_to_regular_files() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    mode(&place, "model", 0o755);
    std::fs::create_dir(place.path("store")).expect("a directory");
    let (file, stored) = (place.path("model/model.safetensors"), place.path("store/weights"));
    std::fs::rename(&file, &stored).expect("a new place");
    symlink(&stored, &file).expect("a link");
    let told = place.vxf(&["run", "recipe.toml", "--output-dir", "linked"]);
    told.ok();
    assert!(told.stderr.contains("model.safetensors is a link to /"), "{}", told.stderr);

    // Links to devices and pipes are rejected before they are opened: reading them would never end.
    for (name, target) in [
        ("model.safetensors", "/dev/zero"),
        ("config.json", "/dev/zero"),
        ("tokenizer.json", "/dev/zero"),
        ("config.json", "/proc/kmsg"),
        ("config.json", "."),
        ("model.safetensors", "/nowhere"),
    ] {
        let path = place.path("model").join(name);
        let kept = place.path("kept");
        std::fs::rename(&path, &kept).expect("a new place");
        symlink(target, &path).expect("a link");
        let told = place.vxf(&["run", "recipe.toml", "--output-dir", "other"]);
        told.fails(1, &["model"]);
        std::fs::remove_file(&path).expect("it was there");
        std::fs::rename(&kept, &path).expect("back again");
    }
    assert!(!place.path("other").exists());
}

#[test]
fn nan_and_infinity_in_the_weights_of_a_run_are_refused() {
    let place = Place::new();
    place.tiny(&["--no-baseline", "--no-undefended", "--output-dir=out"]).ok();
    let file = place.path("out/vaccine/0.5/1/model.safetensors");
    let mut bytes = std::fs::read(&file).expect("weights");
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::INFINITY.to_le_bytes());
    std::fs::write(&file, &bytes).expect("weights");
    let eval = || place.vxf(&["eval", "out/vaccine/0.5/1", "--anew"]);
    eval().fails(1, &["0.5/1/model.safetensors", "holds inf", "finite"]);
    std::fs::write(&file, &bytes[..bytes.len() / 2]).expect("weights");
    eval().fails(1, &["0.5/1/model.safetensors", "not a complete safetensors file"]);
    std::fs::remove_file(&file).expect("it was there");
    eval().fails(1, &["0.5/1/model.safetensors", "is missing"]);
}

#[test]
fn unchanged_weights_are_an_error_and_a_weak_attack_is_reported() {
    let place = Place::new();
    // An adapter that is multiplied by zero gets no gradient.
    let nothing = "--set=fine_tuning.trainable={type=\"lora\", rank=2, alpha=0}";
    let told = place.tiny(&[nothing, "--no-baseline", "--no-undefended", "--output-dir=still"]);
    told.fails(1, &["vaccine p=0.5, seed 1", "no weight has changed", "gradient was zero"]);
    assert!(place.path("still/vaccine/aligned/1").is_dir(), "what is finished stays");
    assert!(!place.path("still/vaccine/0.5").exists());

    // A rate so high that the loss rises, also in plain fine-tuning.
    let wild = [
        "--set=fine_tuning.learning_rate=0.5",
        "--set=fine_tuning.epochs=3",
        "--set=fine_tuning.schedule=constant",
        "--set=fine_tuning.warmup_ratio=0",
    ];
    let told = place.tiny(&[&wild[..], &["--no-undefended", "--output-dir=wild"]].concat());
    assert_eq!(told.code, 1, "{told:?}");
    for part in ["sft p=0.5", "did not lower its own loss", "this model has no defence"] {
        assert!(told.stderr.contains(part), "no `{part}` in {}", told.stderr);
    }
    assert!(
        told.stdout.contains("Fine-tuning in doubt")
            && told.stdout.contains("vaccine p=0.5, seed 1")
    );
    // Without plain fine-tuning the defence may be the reason: a warning, and an error only with
    // `--strict`.
    let alone = [&wild[..], &["--no-undefended", "--no-baseline", "--output-dir=alone"]].concat();
    let told = place.tiny(&alone);
    assert!(told.ok().contains("Fine-tuning in doubt"), "{}", told.stdout);
    let record = std::fs::read_to_string(place.path("alone/vaccine/0.5/1/result.json"));
    let record: Value = serde_json::from_str(&record.expect("a record")).expect("JSON");
    let loss = &record["training_loss"];
    assert!(loss["last"].as_f64() >= loss["first"].as_f64() && loss["steps"] == 2, "{loss}");
    let strict = place.tiny(&[&alone[..], &["--strict"]].concat());
    assert_eq!(strict.code, 1, "{strict:?}");
    assert!(strict.stderr.contains("`--strict` is set"), "{}", strict.stderr);
    assert!(strict.stdout.contains("Fine-tuning in doubt"), "the table is printed all the same");
}
