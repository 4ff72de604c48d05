//! The files of a model: configuration, weights, adapters, tokenizer, template.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use vxf_builtins as _;
use vxf_core::{Lora, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_hf::peft;
use vxf_testkit::checkpoint::LlamaShape;

use crate::common::Place;
use crate::driver::Format;
use crate::formats::{SMALL, shown};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Writes a tiny Llama with a byte tokenizer into `place`.
pub(crate) fn llama(place: &Path, shard_bytes: u64) {
    let made = Place::new();
    let from = made.llama("model", shard_bytes);
    for entry in std::fs::read_dir(from).expect("a model") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, place.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

pub(crate) fn specimen(place: &Path, file: &str) -> Vec<u8> {
    std::fs::read(place.join(file)).expect("a specimen")
}

/// Configurations of all families.
pub(crate) fn config(place: &Path) -> Format {
    llama(place, u64::MAX);
    let mut specimens = vec![specimen(place, "config.json")];
    for folder in ["tests/goldens", "tests/recordings"] {
        for entry in std::fs::read_dir(repository(folder)).expect("recordings") {
            let file = entry.expect("an entry").path().join("config.json");
            specimens.extend(std::fs::read(file).ok());
        }
    }
    assert!(specimens.len() > 8, "{}", specimens.len());
    Format {
        file: "config.json",
        specimens,
        words: &[
            "\"head_dim\":",
            "\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8.0,",
            "null",
            "\"sliding_window\":",
            "\"num_labels\":",
            "\"model_type\":\"opt\"",
            "\"tie_word_embeddings\":true,",
            "\"quantization_config\":{}",
            "\"eos_token_id\":[1,2]",
            "{",
            "}",
            "[",
            "]",
            ",",
            "true",
        ],
        read: Box::new(|place| {
            let checkpoint = Checkpoint::open(place).map_err(shown)?;
            let outline = checkpoint.outline().map_err(shown)?;
            outline.count();
            checkpoint.storage_dtype();
            let _ = outline.parameters(&Trainable::Lora(Lora::default()));
            // The weights belong to one model and rarely fit the configuration.
            let _ = load_backbone(&checkpoint, DType::F32, &Device::Cpu);
            Ok(())
        }),
        named: &["config.json", "`"],
        memory: 32 << 20,
    }
}

/// Indexes of sharded files.
pub(crate) fn index(place: &Path) -> Format {
    llama(place, 8_000);
    Format {
        file: "model.safetensors.index.json",
        specimens: vec![specimen(place, "model.safetensors.index.json")],
        words: &[
            "../",
            "/etc/passwd",
            "..\\\\",
            "\\u0000",
            ".",
            "/",
            "config.json",
            "tokenizer.json",
            "\"weight_map\":",
            "null",
            "{}",
            "model.safetensors.index.json",
            "model-00001-of-00003.safetensors",
        ],
        read: Box::new(|place| Checkpoint::open(place).map(drop).map_err(shown)),
        named: &["index.json", "safetensors"],
        memory: SMALL,
    }
}

/// A model so small that most of its file is the header.
fn smallest() -> LlamaShape {
    LlamaShape {
        hidden: 4,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        intermediate: 4,
        vocabulary: 5,
        ..LlamaShape::default()
    }
}

fn safetensors(tensors: impl Iterator<Item = (String, Tensor)>, place: &Path) -> Vec<u8> {
    let path = place.join("made.safetensors");
    candle_core::safetensors::save(&tensors.collect::<HashMap<_, _>>(), &path).expect("tensors");
    let bytes = std::fs::read(&path).expect("tensors");
    std::fs::remove_file(path).expect("it was there");
    bytes
}

const HEADER_WORDS: &[&str] = &[
    "\"dtype\":\"I64\"",
    "\"dtype\":\"F8_E4M3\"",
    "\"dtype\":\"BOOL\"",
    "\"shape\":[",
    "\"data_offsets\":[0,",
    "\"__metadata__\":{\"format\":\"pt\"},",
    "18446744073709551615",
    "-1",
    "{}",
    "[]",
    "null",
    "}",
    ",",
];

/// Weights as safetensors.
pub(crate) fn weights(place: &Path) -> Format {
    let shape = smallest();
    std::fs::write(place.join("config.json"), shape.config().to_string()).expect("written");
    let key = vxf_core::Key::root(1);
    let types = [DType::F32, DType::BF16, DType::F16, DType::F64];
    let specimens = types.map(|dtype| {
        let tensors = shape.tensors(&key, dtype, &Device::Cpu).expect("tensors");
        safetensors(tensors.into_iter(), place)
    });
    Format {
        file: "model.safetensors",
        specimens: specimens.to_vec(),
        words: HEADER_WORDS,
        read: Box::new(|place| {
            let checkpoint = Checkpoint::open(place).map_err(shown)?;
            load_backbone(&checkpoint, DType::F32, &Device::Cpu).map_err(shown)?;
            Ok(())
        }),
        // A tensor is named together with its model's directory.
        named: &["model.safetensors", "tensor `"],
        memory: SMALL,
    }
}

/// A pickle in a new archive each time, because a wrong checksum would hide its errors.
pub(crate) fn pickle(place: &Path) -> Format {
    let from = repository("tests/recordings/opt_plain/adapter_init");
    std::fs::copy(from.join("adapter_config.json"), place.join("adapter_config.json"))
        .expect("a copy");
    let bytes = std::fs::read(from.join("adapter_model.bin")).expect("an archive");
    let mut archive =
        zip::ZipArchive::new(std::io::Cursor::new(bytes.clone())).expect("an archive");
    let names: Vec<String> =
        archive.file_names().map(|name| name.expect("a name").into_owned()).collect();
    let mut parts: Vec<(String, Vec<u8>)> = Vec::new();
    for name in names {
        let mut content = Vec::new();
        std::io::copy(&mut archive.by_name(&name).expect("a part"), &mut content).expect("read");
        parts.push((name, content));
    }
    let at = parts.iter().position(|(name, _)| name.ends_with("data.pkl")).expect("a pickle");
    let (name, pickle) = parts.remove(at);
    Format {
        file: "data.pkl",
        specimens: vec![pickle],
        words: &[
            "cos\nsystem\n",
            "cbuiltins\neval\n",
            "X\u{4}\0\0\0true",
            "q\0",
            "h\0h\0\u{86}q\0",
            "(",
            "t",
            "R",
            "}",
            "]",
            "N",
            ".",
            "ctorch._utils\n_rebuild_tensor_v2\n",
            "K\u{1}",
            "J\u{7f}\u{7f}\u{7f}\u{7f}",
        ],
        read: Box::new(move |place| {
            let pickle = std::fs::read(place.join("data.pkl")).expect("a case");
            let file = std::fs::File::create(place.join("adapter_model.bin")).expect("a file");
            let mut archive = zip::ZipWriter::new(file);
            let stored = zip::write::SimpleFileOptions::default()
                .compression_method(zip::CompressionMethod::Stored);
            let pickled = [(name.clone(), pickle)];
            for (name, content) in pickled.iter().chain(&parts) {
                archive.start_file(name.as_str(), stored).expect("a part");
                archive.write_all(content).expect("written");
            }
            archive.finish().expect("written");
            peft::read(place, DType::F32, &Device::Cpu).map(drop).map_err(shown)
        }),
        named: &["adapter_model.bin", "adapter_config.json"],
        memory: 48 << 20,
    }
}

/// PEFT's settings.
pub(crate) fn adapter_config(place: &Path) -> Format {
    let from = repository("tests/recordings/opt_plain/adapter_init");
    for file in ["adapter_config.json", "adapter_model.bin"] {
        std::fs::copy(from.join(file), place.join(file)).expect("a copy");
    }
    Format {
        file: "adapter_config.json",
        specimens: vec![specimen(place, "adapter_config.json")],
        words: &[
            "\"r\":",
            "\"lora_alpha\":",
            "\"target_modules\":",
            "\"use_rslora\":true,",
            "\"bias\":\"all\",",
            "\"rank_pattern\":{\"a\":1},",
            "\"peft_type\":\"LORA\",",
            "null",
            "[]",
            "{}",
            "\"x\"",
            ",",
        ],
        read: Box::new(|place| {
            let (lora, weights) = peft::read(place, DType::F32, &Device::Cpu).map_err(shown)?;
            lora.scale();
            weights.names().for_each(|name| _ = lora.targets(name));
            Ok(())
        }),
        named: &["adapter_config.json", "adapter_model.bin", "`"],
        memory: SMALL,
    }
}

/// Adapters as safetensors.
pub(crate) fn adapter_weights(place: &Path) -> Format {
    let lora = Lora { rank: 2, target_modules: vec!["q_proj".into()], ..Lora::default() };
    let module = "model.layers.0.self_attn.q_proj";
    let tensor =
        |shape: (usize, usize)| Tensor::ones(shape, DType::F32, &Device::Cpu).expect("ones");
    let weights = [(Lora::a_of(module), tensor((2, 4))), (Lora::b_of(module), tensor((4, 2)))];
    peft::write(place, &lora, &weights.into_iter().collect(), None).expect("an adapter");
    Format {
        file: "adapter_model.safetensors",
        specimens: vec![specimen(place, "adapter_model.safetensors")],
        words: HEADER_WORDS,
        read: Box::new(|place| {
            peft::read(place, DType::F32, &Device::Cpu).map(drop).map_err(shown)
        }),
        named: &["adapter_model.safetensors"],
        memory: SMALL,
    }
}
