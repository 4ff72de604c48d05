//! What a file says is used, refused or reported: an unknown thing in any format is named once, and
//! ordinary files give no warning.

mod common;

use std::collections::HashMap;

use candle_core::{Device, Tensor};
use common::{Place, Told};
use serde_json::{Value, json};

/// A place with a model, and with data and a recipe.
fn place() -> Place {
    let place = Place::new();
    place.protocol();
    place.llama("model", 1 << 30);
    place.write("scores.jsonl", "");
    place
}

fn generate(place: &Place) -> Told {
    place.vxf(&["generate", "model", "--template", "plain", "-p", "hi", "--max-new-tokens", "2"])
}

/// Sets a key of a JSON file of the model, which may be new.
fn set(place: &Place, file: &str, key: &str, value: Value) {
    let path = place.path("model").join(file);
    if !path.exists() {
        std::fs::write(&path, "{}").expect("written");
    }
    place.edit(&path, |config| config[key] = value);
}

/// Adds a tensor to the weights of the model.
fn add_tensor(place: &Place, name: &str) {
    let path = place.path("model/model.safetensors");
    let mut tensors: HashMap<String, Tensor> =
        candle_core::safetensors::load(&path, &Device::Cpu).expect("weights");
    let more = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).expect("a tensor");
    tensors.insert(name.to_owned(), more);
    candle_core::safetensors::save(&tensors, &path).expect("written");
}

#[track_caller]
fn warns(told: &Told, parts: &[&str]) {
    told.ok();
    let warnings: Vec<_> = told.stderr.lines().filter(|line| line.contains("warning:")).collect();
    let [warning] = warnings[..] else { panic!("not one warning: {}", told.stderr) };
    for part in parts {
        assert!(warning.contains(part), "no `{part}` in: {warning}");
    }
}

#[test]
fn ordinary_files_give_no_warning() {
    let place = place();
    let told = generate(&place);
    told.ok();
    assert!(!told.stderr.contains("warning"), "{}", told.stderr);
    // A key that switches its feature off counts as absent.
    for file in ["config.json", "tokenizer_config.json", "generation_config.json"] {
        set(&place, file, "brand_new", json!(false));
    }
    assert!(!generate(&place).stderr.contains("warning"));
}

#[test]
fn an_unknown_key_of_each_file_is_reported() {
    for file in [
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
    ] {
        let place = place();
        set(&place, file, "brand_new", json!(3));
        warns(&generate(&place), &["model", file, "`brand_new`", "unknown"]);
    }
}

#[test]
fn a_special_token_of_a_wrong_type_is_reported() {
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        let place = place();
        set(&place, file, "mask_token", json!(5));
        warns(&generate(&place), &[file, "`mask_token` = 5 is no token"]);
        for none in [json!(null), json!(false), json!("")] {
            set(&place, file, "mask_token", none);
            assert!(!generate(&place).stderr.contains("warning"));
        }
    }
}

#[test]
fn an_unknown_setting_of_the_rotation_is_reported() {
    let place = place();
    let rope = json!({ "rope_type": "linear", "factor": 2.0, "brand_new": 1 });
    set(&place, "config.json", "rope_scaling", rope);
    warns(&generate(&place), &["`rope_scaling.brand_new`"]);
}

#[test]
fn a_tensor_that_nothing_uses_is_reported() {
    let place = place();
    add_tensor(&place, "model.layers.7.brand_new.weight");
    let parts = ["1 tensor", "`model.layers.7.brand_new.weight`", "another model"];
    warns(&generate(&place), &parts);
    // What follows from the configuration is not worth a word.
    let place = self::place();
    add_tensor(&place, "model.layers.0.self_attn.rotary_emb.inv_freq");
    assert!(!generate(&place).stderr.contains("warning"));
}

#[test]
fn a_variable_of_a_template_that_nothing_defines_is_reported() {
    let place = place();
    let template =
        "{{ brand_new }}{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}";
    set(&place, "tokenizer_config.json", "chat_template", json!(template));
    let told = place.vxf(&["generate", "model", "-p", "hi", "--max-new-tokens", "1"]);
    warns(&told, &["chat template", "`brand_new`"]);
}

/// An adapter for the model, made by training one.
fn adapter(place: &Place) {
    let run = ["run", "recipe.toml", "--stage", "alignment", "--output-dir", "runs/one"];
    place.vxf(&[&run[..], &["--defense", "sft"]].concat()).ok();
    place.vxf(&["export", "runs/one/sft/aligned/1", "--adapter", "--output-dir", "adapter"]).ok();
}

#[test]
fn an_unknown_key_of_an_adapter_is_reported() {
    let place = place();
    adapter(&place);
    let config = place.path("adapter/adapter_config.json");
    let generate = |place: &Place| {
        let adapted = ["generate", "adapter", "--template", "plain", "-p", "hi"];
        place.vxf(&[&adapted[..], &["--max-new-tokens", "1"]].concat())
    };
    let told = generate(&place);
    told.ok();
    assert!(told.stderr.contains("merged into its base"), "{}", told.stderr);
    assert!(!told.stderr.contains("warning"), "{}", told.stderr);
    place.edit(&config, |config| config["brand_new"] = json!(3));
    warns(&generate(&place), &["adapter_config.json", "`brand_new`"]);
    place.edit(&config, |config| config["lora_bias"] = json!(true));
    generate(&place).fails(1, &["`lora_bias` = true", "merge it with peft first", "python -c"]);
}

#[test]
fn columns_and_keys_of_turns_that_nothing_reads_are_reported() {
    let place = place();
    let rows = [
        json!({ "prompt": "a", "response": "b", "is_safe": true, "brand_new": "c", "id": 1 }),
        json!({ "prompt": "d", "response": "e", "is_safe": true }),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    place.write("rows.jsonl", &text);
    // The first set of the recipe, without its choice of a split and of rows.
    let text = common::RECIPE.lines().map(|line| match line.starts_with("alignment =") {
        true => "alignment = { path = \"rows.jsonl\" }\n".to_owned(),
        false => format!("{line}\n"),
    });
    place.write("recipe.toml", &text.collect::<String>());
    let told = place.vxf(&["validate", "recipe.toml"]);
    assert!(told.ok().contains("the columns `is_safe`, `brand_new` are not read"), "{told:?}");
    let turn = |role: &str| json!({ "role": role, "content": "x", "brand_new": 1, "id": 7 });
    let row = json!({ "messages": [turn("user"), turn("assistant")] });
    place.write("rows.jsonl", &format!("{row}\n"));
    let told = place.vxf(&["validate", "recipe.toml"]);
    assert!(told.ok().contains("the keys `brand_new` of turns are unknown"), "{told:?}");
}

#[test]
fn a_target_that_matches_no_layer_is_an_error() {
    let place = place();
    let targets = "--set=alignment.trainable.target_modules=[\"q_proj\", \"brand_new\"]";
    let told = place.vxf(&["validate", "recipe.toml", targets]);
    told.fails(2, &["target_modules", "brand_new", "q_proj", "all-linear"]);
    let all = "--set=alignment.trainable.target_modules=all-linear";
    place.vxf(&["validate", "recipe.toml", all]).ok();
}
