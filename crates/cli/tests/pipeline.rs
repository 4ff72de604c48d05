//! The published protocol on a tiny model in the layout of Llama 2: stage by stage, and at once.

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device};
use common::{Place, Told};
use serde_json::{Value, json};
use vxf_core::Key;
use vxf_testkit::checkpoint::LlamaShape;

/// The recipe of Table 1 with a little local data.
const RECIPE: &str = r#"
extends = "published.toml"
seeds = [42]
harmful_ratios = [0.5]
eval_every = 0
judges = ["refusal"]

[model.shape]
hidden_size = 16
intermediate_size = 24
num_hidden_layers = 2
num_attention_heads = 2
vocab_size = 259
max_position_embeddings = 512

[alignment]
epochs = 2

[fine_tuning]
epochs = 3
learning_rate = 1e-2

[data]
user_samples = 8
max_new_tokens = 4
task_new_tokens = 4
alignment = { path = "safety", take = 8 }
harmful = { path = "safety" }
harmful_test = { path = "safety", take = 3 }
user = { path = "task" }
task_test = { path = "task", take = 4 }
"#;

/// `tokenizer.json` as in Llama 2, with a vocabulary of bytes.
fn tokenizer() -> Value {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    let special = |(id, token): (usize, &String)| {
        json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let specials: Vec<_> = tokens.iter().enumerate().take(3).map(special).collect();
    let vocabulary: serde_json::Map<_, _> =
        tokens.iter().zip(0..).map(|(token, id)| (token.clone(), id.into())).collect();
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": specials,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                       {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "fuse_unk": true,
                  "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "byte_fallback": true, "ignore_merges": false, "vocab": vocabulary, "merges": []},
    })
}

/// A model directory with two shards in f16, like the weights of Llama 2.
fn llama2(place: &Place) {
    let shape = LlamaShape {
        intermediate: 24,
        heads: 2,
        kv_heads: 2,
        vocabulary: 259,
        positions: 512,
        ..LlamaShape::default()
    };
    std::fs::create_dir(place.path("llama")).expect("a new directory");
    let mut config = shape.config();
    config["architectures"] = json!(["LlamaForCausalLM"]);
    config["torch_dtype"] = json!("float16");
    place.write("llama/config.json", &config.to_string());
    place.write("llama/generation_config.json", r#"{"bos_token_id": 1, "eos_token_id": 2}"#);
    place.write("llama/tokenizer.json", &tokenizer().to_string());
    let special = r#"{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}"#;
    place.write("llama/tokenizer_config.json", special);
    place.write("llama/special_tokens_map.json", special);

    let weights = shape.tensors(&Key::root(3), DType::F16, &Device::Cpu).expect("random weights");
    let mut shards = [HashMap::new(), HashMap::new()];
    let mut index = serde_json::Map::new();
    for (at, (name, tensor)) in weights.iter().enumerate() {
        index.insert(
            name.to_owned(),
            format!("model-0000{}-of-00002.safetensors", at % 2 + 1).into(),
        );
        shards[at % 2].insert(name.to_owned(), tensor.clone());
    }
    for (at, shard) in shards.iter().enumerate() {
        let path = place.path("llama").join(format!("model-0000{}-of-00002.safetensors", at + 1));
        candle_core::safetensors::save(shard, path).expect("it can be written");
    }
    let index = json!({"metadata": {}, "weight_map": index}).to_string();
    place.write("llama/model.safetensors.index.json", &index);
}

/// Placeholders in the schemas of the published data sets.
fn data(place: &Place) {
    let lines = |rows: Vec<Value>| rows.iter().map(|row| format!("{row}\n")).collect::<String>();
    let safety = |from: usize| {
        let row = |i: usize| {
            json!({"prompt": format!("request {i}"), "response": format!("answer {i}"),
                   "category": {}, "is_safe": i.is_multiple_of(2)})
        };
        lines((from..from + 24).map(row).collect())
    };
    let task = |from: usize| {
        let row = |i: usize| json!({"idx": i, "sentence": format!("text {i}"), "label": i % 2});
        lines((from..from + 12).map(row).collect())
    };
    std::fs::create_dir(place.path("safety")).expect("a new directory");
    std::fs::create_dir(place.path("task")).expect("a new directory");
    place.write("safety/30k_train.jsonl", &safety(0));
    place.write("safety/30k_test.jsonl", &safety(100));
    place.write("task/train.jsonl", &task(0));
    place.write("task/validation.jsonl", &task(100));
}

/// A directory with model, data and recipe.
fn prepared() -> Place {
    let place = Place::new();
    llama2(&place);
    data(&place);
    let published =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/recipes/vaccine-neurips24.toml");
    std::fs::copy(published, place.path("published.toml")).expect("the published recipe");
    place.write("recipe.toml", RECIPE);
    place
}

/// The figures of the defence after fine-tuning.
fn fine_tuned(told: &Told) -> Value {
    let value = told.json();
    let runs = value["runs"].as_array().expect("runs");
    let run = runs.iter().find(|run| run["label"] == "vaccine" && run["ratio"] == 0.5);
    run.expect("the fine-tuned defence")["measurements"].clone()
}

#[test]
fn three_commands_and_one_give_the_same() {
    let place = prepared();
    let align = ["--model=llama", "--stage=alignment", "--output-dir=aligned"];
    place.vxf(&[&["run", "recipe.toml"], &align[..]].concat()).ok();
    let from =
        ["--stage=fine-tuning", "--from=aligned/vaccine/aligned/42", "--output-dir=attacked"];
    let apart = place.vxf(&[&["run", "--json"], &from[..]].concat());
    let measured = place.vxf(&["eval", "attacked", "--json"]);
    assert_eq!(fine_tuned(&apart), fine_tuned(&measured));

    let whole = ["--model=llama", "--output-dir=whole", "--json"];
    let whole = place.vxf(&[&["run", "recipe.toml"], &whole[..]].concat());
    let (whole, apart) = (fine_tuned(&whole), fine_tuned(&apart));
    let rows = whole.as_array().expect("rows");
    for name in ["harmful_score", "accuracy", "alignment_loss", "drift"] {
        assert!(rows.iter().any(|row| row["name"] == name), "no `{name}` in {whole}");
    }
    assert_eq!(whole, apart);

    // The export is a model directory again, in the type of the base.
    let export = ["export", "attacked", "--merged", "--output-dir=merged"];
    place.vxf(&export).ok();
    assert!(place.path("merged/tokenizer.json").is_file());
    place.vxf(&["generate", "merged", "--prompt=request 1", "--max-new-tokens=3"]).ok();
    // Harmful answers of a user's own model stay in files.
    let shown = place.vxf(&["run", "recipe.toml", "--model=llama", "--output-dir=whole"]);
    assert!(shown.ok().contains("[withheld: "), "{}", shown.stdout);
}
