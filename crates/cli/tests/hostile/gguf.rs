//! GGUF files: header, configuration, tokenizer and weights.

use std::path::Path;

use candle_core::{DType, Device};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::{gguf as reader, load_backbone, load_directory};

use crate::driver::Format;
use crate::formats::shown;

/// Codes of the types of values.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const TEXT: u32 = 8;
const LIST: u32 = 9;
/// The alignment of the data.
const ALIGNMENT: usize = 32;

/// Writes the parts of a file.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: usize) -> &mut Self {
        self.0.extend((value as u64).to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.u64(text.len()).0.extend(text.as_bytes());
        self
    }

    fn number(&mut self, key: &str, value: u32) {
        self.text(key).u32(U32).u32(value);
    }

    fn named(&mut self, key: &str, value: &str) {
        self.text(key).u32(TEXT).text(value);
    }

    fn list(&mut self, key: &str, kind: u32, length: usize) -> &mut Self {
        self.text(key).u32(LIST).u32(kind).u64(length)
    }
}

/// A Llama with one layer, written as llama.cpp does.
fn specimen() -> Vec<u8> {
    let tokens = ["<unk>", "<s>", "</s>", "\u{2581}a", "b"];
    let layer = [
        ("attn_norm", &[4][..]),
        ("attn_q", &[4, 4]),
        ("attn_k", &[4, 2]),
        ("attn_v", &[4, 2]),
        ("attn_output", &[4, 4]),
        ("ffn_norm", &[4]),
        ("ffn_gate", &[4, 6]),
        ("ffn_up", &[4, 6]),
        ("ffn_down", &[6, 4]),
    ];
    let mut tensors: Vec<(String, &[usize])> =
        vec![("token_embd.weight".into(), &[4, 5]), ("output_norm.weight".into(), &[4])];
    tensors.extend(layer.map(|(name, shape)| (format!("blk.0.{name}.weight"), shape)));

    let mut file = Writer::default();
    file.0.extend(b"GGUF");
    file.u32(3).u64(tensors.len()).u64(15);
    file.named("general.architecture", "llama");
    for (key, value) in [
        ("llama.block_count", 1),
        ("llama.embedding_length", 4),
        ("llama.feed_forward_length", 6),
        ("llama.context_length", 64),
        ("llama.attention.head_count", 2),
        ("llama.attention.head_count_kv", 1),
        ("llama.rope.dimension_count", 2),
        ("tokenizer.ggml.bos_token_id", 1),
        ("tokenizer.ggml.eos_token_id", 2),
    ] {
        file.number(key, value);
    }
    file.text("llama.attention.layer_norm_rms_epsilon").u32(F32).0.extend(1e-5f32.to_le_bytes());
    file.named("tokenizer.ggml.model", "llama");
    file.list("tokenizer.ggml.tokens", TEXT, tokens.len());
    for token in tokens {
        file.text(token);
    }
    file.list("tokenizer.ggml.scores", F32, tokens.len());
    (0..tokens.len()).for_each(|at| file.0.extend((-(at as f32)).to_le_bytes()));
    file.list("tokenizer.ggml.token_type", I32, tokens.len());
    for kind in [2, 3, 3, 1, 1] {
        file.u32(kind);
    }
    let mut offset = 0;
    for (name, shape) in &tensors {
        file.text(name).u32(shape.len() as u32);
        for size in *shape {
            file.u64(*size);
        }
        file.u32(0).u64(offset);
        offset += (shape.iter().product::<usize>() * 4).next_multiple_of(ALIGNMENT);
    }
    let start = file.0.len().next_multiple_of(ALIGNMENT);
    file.0.resize(start + offset, 0);
    for (at, value) in file.0[start..].chunks_exact_mut(4).enumerate() {
        value.copy_from_slice(&(at as f32 % 7.0 - 3.0).to_le_bytes());
    }
    file.0
}

/// A file is unpacked and loaded, as a model given by its file is.
pub(crate) fn gguf(_: &Path) -> Format {
    Format {
        file: "model.gguf",
        specimens: vec![specimen()],
        words: &[
            "GGUF",
            "general.architecture",
            "gemma3",
            "qwen2",
            "blk.0.attn_q.weight",
            "tokenizer.ggml.merges",
            "\u{ff}\u{ff}",
            "\0\0\0\0\0\0\0\0",
            "\u{9}\0\0\0",
        ],
        read: Box::new(|place| {
            let to = place.join("unpacked");
            let _ = std::fs::remove_dir_all(&to);
            std::fs::create_dir(&to).expect("a directory");
            reader::unpack(&place.join("model.gguf"), &to).map_err(shown)?;
            let checkpoint = Checkpoint::open(&to).map_err(shown)?;
            load_backbone(&checkpoint, DType::F32, &Device::Cpu).map(drop).map_err(shown)
        }),
        named: &["model.gguf", "config.json", "unpacked", "`"],
        memory: 32 << 20,
    }
}

/// Errors name the file that the user gave, not the directory that it was unpacked into.
#[test]
fn errors_name_the_file() {
    let place = tempfile::tempdir().expect("a directory");
    let (own, to) = (place.path().join("own name.gguf"), place.path().join("unpacked"));
    std::fs::create_dir(&to).expect("a directory");
    std::fs::write(&own, specimen()).expect("a file");
    reader::unpack(&own, &to).expect("a whole file");
    let checkpoint = Checkpoint::open(&to).expect("a whole file");
    assert_eq!(checkpoint.origin(), own.display().to_string());
    // The header is whole, the tensors are not.
    let whole = specimen();
    std::fs::write(&own, &whole[..whole.len() - 64]).expect("a file");
    let short = Checkpoint::open(&to).map(drop).expect_err("cut short").to_string();
    // One that only the weights show.
    let mut config = checkpoint.raw_config().clone();
    config["num_hidden_layers"] = 2.into();
    std::fs::write(&own, whole).expect("a file");
    std::fs::write(to.join("config.json"), config.to_string()).expect("a file");
    let checkpoint = Checkpoint::open(&to).expect("a whole file");
    let missing = load_backbone(&checkpoint, DType::F32, &Device::Cpu).map(drop);
    let missing = missing.expect_err("one layer").to_string();
    for error in [short, missing] {
        assert!(error.contains("own name.gguf") && !error.contains("unpacked"), "{error}");
    }
}

/// A directory with one GGUF file and nothing else is a model, whatever the file's name.
#[test]
fn a_file_alone_is_a_model() {
    for name in ["model.gguf", "tiny-Q4.gguf"] {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::write(place.path().join(name), specimen()).expect("a file");
        assert_eq!(reader::alone(place.path()), Some(place.path().join(name)));
        let loaded = load_directory(place.path(), DType::F32, &Device::Cpu);
        assert_eq!(loaded.expect("a model").architecture().width, 4, "{name}");
        // Beside other weights it is not what is meant.
        std::fs::write(place.path().join("model.safetensors"), "").expect("a file");
        assert_eq!(reader::alone(place.path()), None, "{name}");
    }
}
