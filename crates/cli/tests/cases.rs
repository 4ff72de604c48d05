//! Inputs that other tools, or earlier versions of this program, misread.
//!
//! Each case is a directory of `tests/cases`, with what is peculiar to it; the rest of a model is
//! `tests/cases/model`. Losses were computed by transformers 5.24 and PEFT 0.21.

mod common;

use std::path::Path;

use common::{Place, Told};

/// A copy of the case, in which each of `models` also has the files of the common model.
fn case(name: &str, models: &[&str]) -> Place {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases");
    let place = Place::new();
    for model in models {
        copy(&all.join("model"), &place.path(model));
    }
    if all.join(name).exists() {
        copy(&all.join(name), &place.path(""));
    }
    place
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a case") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => std::fs::copy(&path, &target).map(drop).expect("a copy"),
        }
    }
}

fn remove(place: &Place, files: &[&str]) {
    for file in files {
        std::fs::remove_file(place.path(file)).expect("it was there");
    }
}

fn generate(place: &Place, model: &str) -> Told {
    place.vxf(&["generate", model, "--template", "plain", "-p", "hi", "--max-new-tokens", "2"])
}

/// Checks the loss on the samples of a case, and over how many tokens it is the mean.
#[track_caller]
fn loss(name: &str, models: &[&str], expected: f64, tokens: u64) -> Told {
    let place = case(name, models);
    let told = place.vxf(&[
        "eval",
        "model",
        "--recipe",
        "recipe.toml",
        "--metric",
        "alignment-loss",
        "--json",
    ]);
    let json = told.json();
    let row = &json["measurements"][0];
    let found = row["value"].as_f64().unwrap_or_else(|| panic!("no value in {json}"));
    // Recorded to six decimals, computed in f32.
    assert!((found - expected).abs() < 5e-6, "{name}: {found}, expected {expected}");
    assert_eq!(row["details"]["tokens"], tokens, "{name}");
    told
}

#[test]
fn models_that_are_written_in_other_ways_have_the_loss_of_transformers() {
    loss("qwen2_vocab_and_merges", &[], 6.842014, 36);
    let told = loss("tied_with_two_matrices", &["model"], 6.909885, 48);
    assert!(told.stderr.contains("differ; both are used"), "{}", told.stderr);
    loss("tied_under_the_other_name", &["model"], 6.288971, 48);
    loss("added_tokens_decoder", &["model"], 6.924960, 48);
    loss("mistral_layer_types", &["model"], 7.564657, 48);
}

#[test]
fn adapters_with_options_have_the_loss_of_peft() {
    loss("adapter_with_embeddings", &["model"], 7.240207, 48);
    loss("adapter_rank_pattern", &["model"], 6.877458, 48);
    loss("adapter_alpha_pattern", &["model"], 7.164785, 48);
    loss("adapter_dora", &["model"], 6.976012, 48);
    loss("adapter_modules_to_save", &["model"], 6.976013, 48);
    loss("adapter_on_the_head", &["model"], 7.437534, 48);
    loss("adapter_bias", &["model"], 6.976013, 48);
}

#[test]
fn an_input_that_the_first_row_lacks_is_read() {
    let place = case("first_row_lacks_input", &["model"]);
    let told = place.vxf(&[
        "eval",
        "model",
        "--recipe",
        "recipe.toml",
        "--metric",
        "harmful-score",
        "--generations",
        "out.jsonl",
    ]);
    told.ok();
    let answers = std::fs::read_to_string(place.path("out.jsonl")).expect("answers");
    assert!(answers.contains("Translate the sentence.\\n\\nGood morning."), "{answers}");
}

#[test]
fn the_adapter_of_an_adapted_base_is_exported_with_it() {
    let place = case("adapter_of_an_adapted_base", &["model"]);
    place.vxf(&["run", "recipe.toml", "--output-dir", "out"]).ok();
    place.vxf(&["export", "out/sft/aligned/1", "--adapter", "--output-dir", "adapters"]).ok();
    for name in ["base", "alignment"] {
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            assert!(place.path("adapters").join(name).join(file).exists(), "{name}/{file}");
        }
    }
}

#[test]
fn names_of_peft_are_accepted_in_recipes() {
    case("lora_aliases", &["model"]).vxf(&["validate", "recipe.toml"]).ok();
}

#[test]
fn a_row_that_the_template_refuses_is_named_and_can_be_skipped() {
    let place = case("template_refuses_a_row", &["model"]);
    let told = place.vxf(&["validate", "recipe.toml"]);
    told.fails(1, &["rows.jsonl:3", "roles must alternate"]);
    let told = place.vxf(&["validate", "recipe.toml", "--skip-bad-rows"]);
    assert!(told.ok().contains("1 rows were invalid and left out"), "{}", told.stdout);
}

#[test]
fn a_penalty_on_repetition_is_applied() {
    let place = case("repetition_penalty", &["model"]);
    let args =
        ["generate", "model", "--template", "chat", "-p", "hello there", "--max-new-tokens", "16"];
    let told = place.vxf(&args);
    let answer = told.ok().trim_end_matches('\n');
    // As transformers' `generate` answers, which reads generation_config.json; a terminal gets no control
    // characters.
    let expected = "espons\u{fffd}\u{16}\u{b}Q\u{fffd}K\u{fffd}r\u{5}\u{fffd}1owp\u{1}";
    let expected = expected.replace(char::is_control, "\u{fffd}");
    assert!(answer.contains(&expected), "{answer:?}");
}

#[test]
fn tensors_that_nothing_uses_are_reported() {
    let told = generate(&case("unused_tensors", &["model"]), "model");
    told.ok();
    assert!(told.stderr.contains("warning") && told.stderr.contains("used"), "{}", told.stderr);
}

#[test]
fn pointers_of_git_lfs_are_named() {
    let place = case("git_lfs", &["model", "model2", "model3"]);
    for told in [
        generate(&place, "model"),
        generate(&place, "model2"),
        place.vxf(&["validate", "recipe.toml"]),
        place.vxf(&["validate", "recipe2.toml"]),
    ] {
        told.fails(1, &["Git LFS pointer", "git lfs pull"]);
    }
}

#[test]
fn directories_with_other_weight_files_say_what_they_hold() {
    let models = ["gguf", "noindex", "consolidated", "config_and_adapter"];
    let place = case("other_weight_files", &models);
    remove(
        &place,
        &models.map(|model| format!("{model}/model.safetensors")).each_ref().map(String::as_str),
    );
    for (model, code, parts) in [
        ("gguf", 1, ["model-Q4_K_M.gguf", "GGUF"]),
        ("noindex", 1, ["model-00001-of-00002.safetensors", "index"]),
        ("consolidated", 1, ["consolidated.safetensors", "convert"]),
        // It names a base that is not there.
        ("config_and_adapter", 2, ["an adapter", "`--base`"]),
    ] {
        generate(&place, model).fails(code, &parts);
    }
}

#[test]
fn prefixes_before_names_are_shown_or_understood() {
    let place = case("prefixes", &["orig_mod", "base_model_model"]);
    for (model, prefix) in [("orig_mod", "_orig_mod."), ("base_model_model", "base_model.model.")] {
        let told = generate(&place, model);
        assert!(told.stderr.contains(prefix), "{}", told.stderr);
    }
}

#[test]
fn accumulation_does_not_cross_epochs() {
    let place = case("accumulation", &["model"]);
    place.vxf(&["run", "recipe.toml", "--output-dir", "out"]).ok();
    let log =
        std::fs::read_to_string(place.path("out/sft/aligned/1/metrics.jsonl")).expect("a log");
    // Five batches by twos: three steps in each of two epochs.
    assert_eq!(log.lines().filter(|line| line.contains("\"kind\":\"step\"")).count(), 6);
}

#[test]
fn csv_is_read() {
    let told = case("csv", &["model"]).vxf(&["validate", "recipe.toml"]);
    assert!(told.ok().contains("goals.csv"), "{}", told.stdout);
}

#[test]
fn a_directory_of_save_to_disk_says_how_to_convert_it() {
    let told = case("save_to_disk", &["model"]).vxf(&["validate", "recipe.toml"]);
    told.fails(1, &["save_to_disk", "load_from_disk", "to_json"]);
}

#[test]
fn conversations_are_read_in_every_spelling_or_refused_by_name() {
    let place = case("conversations", &["model"]);
    for name in ["capitals", "role_content", "from_value", "text", "singular"] {
        let told = place.vxf(&["validate", &format!("{name}.toml")]);
        // No row is left out.
        assert!(!told.ok().contains("invalid and left out"), "{name}: {}", told.stdout);
    }
    let told = place.vxf(&["validate", "tool.toml"]);
    told.fails(1, &["tool.jsonl:1", "function_call", "tools are not supported"]);
    let told = place.vxf(&["validate", "tool_calls.toml"]);
    told.fails(1, &["tool_calls.jsonl:1", "`tool_calls`", "not supported"]);
}

#[test]
fn broken_text_is_named_with_a_remedy() {
    let place = case("broken_text", &["model"]);
    for (name, parts) in [
        ("utf16", ["UTF-16", "save it as UTF-8"]),
        ("nan", ["NaN and Infinity are not JSON", "write null"]),
        ("pretty", ["over several lines", "one object in each line"]),
        ("surrogate", ["half of a surrogate pair", "write the whole pair"]),
    ] {
        place.vxf(&["validate", &format!("{name}.toml")]).fails(1, &parts);
    }
}

#[test]
fn a_token_beyond_the_vocabulary_matters_where_it_is_used() {
    let place = case("token_beyond_vocabulary", &["model"]);
    generate(&place, "model").ok();
    let told = place.vxf(&[
        "generate",
        "model",
        "--template",
        "plain",
        "-p",
        "hi [PAD]",
        "--max-new-tokens",
        "2",
    ]);
    assert_ne!(told.code, 0, "{told:?}");
    assert!(told.stderr.contains("resize_token_embeddings"), "{}", told.stderr);
}

#[test]
fn a_metric_without_samples_fails_and_one_that_has_some_is_measured() {
    let place = case("metric_without_samples", &["model"]);
    let told = place.vxf(&["eval", "model", "--recipe", "recipe.toml", "--metric", "perplexity"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.stderr.contains("`fluency` samples"), "{}", told.stderr);
    let told =
        place.vxf(&["eval", "model", "--recipe", "recipe2.toml", "--metric", "alignment-loss"]);
    assert!(told.ok().contains("alignment_loss"), "{}", told.stdout);
}

#[test]
fn rotations_and_activations_are_accepted() {
    let models = ["yarn", "dynamic", "longrope", "gelu", "attention_dropout"];
    let place = case("rope_and_activations", &models);
    for model in &models[1..] {
        let weights = place.path(model).join("model.safetensors");
        std::fs::copy(place.path("yarn/model.safetensors"), weights).expect("a copy");
    }
    for model in models {
        generate(&place, model).ok();
    }
}

#[test]
fn a_null_first_row_is_a_bad_row() {
    let place = case("null_first_row", &["model"]);
    let told = place.vxf(&["validate", "recipe.toml", "--skip-bad-rows"]);
    assert!(told.ok().contains("alignment: 1 rows were invalid and left out"), "{}", told.stdout);
}
