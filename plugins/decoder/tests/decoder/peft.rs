//! Adapters in PEFT's layout: written, read back, checked against a model, and rejected if
//! unsupported.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use vxf_core::metric::Model;
use vxf_core::{Backbone, Lora, Params, Result, Trainable};
use vxf_hf::peft;
use vxf_testkit::numbers::{entries, first_difference};
use vxf_testkit::{batches, training};

use crate::shapes::{self, made};

/// An adapter on all seven layers of a Llama.
fn adapter(lora: &Lora) -> (std::sync::Arc<dyn Backbone>, Params) {
    adapter_of(shapes::llama(), lora)
}

fn adapter_of(config: Value, lora: &Lora) -> (std::sync::Arc<dyn Backbone>, Params) {
    let model = made(config, DType::F32, &Trainable::Lora(lora.clone()));
    let weights = training::weights(&*model, 2).expect("weights");
    (model, weights)
}

fn on(targets: &[&str]) -> Lora {
    let target_modules = targets.iter().map(|&target| target.to_owned()).collect();
    Lora { rank: 2, target_modules, ..Lora::default() }
}

#[test]
fn what_is_written_is_read() -> Result<()> {
    let settings = [
        Lora::default(),
        Lora { rank: 3, alpha: 6.5, dropout: 0.0, use_rslora: true, ..Lora::default() },
        on(&["v_proj", "down_proj", "fc1", "out_proj", "project_in"]),
        on(&["layers.1.self_attn.v_proj", "k_proj"]),
    ];
    for (name, config) in shapes::all() {
        for lora in settings.iter().map(|lora| shapes::suited(lora, &config)) {
            let lora = &lora;
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("adapter");
            let (model, weights) = adapter_of(config.clone(), lora);
            peft::write(&path, lora, &weights, Some("the/base"))?;
            let (read, tensors) = peft::read(&path, DType::F32, vxf_testkit::device())?;
            assert_eq!(read, *lora, "{name}");
            assert_eq!(first_difference(&tensors, &weights)?, None);
            peft::fits("there", &read, &tensors, &*model)?;

            // A model with the adapter that was read gives the same outputs.
            let again = model.with_trainable(&Trainable::Lora(read))?;
            let batch = batches::batch(2, 6, 23, &vxf_core::Key::root(4))?;
            let logits = |backbone: &dyn Backbone, weights: &Params| {
                entries(&Model { backbone, weights }.logits(&batch)?)
            };
            assert_eq!(logits(&*model, &weights)?, logits(&*again, &tensors)?);
        }
    }
    Ok(())
}

/// PEFT looks for a layer called `all-linear` if a list has it, so the layers themselves are named. Adapters
/// that earlier versions wrote have it in a list.
#[test]
fn an_adapter_on_all_layers_names_them() -> Result<()> {
    for (name, config) in shapes::all() {
        let directory = tempfile::tempdir().expect("a directory");
        let (_, weights) = adapter_of(config, &on(&["all-linear"]));
        peft::write(directory.path(), &on(&["all-linear"]), &weights, None)?;
        let file = directory.path().join("adapter_config.json");
        let text = std::fs::read_to_string(&file).expect("the settings");
        let mut settings: Value = serde_json::from_str(&text).expect("JSON");
        let targets: Vec<_> = settings["target_modules"].as_array().expect("a list").clone();
        assert!(
            targets.len() > 1 && !targets.contains(&json!("all-linear")),
            "{name}: {targets:?}"
        );
        let (_, tensors) = peft::read(directory.path(), DType::F32, vxf_testkit::device())?;
        assert_eq!(first_difference(&tensors, &weights)?, None, "{name}");
        settings["target_modules"] = json!(["all-linear"]);
        std::fs::write(&file, settings.to_string()).expect("a file");
        let (_, tensors) = peft::read(directory.path(), DType::F32, vxf_testkit::device())?;
        assert_eq!(first_difference(&tensors, &weights)?, None, "{name}, as written before");
    }
    Ok(())
}

#[test]
fn rank_stabilised_scale_differs_from_the_plain_one() {
    let lora = Lora { rank: 4, use_rslora: true, ..Lora::default() };
    assert_eq!(lora.scale(), 2.0);
    assert_eq!(Lora { use_rslora: false, ..lora }.scale(), 1.0);
}

fn stored(directory: &Path) -> HashMap<String, Tensor> {
    let file = directory.join("adapter_model.safetensors");
    candle_core::safetensors::load(file, &Device::Cpu).expect("tensors")
}

fn store(directory: &Path, tensors: &HashMap<String, Tensor>) {
    let file = directory.join("adapter_model.safetensors");
    candle_core::safetensors::save(tensors, file).expect("a file");
}

/// Tensors have PEFT's names: prefix, module, matrix, `weight`.
#[test]
fn tensors_carry_the_names_of_peft() -> Result<()> {
    for (config, module) in [
        (shapes::llama(), "model.layers.0.self_attn.q_proj"),
        (shapes::opt(), "model.decoder.layers.0.self_attn.q_proj"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let lora = on(&["q_proj"]);
        peft::write(directory.path(), &lora, &adapter_of(config, &lora).1, Some("the/base"))?;
        let tensors = stored(directory.path());
        let mut names: Vec<_> = tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        let prefix = format!("base_model.model.{module}");
        let pair = [format!("{prefix}.lora_A.weight"), format!("{prefix}.lora_B.weight")];
        assert_eq!(names[..2], pair);
        assert_eq!(names.len(), 4);
        assert_eq!(tensors[names[0]].dims(), [2, 12]);
        let settings = settings(directory.path());
        assert_eq!(settings["base_model_name_or_path"], "the/base");
    }
    Ok(())
}

fn settings(directory: &Path) -> Value {
    let text = std::fs::read_to_string(directory.join("adapter_config.json")).expect("settings");
    serde_json::from_str(&text).expect("JSON")
}

/// A valid adapter with changed settings and tensors.
fn changed(
    lora: &Lora,
    settings_changed: Value,
    tensors: impl Fn(String, Tensor) -> Option<(String, Tensor)>,
) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    peft::write(directory.path(), lora, &adapter(lora).1, None).expect("written");
    let config = shapes::with(settings(directory.path()), settings_changed);
    let file = directory.path().join("adapter_config.json");
    std::fs::write(&file, config.to_string()).expect("settings");
    let all = stored(directory.path()).into_iter().filter_map(|(name, it)| tensors(name, it));
    store(directory.path(), &all.collect());
    directory
}

fn read(directory: &tempfile::TempDir) -> Result<(Lora, Params)> {
    peft::read(directory.path(), DType::F32, &Device::Cpu)
}

/// Adapters of older and newer versions of PEFT, and of other programs.
#[test]
fn adapters_of_others_are_read() -> Result<()> {
    let lora = on(&["q_proj", "v_proj"]);
    let plain = |name: String, tensor: Tensor| Some((name, tensor));
    let infix =
        |name: String, tensor: Tensor| Some((name.replace(".weight", ".default.weight"), tensor));
    let (_, weights) = adapter(&lora);
    assert_eq!(first_difference(&read(&changed(&lora, json!({}), infix))?.1, &weights)?, None);
    for dtype in [DType::F16, DType::BF16, DType::F64] {
        let narrow =
            |name: String, tensor: Tensor| Some((name, tensor.to_dtype(dtype).expect("a cast")));
        let found = read(&changed(&lora, json!({}), narrow))?.1;
        let rounded = weights.map(|it| Ok(it.detach().to_dtype(dtype)?.to_dtype(DType::F32)?))?;
        assert_eq!(first_difference(&found, &rounded)?, None, "{dtype:?}");
    }
    let newer = json!({
        "alora_invocation_tokens": null, "alpha_pattern": {}, "rank_pattern": {}, "corda_config": null,
        "ensure_weight_tying": false, "exclude_modules": null, "init_lora_weights": "gaussian",
        "loftq_config": {}, "megatron_core": "megatron.core", "peft_version": "0.21.2",
        "qalora_group_size": 16, "lora_bias": false, "trainable_token_indices": null,
        "layers_to_transform": null, "modules_to_save": null, "use_dora": false,
    });
    assert_eq!(read(&changed(&lora, newer, plain))?.0, lora);
    Ok(())
}

/// If the settings do not list the layers, the tensors decide.
#[test]
fn targets_are_those_of_the_tensors() -> Result<()> {
    let lora = on(&["q_proj", "v_proj"]);
    let all =
        ["0.self_attn.q_proj", "0.self_attn.v_proj", "1.self_attn.q_proj", "1.self_attn.v_proj"];
    let named = |layers: &[&str]| -> Vec<_> {
        layers.iter().map(|layer| format!("model.layers.{layer}")).collect()
    };
    let keep_all = |name: String, tensor: Tensor| Some((name, tensor));
    let upper = |name: String, tensor: Tensor| name.contains("layers.1").then_some((name, tensor));
    for settings in [
        json!({ "target_modules": r".*\.(q|v)_proj" }),
        json!({ "target_modules": "all-linear" }),
        json!({ "target_modules": null }),
    ] {
        let directory = changed(&lora, settings.clone(), keep_all);
        assert_eq!(read(&directory)?.0.target_modules, named(&all), "{settings}");
    }
    let directory = changed(&lora, json!({ "layers_to_transform": [1] }), upper);
    let (found, weights) = read(&directory)?;
    assert_eq!(found.target_modules, named(&all[2..]));
    peft::fits("there", &found, &weights, &*adapter(&lora).0)?;
    // PEFT would leave such tensors out.
    for (settings, said) in [
        (json!({ "target_modules": ["q_proj"] }), "`target_modules`"),
        (json!({ "target_modules": r".*\.q_proj" }), "the expression in `target_modules`"),
        (json!({ "exclude_modules": ["v_proj"] }), "`exclude_modules`"),
        (json!({ "exclude_modules": r".*\.v_proj" }), "`exclude_modules`"),
        (json!({ "layers_to_transform": [0] }), "`layers_to_transform` = [0]"),
    ] {
        refusal(&changed(&lora, settings, keep_all), &[said, "PEFT would not use it"]);
    }
    // And say that others are missing.
    let more = json!({ "target_modules": ["q_proj", "v_proj", "o_proj"] });
    let more = changed(&lora, more, keep_all);
    let read = peft::Adapter::read(more.path(), DType::F32, &Device::Cpu).expect("read");
    assert!(read.remarks[0].contains("names o_proj"), "{:?}", read.remarks);
    let some = |name: String, tensor: Tensor| {
        (!name.contains("layers.1.self_attn.v_proj")).then_some((name, tensor))
    };
    let uneven = changed(&lora, json!({}), some);
    let read = peft::Adapter::read(uneven.path(), DType::F32, &Device::Cpu).expect("read");
    let said = "no tensors of `v_proj` in some layers, which are not adapted there: `1`";
    assert!(read.remarks[0].contains(said), "{:?}", read.remarks);
    // What is asked for on purpose is not worth a word.
    let lower = |name: String, tensor: Tensor| name.contains("layers.0").then_some((name, tensor));
    for (settings, tensors) in
        [(json!({ "layers_to_transform": [1] }), &upper as &dyn Fn(_, _) -> _), (json!({}), &lower)]
    {
        let even = changed(&lora, settings, tensors);
        let read = peft::Adapter::read(even.path(), DType::F32, &Device::Cpu).expect("read");
        assert!(read.remarks.is_empty(), "{:?}", read.remarks);
    }
    Ok(())
}

#[track_caller]
fn refusal(directory: &tempfile::TempDir, texts: &[&str]) {
    let message = read(directory).expect_err("refused").to_string();
    assert!(texts.iter().all(|text| message.contains(text)), "{texts:?} not in: {message}");
}

#[test]
fn unsupported_settings_are_refused_by_name() {
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("peft_type", json!(null)),
        ("alpha_pattern", json!({ "q_proj": 4 })),
        ("lora_bias", json!(true)),
        ("layer_replication", json!([[0, 1]])),
        ("trainable_token_indices", json!([3])),
        ("init_lora_weights", json!("pissa")),
        ("r", json!("eight")),
        ("r", json!(0)),
        ("target_modules", json!("(?!x)q_proj")),
        ("lora_alpha", json!(null)),
    ] {
        let directory =
            changed(&on(&["q_proj"]), json!({ key: value }), |name, it| Some((name, it)));
        refusal(&directory, &[key, "adapter_config.json"]);
    }
    let unknown = changed(&on(&["q_proj"]), json!({ "a_key_of_tomorrow": "on" }), |name, it| {
        Some((name, it))
    });
    let read = peft::Adapter::read(unknown.path(), DType::F32, &Device::Cpu).expect("read");
    assert!(read.remarks[0].contains("`a_key_of_tomorrow`"), "{:?}", read.remarks);
    let dora = changed(&on(&["q_proj"]), json!({ "use_dora": true }), |name, it| Some((name, it)));
    refusal(&dora, &["adapter_model.safetensors", "lora_magnitude_vector", "use_dora"]);
    let ranks = json!({ "rank_pattern": { "q_proj": 4 } });
    let ranks = changed(&on(&["q_proj"]), ranks, |name, it| Some((name, it)));
    refusal(&ranks, &["adapter_model.safetensors", "`r` = 4"]);
    let dropout = json!({ "lora_dropout": 1.5 });
    refusal(&changed(&on(&["q_proj"]), dropout, |name, it| Some((name, it))), &["dropout"]);
}

#[test]
fn tensors_that_do_not_form_an_adapter_are_named() {
    let lora = on(&["q_proj"]);
    let first = "model.layers.0.self_attn.q_proj";
    let file = "adapter_model.safetensors";
    let without = |part: &'static str| {
        move |name: String, it: Tensor| {
            (!(name.contains("layers.0") && name.contains(part))).then_some((name, it))
        }
    };
    refusal(&changed(&lora, json!({}), without("lora_A")), &[file, first, "lora_A is missing"]);
    refusal(&changed(&lora, json!({}), without("lora_B")), &[file, first, "lora_B is missing"]);
    refusal(&changed(&lora, json!({}), |_, _| None), &[file, "no tensors"]);
    let rank = changed(&lora, json!({ "r": 3 }), |name, it| Some((name, it)));
    refusal(&rank, &[file, first, "[2, 12]", "rank `r` = 3"]);
    let strange = |name: String, it: Tensor| Some((name.replace("lora_A", "lora_strange_A"), it));
    refusal(&changed(&lora, json!({}), strange), &[file, "lora_strange_A", "merge it with peft"]);
    let wrapped = |name: String, it: Tensor| {
        let name = name.replace("layers.0.self_attn.q_proj.lora_A", "layers.1.self_attn.q_proj");
        Some((name, it))
    };
    let both = changed(&lora, json!({}), wrapped);
    refusal(&both, &[file, "layers.1.self_attn.q_proj.weight", "PEFT would not use the first"]);
    let whole = |name: String, it: Tensor| Some((name, it.to_dtype(DType::I64).expect("a cast")));
    refusal(&changed(&lora, json!({}), whole), &[file, first, "F32"]);
    let infinite = |name: String, it: Tensor| Some((name, (it / 0.0).expect("a division")));
    refusal(&changed(&lora, json!({}), infinite), &[file, first, "finite"]);
}

#[test]
fn missing_and_broken_files_are_named() {
    let lora = on(&["q_proj"]);
    let directory = tempfile::tempdir().expect("a directory");
    refusal(&directory, &["adapter_config.json"]);
    peft::write(directory.path(), &lora, &adapter(&lora).1, None).expect("written");
    let tensors = directory.path().join("adapter_model.safetensors");
    let whole = std::fs::read(&tensors).expect("tensors");
    std::fs::write(&tensors, &whole[..whole.len() / 2]).expect("half of them");
    refusal(&directory, &["adapter_model.safetensors", "not a complete safetensors file"]);
    std::fs::remove_file(&tensors).expect("the file");
    refusal(&directory, &["adapter_model.safetensors", "missing"]);
    std::fs::write(directory.path().join("adapter_model.bin"), &whole).expect("a file");
    refusal(&directory, &["adapter_model.bin", "without running code"]);
    std::fs::write(directory.path().join("adapter_config.json"), "{").expect("settings");
    refusal(&directory, &["adapter_config.json"]);
}

/// PEFT's older file, written by PyTorch.
#[test]
fn pickled_adapters_are_read() -> Result<()> {
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
    let path = recordings.join("opt_plain/adapter_init");
    assert!(path.join("adapter_model.bin").is_file());
    let (lora, weights) = peft::read(&path, DType::F32, &Device::Cpu)?;
    let opt = vxf_hf::load_directory(&recordings.join("opt_plain"), DType::F32, &Device::Cpu)?;
    assert_eq!(weights.len(), 2 * 2 * 3);
    peft::fits("opt_plain", &lora, &weights, &*opt)
}

#[test]
fn adapters_of_other_models_are_refused() -> Result<()> {
    let lora = on(&["q_proj", "v_proj"]);
    let (llama, weights) = adapter(&lora);
    let refused = |lora: &Lora, weights: &Params, backbone: &dyn Backbone, texts: &[&str]| {
        let message =
            peft::fits("there", lora, weights, backbone).expect_err("refused").to_string();
        let missing = texts.iter().chain(&["there"]).find(|text| !message.contains(**text));
        assert_eq!(missing, None, "{message}");
    };
    // Another family, with other names.
    let opt = made(shapes::opt(), DType::F32, &Trainable::Full);
    refused(
        &lora,
        &weights,
        &*opt,
        &["opt", "lacks `model.decoder.layers.0.self_attn.q_proj.lora_A`"],
    );
    refused(&on(&["o_proj"]), &weights, &*opt, &["opt", "target_modules"]);
    // Another size of the same family.
    let small = shapes::with(shapes::llama(), json!({ "head_dim": 2 }));
    let small = made(small, DType::F32, &Trainable::Full);
    refused(&lora, &weights, &*small, &["q_proj.lora_B", "[24, 2]", "[8, 2]"]);
    // More layers than the model has, and fewer.
    let one = shapes::with(shapes::llama(), json!({ "num_hidden_layers": 1 }));
    let (one, few) = adapter_of(one, &lora);
    refused(&lora, &weights, &*one, &["`model.layers.1.self_attn.q_proj.lora_A`", "does not have"]);
    refused(&lora, &few, &*llama, &["lacks `model.layers.1.self_attn.q_proj.lora_A`"]);
    peft::fits("there", &lora, &weights, &*llama)
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").expect("a file");
    let lora = Lora::default();
    let error = peft::write(&file.join("adapter"), &lora, &adapter(&lora).1, None);
    let error = error.expect_err("refused");
    assert!(error.to_string().contains("file"), "{error}");
}
