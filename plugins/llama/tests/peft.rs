//! Adapters in PEFT's layout: written, read back, and refused when they are not what is supported.

use std::path::Path;

use candle_core::{DType, Device};
use serde_json::json;
use vxf_core::metric::Model;
use vxf_core::{Backbone, Lora, Params, Trainable, peft};
use vxf_llama::Llama;
use vxf_testkit::checkpoint::LlamaShape;
use vxf_testkit::numbers::{entries, first_difference};
use vxf_testkit::{batches, training};

fn adapter(lora: &Lora) -> (std::sync::Arc<dyn Backbone>, Params) {
    let checkpoint = LlamaShape::default().checkpoint(1).expect("random tensors");
    let llama = Llama::load(&checkpoint, DType::F32, &Device::Cpu).expect("a whole checkpoint");
    let llama = llama.with_trainable(&Trainable::Lora(lora.clone())).expect("its own layers");
    let weights = training::weights(&*llama, 2).expect("weights");
    (llama, weights)
}

fn sorted(mut lora: Lora) -> Lora {
    lora.target_modules.sort();
    lora
}

#[test]
fn what_is_written_is_read() {
    let settings = [
        Lora::default(),
        Lora { rank: 3, alpha: 6.5, dropout: 0.0, use_rslora: true, ..Lora::default() },
        Lora {
            rank: 1,
            target_modules: vec!["v_proj".into(), "down_proj".into()],
            ..Lora::default()
        },
    ];
    for lora in settings {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("adapter");
        let (llama, weights) = adapter(&lora);
        peft::write(&path, &lora, &weights).expect("written");
        let (read, tensors) = peft::read(&path, DType::F32, &Device::Cpu).expect("read");
        assert_eq!(sorted(read.clone()), sorted(lora.clone()));
        assert_eq!(first_difference(&tensors, &weights).expect("numbers"), None);

        // The model that is made of what was read computes the same.
        let again = llama.with_trainable(&Trainable::Lora(read)).expect("its own layers");
        let batch = batches::batch(2, 6, 37, &vxf_core::Key::root(4)).expect("a batch");
        let logits = |backbone: &dyn Backbone, weights: &Params| {
            let logits = Model { backbone, weights }.logits(&batch).expect("logits");
            entries(&logits).expect("numbers")
        };
        assert_eq!(logits(&*llama, &weights), logits(&*again, &tensors));
    }
}

#[test]
fn rank_stabilised_scale_differs_from_the_plain_one() {
    let lora = Lora { rank: 4, use_rslora: true, ..Lora::default() };
    assert_eq!(lora.scale(), 2.0);
    assert_eq!(Lora { use_rslora: false, ..lora }.scale(), 1.0);
}

/// Tensors are named as PEFT names them: prefix, module, matrix, `weight`.
#[test]
fn tensors_carry_the_names_of_peft() {
    let directory = tempfile::tempdir().expect("a directory");
    let lora = Lora { target_modules: vec!["q_proj".into()], ..Lora::default() };
    peft::write(directory.path(), &lora, &adapter(&lora).1).expect("written");
    let file = directory.path().join("adapter_model.safetensors");
    let tensors = candle_core::safetensors::load(file, &Device::Cpu).expect("tensors");
    let mut names: Vec<_> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj";
    assert_eq!(names[..2], [format!("{prefix}.lora_A.weight"), format!("{prefix}.lora_B.weight")]);
    assert_eq!(names.len(), 4);
    assert_eq!(tensors[names[0]].dims(), [8, 16]);
}

fn refusal(path: &Path) -> String {
    peft::read(path, DType::F32, &Device::Cpu).expect_err("refused").to_string()
}

/// Changes one key of a sound adapter's settings and reads it.
fn refusal_with(key: &str, value: serde_json::Value) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let lora = Lora::default();
    peft::write(directory.path(), &lora, &adapter(&lora).1).expect("written");
    let file = directory.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&file).expect("settings");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config[key] = value;
    std::fs::write(&file, config.to_string()).expect("settings");
    refusal(directory.path())
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("rank_pattern", json!({ "q_proj": 4 })),
        ("alpha_pattern", json!({ "q_proj": 4 })),
        ("modules_to_save", json!(["lm_head"])),
        ("use_dora", json!(true)),
        ("fan_in_fan_out", json!(true)),
        ("bias", json!("all")),
        ("r", json!("eight")),
        ("lora_alpha", json!(null)),
    ] {
        let message = refusal_with(key, value);
        assert!(message.contains(key) && message.contains("adapter_config.json"), "{message}");
    }
    assert!(refusal_with("lora_dropout", json!(1.5)).contains("dropout"));
    assert!(refusal_with("r", json!(0)).contains("rank"));
}

#[test]
fn missing_and_broken_files_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    assert!(refusal(directory.path()).contains("adapter_config.json"));
    let lora = Lora::default();
    let (_, weights) = adapter(&lora);
    peft::write(directory.path(), &lora, &weights).expect("written");
    let tensors = directory.path().join("adapter_model.safetensors");
    let whole = std::fs::read(&tensors).expect("tensors");
    std::fs::write(&tensors, &whole[..whole.len() / 2]).expect("half of them");
    assert!(refusal(directory.path()).contains("adapter_model.safetensors"));
    std::fs::remove_file(&tensors).expect("the file");
    assert!(refusal(directory.path()).contains("adapter_model.safetensors"));
    std::fs::write(directory.path().join("adapter_config.json"), "{").expect("settings");
    assert!(refusal(directory.path()).contains("adapter_config.json"));
}

#[test]
fn a_tensor_that_is_no_adapter_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let lora = Lora::default();
    let (_, mut weights) = adapter(&lora);
    let stray = weights.iter().next().map(|(_, tensor)| tensor.clone()).expect("an adapter");
    weights.insert("model.layers.0.self_attn.q_proj.lora_embedding_A", stray);
    peft::write(directory.path(), &lora, &weights).expect("written");
    let message = refusal(directory.path());
    assert!(message.contains("lora_embedding_A"), "{message}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").expect("a file");
    let lora = Lora::default();
    let error = peft::write(&file.join("adapter"), &lora, &adapter(&lora).1).expect_err("refused");
    assert!(error.to_string().contains("file"), "{error}");
}
