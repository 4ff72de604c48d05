//! A user's own models and data: errors name the file, and no files are left behind.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use common::{Place, RECIPE, Told};
use serde_json::{Value, json};

/// A directory with model, data and recipe.
fn place() -> Place {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    place
}

fn run(place: &Place, more: &[&str]) -> Told {
    place.vxf(&[&["run", "recipe.toml", "--output-dir", "out"], more].concat())
}

/// Runs the recipe, which must fail with these parts in the message and leave no files.
#[track_caller]
fn refused(place: &Place, code: i32, parts: &[&str]) {
    let before = place.names();
    run(place, &[]).fails(code, parts);
    assert_eq!(place.names(), before, "nothing is written");
}

#[test]
fn one_bad_line_among_thousands_is_named_or_counted() {
    let place = place();
    let good = std::fs::read_to_string(place.path("beavertails/30k/train.jsonl")).expect("rows");
    let mut lines: Vec<_> = good.lines().map(str::to_owned).collect();
    let row = |row: usize| json!({ "prompt": format!("placeholder {row}"), "response": "x", "is_safe": false });
    lines.extend((0..3000).map(|number| row(number).to_string()));
    lines.insert(2345, r#"{"prompt": "placeholder", "response": "#.to_owned());
    place.write("beavertails/30k/train.jsonl", &lines.join("\n"));
    let named = ["data.harmful", "30k/train.jsonl:2346", "not JSON", "skip_bad_rows"];
    refused(&place, 1, &named);

    let told = run(&place, &["--skip-bad-rows", "--json"]);
    assert!(told.stderr.contains("harmful: 1 rows were invalid"), "{}", told.stderr);
    told.ok();
    let manifest = std::fs::read_to_string(place.path("out/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    let sets = manifest["report"]["sets"].as_array().expect("sets");
    let of = |name: &str| sets.iter().find(|set| set["name"] == name).expect("the set");
    assert_eq!(of("harmful")["bad_rows"], 1);
    let place_of_bad = of("harmful")["bad"][0]["place"].as_str().expect("a place");
    assert!(place_of_bad.ends_with("30k/train.jsonl:2346"), "{place_of_bad}");
    // 2 harmful samples of 10, and 2 of the guide.
    assert_eq!(of("user at p = 0.2")["samples"], 12);
    assert!(of("user at p = 0.2")["lengths"]["labelled"].as_u64() > Some(0));
}

/// A defence that trains on the attack's own samples is told, and with `--strict` nothing is trained.
#[test]
fn a_defence_that_has_seen_the_attack_is_told() {
    let place = place();
    let seen =
        "data.simulated={path=\"beavertails\",split=\"30k_train\",filter={is_safe=false},take=5}";
    let args = ["--set", seen];
    let before = place.names();
    let strict = run(&place, &[&args[..], &["--strict"]].concat());
    strict.fails(1, &["questions of harmful also occur in simulated (5 samples)", "--strict"]);
    assert_eq!(place.names(), before, "nothing is written");
    let told = run(&place, &args);
    told.ok();
    assert!(told.stderr.contains("has seen part of the attack"), "{}", told.stderr);
}

#[test]
fn invalid_data_settings_list_the_valid_ones() {
    let place = place();
    let train = place.path("sst2/train.jsonl");
    let rows = std::fs::read_to_string(&train).expect("rows");
    let all = |place: &Place, file: &str, text: &str, parts: &[&str]| {
        place.write(file, text);
        refused(place, 1, parts);
    };
    // A truncated document, an empty file, columns without a schema.
    all(&place, "sst2/train.jsonl", "", &["data.user", "train.jsonl", "empty"]);
    all(&place, "sst2/train.jsonl", "{\"a\": 1}\n", &["data.user", "`sentence`", "columns are a"]);
    all(&place, "sst2/train.jsonl", "[1]", &["data.user", "train.jsonl:1", "an object"]);
    place.write("sst2/train.jsonl", &rows);
    std::fs::rename(&train, place.path("sst2/train.parquet")).expect("a new name");
    refused(&place, 1, &["data.user", "train.parquet", "Parquet"]);
    std::fs::rename(place.path("sst2/train.parquet"), place.path("sst2/train.json"))
        .expect("a new name");
    place.write("sst2/train.json", &format!("[{}", rows.lines().next().expect("a row")));
    refused(&place, 1, &["data.user", "train.json", "is it complete?"]);
    place.write("sst2/train.jsonl", &rows);
    std::fs::remove_file(place.path("sst2/train.json")).expect("it was there");

    for (from, to, code, parts) in [
        ("30k_train", "31k_train", 1, &["data.alignment", "`31k_train`", "test, train"][..]),
        ("take = 8", "take = 80", 1, &["data.alignment", "80", "at_most"]),
        ("is_safe = true", "is_safe = 1", 1, &["data.alignment", "`is_safe`", "true"]),
        ("is_safe = true", "safe = true", 1, &["data.alignment", "`safe`", "is_safe"]),
        ("user_samples = 10", "user_samples = 30", 1, &["data.user", "24", "20"]),
        ("\"sst2\", split = \"train\"", "\"nowhere\"", 2, &["data.user", "/nowhere"]),
        ("schema = \"sst2\"", "schema = \"sst\"", 2, &["recipe.toml", "no schema `sst`", "sst2"]),
        (
            "max_length = 320",
            "max_length = 20",
            2,
            &["prompt only", "20 tokens", "data.max_length"],
        ),
        (
            "template = \"alpaca\"",
            "template = \"chat\"",
            1,
            &["model", "chat_template", "`alpaca`"],
        ),
        (
            "rank = 2,",
            "rank = 2, target_modules = [\"none\"],",
            2,
            &["alignment.trainable.target_modules", "q_proj"],
        ),
        ("alignment = {", "simulated = {", 2, &["`data.alignment`", "alignment stage"]),
    ] {
        place.write("recipe.toml", &RECIPE.replacen(from, to, 1));
        refused(&place, code, parts);
    }
}

/// What the card of a data set says is used, refused or told.
#[test]
fn a_card_that_says_how_to_read_is_heeded() {
    let place = place();
    let card = |config: &str, names: &str| {
        let text = format!(
            "---\ndataset_info:\n  features:\n  - name: label\n    dtype: {{class_label: {{names: \
             {names}}}}}\nconfigs:\n- config_name: default\n  data_files: {{train: train.jsonl, validation: validation.jsonl}}\n  {config}\n---\n"
        );
        place.write("sst2/README.md", &text);
    };
    card("skiprows: 1", "[negative, positive]");
    refused(
        &place,
        1,
        &["data.user", "README.md, configuration `default`", "`skiprows`", "path ="],
    );
    card("version: 1.0.0", "[sad, glad]");
    refused(&place, 1, &["data.user", "README.md", "`label` sad, glad", "negative, positive"]);
    card("new_thing: 5", "[negative, positive]");
    let told = place.vxf(&["validate", "recipe.toml"]);
    let remark = "user: README.md, configuration `default`: `new_thing` is unknown and not used";
    assert!(told.ok().contains(remark) || told.stderr.contains(remark), "{told:?}");
    let args = ["eval", "model", "--recipe", "recipe.toml", "--metric", "alignment-loss"];
    let told = place.vxf(&args);
    told.ok();
    assert!(told.stderr.contains(remark), "{}", told.stderr);
}

#[test]
fn damaged_models_are_reported_before_anything_is_written() {
    let place = place();
    let model = place.path("model");
    let fresh = |shard_bytes: u64| {
        std::fs::remove_dir_all(&model).expect("it was there");
        place.llama("model", shard_bytes);
    };

    // Shards: one missing, and an index with a path outside of the directory.
    fresh(8_000);
    let index = model.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).expect("an index");
    let shards: Value = serde_json::from_str(&text).expect("JSON");
    let shard = shards["weight_map"]["model.norm.weight"].as_str().expect("a file").to_owned();
    std::fs::write(&index, text.replace(&shard, "../elsewhere.safetensors")).expect("an index");
    refused(&place, 1, &["index.json", "../elsewhere.safetensors", "of this directory"]);
    std::fs::write(&index, &text).expect("an index");
    std::fs::remove_file(model.join(&shard)).expect("it was there");
    refused(&place, 1, &[&shard, "is missing", "index.json"]);

    // A weight that is NaN, and one of a wrong type. The last eight bytes are one f64.
    fresh(u64::MAX);
    let weights = model.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).expect("weights");
    let end = bytes.len() - 8;
    bytes[end..].copy_from_slice(&f64::NAN.to_le_bytes());
    std::fs::write(&weights, &bytes).expect("weights");
    refused(&place, 1, &["tensor `", "NaN", "finite"]);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header = String::from_utf8(bytes[8..8 + length].to_vec()).expect("a header");
    bytes[8..8 + length].copy_from_slice(header.replace("\"F64\"", "\"I64\"").as_bytes());
    std::fs::write(&weights, &bytes).expect("weights");
    refused(&place, 1, &["tensor `", "I64", "F32, F16, BF16"]);

    // A pickle that is none.
    std::fs::remove_file(&weights).expect("it was there");
    std::fs::write(model.join("pytorch_model.bin"), &bytes).expect("weights");
    refused(&place, 1, &["pytorch_model.bin", "without running code", "safetensors"]);

    // Tokenizers: only a SentencePiece model, and one of another size.
    fresh(u64::MAX);
    place.edit(&model.join("tokenizer.json"), |tokenizer| {
        tokenizer["model"]["vocab"]["a"] = 259.into();
    });
    refused(&place, 1, &["token `a` with id 259", "259 tokens", "resize_token_embeddings"]);
    std::fs::rename(model.join("tokenizer.json"), model.join("tokenizer.model")).expect("a name");
    refused(&place, 1, &["only tokenizer.model", "AutoTokenizer", "save_pretrained"]);

    // A chat template that does not end.
    fresh(u64::MAX);
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    place.write("model/chat_template.jinja", endless);
    place.write("recipe.toml", &RECIPE.replace("\"alpaca\"", "\"chat\""));
    refused(&place, 1, &["chat_template.jinja", "does it loop?"]);
}

/// A hub that answers every request with `status`; returns its address.
fn hub(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let lines = BufReader::new(&stream).lines();
            let ended = |line: &std::io::Result<String>| line.as_ref().is_ok_and(String::is_empty);
            lines.take_while(|line| !ended(line)).for_each(drop);
            let answer =
                format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).ok();
        }
    });
    format!("http://{address}")
}

#[test]
fn hub_ids_follow_the_environment_and_no_token_is_shown() {
    const TOKEN: &str = "hf_placeholder_of_a_token";
    let place = place();
    let before = place.names();
    let ask = |endpoint: &str, more: &[&str], offline: &str| -> Told {
        let args = ["run", "recipe.toml", "--model", "someone/something"];
        let mut command = place.command(&[&args[..], more].concat());
        command.env("HF_HOME", place.path("home")).env("HF_ENDPOINT", endpoint);
        command.env("HF_TOKEN", TOKEN).env("HF_HUB_OFFLINE", offline).env_remove("HF_HUB_CACHE");
        let told = Told::from(command.output().expect("it starts"));
        assert!(!told.stderr.contains(TOKEN), "{}", told.stderr);
        told
    };
    let gated = hub("401 Unauthorized\r\nX-Error-Code: GatedRepo");
    ask(&gated, &[], "").fails(1, &["someone/something", "gated", &gated]);
    let missing = hub("404 Not Found\r\nX-Error-Code: RepoNotFound");
    ask(&missing, &[], "").fails(1, &["there is no model someone/something", &missing]);
    // The hub is not asked when the network is forbidden.
    let nowhere = "http://127.0.0.1:1";
    ask(nowhere, &["--offline"], "").fails(1, &["not in the cache", "home", "--offline forbids"]);
    ask(nowhere, &[], "1").fails(1, &["not in the cache", "HF_HUB_OFFLINE forbids"]);
    assert_eq!(place.names(), before, "nothing is written");
}
