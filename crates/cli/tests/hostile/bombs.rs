//! Files made to use up memory or time, of kinds that random changes do not find.

use std::path::Path;

use candle_core::{DType, Device};
use serde_json::json;
use vxf_data::TemplateChoice::{Alpaca, Chat};
use vxf_data::{Ask, Codec, Sample};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::peft;

use crate::common::Place;
use crate::driver::quieten;
use crate::formats::shown;
use crate::meter::metered;

/// Memory that rejecting a file may take, beyond twice its size.
const MEMORY: usize = 64 << 20;

/// Reads `file`, which must be rejected cheaply, with `says` in the message. There is no time limit:
/// without a bound, each of these files would take hours.
#[track_caller]
fn refused(file: &Path, says: &str, read: impl FnOnce() -> Result<(), String>) {
    let length = std::fs::metadata(file).map_or(0, |it| if it.is_file() { it.len() } else { 0 });
    quieten();
    let (told, usage) = metered(read);
    let error = told.expect_err("refused");
    let name = file.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(error.contains(&name) && error.contains(says), "{error}");
    assert!(usage.peak < 2 * length as usize + MEMORY, "{name}: {usage:?}");
}

fn open(place: &Path) -> Result<(), String> {
    Checkpoint::open(place).map(drop).map_err(shown)
}

#[test]
fn headers_that_claim_more_than_there_is() {
    let place = Place::new();
    let model = place.llama("model", u64::MAX);
    let file = model.join("model.safetensors");
    let write = |claim: u64, rest: &[u8]| {
        std::fs::write(&file, [&claim.to_le_bytes()[..], rest].concat()).expect("written");
    };
    for claim in [u64::MAX, 1 << 40, 100_000_000, 3] {
        write(claim, b"{}");
        refused(&file, &format!("claims {claim} bytes, but 2 follow"), || open(&model));
    }
    std::fs::write(&file, b"abc").expect("written");
    refused(&file, "3 bytes", || open(&model));
    // A complete header that is too long, and a short one full of numbers.
    write(40 << 20, &vec![b' '; 40 << 20]);
    refused(&file, "above the limit of 16 MiB", || open(&model));
    let numbers = format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":[{}1],", "1,".repeat(3 << 20));
    write(numbers.len() as u64, numbers.as_bytes());
    refused(&file, "too many values", || open(&model));
    // Shapes whose product overflows, or exceeds the file.
    for (shape, offsets) in
        [("4294967296,4294967296,4294967296", "0,4"), ("1000000,1000000", "0,4000000000000")]
    {
        let header = format!(
            "{{\"model.norm.weight\":{{\"dtype\":\"F32\",\"shape\":[{shape}],\"data_offsets\":[{offsets}]}}}}"
        );
        write(header.len() as u64, &[header.as_bytes(), &[0; 4]].concat());
        refused(&file, "not a complete safetensors file", || open(&model));
    }
}

#[test]
fn configurations_of_huge_size() {
    let place = Place::new();
    let model = place.llama("model", u64::MAX);
    let config = model.join("config.json");
    let good = std::fs::read(&config).expect("a configuration");
    std::fs::write(&config, " ".repeat(20 << 20)).expect("written");
    refused(&config, "longer than 16 MiB", || open(&model));
    std::fs::write(&config, format!("[{}0]", "0,".repeat(4 << 20))).expect("written");
    refused(&config, "values", || open(&model));
    std::fs::write(&config, "[".repeat(1 << 20)).expect("written");
    refused(&config, "recursion limit", || open(&model));
    std::fs::write(&config, good).expect("written");
    place.edit(&config, |config| {
        config["num_attention_heads"] = 4_294_967_295_u64.into();
        config["num_key_value_heads"] = 4_294_967_295_u64.into();
        config["head_dim"] = 4_294_967_294_u64.into();
    });
    refused(&config, "`head_dim`", || {
        Checkpoint::open(&model).and_then(|it| it.outline()).map(drop).map_err(shown)
    });
}

/// An archive with this pickle.
fn pickled(place: &Path, pickle: &[u8]) {
    use std::io::Write;
    let file = std::fs::File::create(place.join("adapter_model.bin")).expect("a file");
    let mut archive = zip::ZipWriter::new(file);
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    archive.start_file("archive/data.pkl", stored).expect("a part");
    archive.write_all(pickle).expect("written");
    archive.finish().expect("written");
}

#[test]
fn pickles_run_no_code_and_copies_are_bounded() {
    let place = Place::new();
    place.write("adapter_config.json", r#"{"peft_type":"LORA","r":2,"lora_alpha":1}"#);
    let directory = place.path("");
    let file = place.path("adapter_model.bin");
    let read = || peft::read(&directory, DType::F32, &Device::Cpu).map(drop).map_err(shown);

    // A command that the real unpickler would execute: it creates a file.
    let mark = place.path("it-ran");
    let command = format!("touch {}", mark.display());
    let mut call = b"\x80\x02cos\nsystem\nX".to_vec();
    call.extend((command.len() as u32).to_le_bytes());
    call.extend(command.as_bytes());
    call.extend(b"\x85R.");
    pickled(&directory, &call);
    refused(&file, "holds no tensors", read);
    assert!(!mark.exists(), "a pickle ran a command");

    let mut bomb = b"\x80\x02K\x01q\0".to_vec();
    (0..60).for_each(|name| bomb.extend([b'h', name, b'h', name, 0x86, b'q', name + 1]));
    bomb.push(b'.');
    pickled(&directory, &bomb);
    refused(&file, "copies too many", read);
    pickled(&directory, &[b"N".to_vec(), vec![0x85; 500_000], b".".to_vec()].concat());
    refused(&file, "nested deeper", read);
    pickled(&directory, b"X\xff\xff\xff\xff.");
    refused(&file, "broken", read);
}

#[test]
fn tokenizers_that_multiply_a_text() {
    let place = Place::new();
    let model = place.llama("model", u64::MAX);
    let file = model.join("tokenizer.json");
    let good = std::fs::read(&file).expect("a tokenizer");
    let double = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
    let encode = |answer: &str| {
        let codec = Codec::open(&model, Alpaca).map_err(shown)?;
        let sample = Sample { ask: Ask::instruction("aaaa"), answer: answer.into() };
        codec.encode(&sample, 100).map(drop).map_err(shown)
    };
    let read = || encode("aaaa");
    place.edit(&file, |tokenizer| {
        tokenizer["normalizer"] = json!({ "type": "Sequence", "normalizers": vec![double; 60] });
    });
    refused(&file, "4096 times longer", read);
    // A piece so long that the reader could not let go of it.
    std::fs::write(&file, &good).expect("written");
    place.edit(&file, |tokenizer| {
        tokenizer["model"] = json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": false,
            "vocab": [["<unk>", 0.0], ["[".repeat(40_000), -1.0]] });
    });
    refused(&file, "an entry of 40000 characters", read);
    // A pattern that takes for ever on a long text that nearly fits is given up.
    std::fs::write(&file, &good).expect("written");
    place.edit(&file, |tokenizer| {
        tokenizer["pre_tokenizer"] = json!({ "type": "Split",
            "pattern": { "Regex": "(?:(?=a)a+)+b" }, "behavior": "Isolated", "invert": false });
    });
    read().expect("short enough");
    let (told, usage) = metered(|| encode(&"a".repeat(200)));
    assert!(usage.peak < MEMORY, "{usage:?}");
    told.expect("the library gives up the pattern and keeps the text");
}

#[test]
fn templates_that_never_end() {
    let place = Place::new();
    let model = place.llama("model", u64::MAX);
    let file = model.join("chat_template.jinja");
    let loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let writes = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
    let nests = "{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}";
    let read = || {
        let codec = Codec::open(&model, Chat).map_err(shown)?;
        codec.prompt(&Ask::instruction("placeholder")).map(drop).map_err(shown)
    };
    for (template, says) in
        [(loops, "does it loop?"), (writes, "writes more"), (nests, "recursion")]
    {
        std::fs::write(&file, template).expect("written");
        refused(&file, says, read);
    }
}

/// Lists that contain one list many times: as text, or compared, they have their full size.
#[test]
fn templates_that_share_what_they_multiply() {
    let place = Place::new();
    let model = place.llama("model", u64::MAX);
    let file = model.join("chat_template.jinja");
    let read = || {
        let codec = Codec::open(&model, Chat).map_err(shown)?;
        codec.prompt(&Ask::instruction("placeholder")).map(drop).map_err(shown)
    };
    for sharing in [
        "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x ~ '' }}",
        "{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}{{ ns.x | upper }}",
        "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
    ] {
        let start = "{% set ns = namespace(x=[1], y=[1]) %}{% for a in range(60) %}";
        std::fs::write(&file, format!("{start}{sharing}")).expect("written");
        refused(&file, "takes more than", read);
    }
    // A line with more columns than the engine can count.
    let wide = format!("{{{{{}?", " ".repeat(70_000));
    std::fs::write(&file, wide).expect("written");
    refused(&file, "", read);
    let told = place.vxf(&["generate", "model", "--template", "chat", "--prompt", "x"]);
    told.fails(1, &["model/chat_template.jinja"]);
    // Nested so deeply that freeing it would overflow the stack.
    let deep = "{% set ns = namespace(x=[1]) %}{% for a in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}";
    std::fs::write(&file, deep).expect("written");
    refused(&file, "nested more than", read);
    // The program reports it like any other error and exits.
    let told = place.vxf(&["generate", "model", "--template", "chat", "--prompt", "x"]);
    told.fails(1, &["model/chat_template.jinja", "nested more than"]);
}

#[test]
fn recipes_of_huge_depth_or_length() {
    let place = Place::new();
    let recipe = place.path("recipe.toml");
    let read = || vxf_recipe::file::read(&recipe).map(drop).map_err(shown);
    for (text, says) in [
        (format!("a = {}1", "[".repeat(200_000)), "recipe.toml:1"),
        (format!("{}a = 1", "a.".repeat(200_000)), "recipe.toml:1"),
        (format!("[{}a]\n", "a.".repeat(200_000)), "recipe.toml:1"),
        ("# comment\n".repeat(200_000), "longer than 1 MiB"),
    ] {
        place.write("recipe.toml", &text);
        refused(&recipe, says, read);
    }
    #[cfg(unix)]
    refused(Path::new("/dev/zero"), "longer than 1 MiB", || {
        vxf_recipe::file::read(Path::new("/dev/zero")).map(drop).map_err(shown)
    });
}
