//! The files of a model directory.

use std::fs;
use std::path::Path;

use vxf_hub::Result;

use crate::lab::{COMMIT, Lab, MODEL, get_model, says, weights};

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().display().to_string()).collect();
    names.sort();
    names
}

/// The files downloaded from a repository with these files.
fn fetched(files: &[&str]) -> Vec<String> {
    names(&get_model(&Lab::with(files).hub(), MODEL).expect("a model"))
}

#[test]
fn only_needed_files_are_downloaded() {
    let files = fetched(&[
        ".gitattributes",
        "README.md",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.gguf",
        "model.safetensors",
        "model.safetensors.index.json",
        "onnx/model.onnx",
        "pytorch_model.bin",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
    ]);
    let expected = [
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    ];
    assert_eq!(files, expected);
}

#[test]
fn older_and_smaller_forms() {
    let old = ["config.json", "pytorch_model.bin", "tokenizer.model"];
    assert_eq!(fetched(&old), old);
    let adapter = ["adapter_config.json", "adapter_model.safetensors"];
    assert_eq!(fetched(&adapter), adapter);
    let pickled_too = ["adapter_config.json", "adapter_model.safetensors", "pytorch_model.bin"];
    assert_eq!(fetched(&pickled_too), adapter);
}

#[test]
fn shards_are_found_by_their_index() {
    for weights in ["model.safetensors", "pytorch_model.bin"] {
        let index = format!("{weights}.index.json");
        let files = ["config.json", "1-of-2.safetensors", "20-of-2.safetensors", "3.safetensors"];
        let lab = Lab::with(&[&files[..], &[index.as_str()]].concat());
        let map = r#"{"weight_map": {"a": "1-of-2.safetensors", "b": "20-of-2.safetensors",
                      "c": "1-of-2.safetensors"}}"#;
        lab.server.change(|stored| stored[0].files[4].1 = map.into());
        let mut expected = vec!["1-of-2.safetensors", "20-of-2.safetensors", "config.json"];
        expected.push(&index);
        assert_eq!(names(&get_model(&lab.hub(), MODEL).expect("a model")), expected);
        assert_eq!(lab.sent().len(), 2);
    }
}

#[test]
fn a_complete_model_is_not_requested_again() -> Result<()> {
    let lab = Lab::with(&["config.json", "tokenizer.json", "model.safetensors"]);
    let directory = get_model(&lab.hub(), MODEL)?;
    assert_eq!(fs::read(directory.join("model.safetensors")).expect("weights"), weights(300_017));
    lab.lines();
    assert_eq!(get_model(&lab.hub(), MODEL)?, directory);
    assert_eq!(lab.lines(), ["GET /api/models/owner/model/revision/main"]);
    // Missing files are cached too, in Python's layout.
    assert!(lab.folder().join(".no_exist").join(COMMIT).join("vocab.json").exists());
    assert_eq!(get_model(&lab.hub(), &format!("{MODEL}@{COMMIT}"))?, directory);
    assert_eq!(lab.lines(), [""; 0]);
    Ok(())
}

#[test]
fn repositories_without_weights_are_rejected() {
    let lab = Lab::with(&["config.json", "model-q4.gguf", "README.md"]);
    says(get_model(&lab.hub(), MODEL), &[MODEL, "no model.safetensors", "model-q4.gguf"]);
    let lab = Lab::with(&["README.md", "model.safetensors"]);
    says(get_model(&lab.hub(), MODEL), &[MODEL, "`config.json`"]);
    let lab = Lab::with(&["config.json", "model.safetensors.index.json"]);
    says(get_model(&lab.hub(), MODEL), &["index.json", "`weight_map`"]);
    assert!(lab.sent().is_empty());
}
