//! Models written in the Hugging Face layout and read back.

use std::path::Path;

use candle_core::{DType, Device};
use serde_json::{Value, json};
use vxf_core::{Key, Lora, Params, Result, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_testkit::checkpoint::tensors;
use vxf_testkit::numbers::first_difference;
use vxf_testkit::training::weights;

use crate::shapes::{all, llama, opt, qwen2, with};

const LARGE: u64 = 5_000_000_000;

fn stored(config: Value, dtype: DType) -> Result<Checkpoint> {
    let made = tensors(&config, &Key::root(8), dtype, &Device::Cpu)?;
    Ok(Checkpoint::made("stored", config, made))
}

fn loaded(checkpoint: &Checkpoint) -> Result<Params> {
    Ok(load_backbone(checkpoint, DType::F32, &Device::Cpu)?.tensors())
}

fn json_of(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

/// Every family, whole and in parts, plain and merged, comes back to the bit.
#[test]
fn what_is_written_is_read() -> Result<()> {
    for (name, config) in all() {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let base = stored(config.clone(), dtype)?;
            let lora = Trainable::Lora(Lora { rank: 2, ..Lora::default() });
            let model = load_backbone(&base, DType::F32, &Device::Cpu)?;
            let merged = base.merged(&lora, &weights(&*model.with_trainable(&lora)?, 2)?)?;
            for (checkpoint, limit) in [(&base, LARGE), (&merged, LARGE), (&merged, 700)] {
                let place = tempfile::tempdir().expect("a directory");
                let place = place.path().join("deeper/model");
                checkpoint.export(&place, limit)?;
                let again = Checkpoint::open(&place)?;
                assert_eq!(again.storage_dtype(), dtype, "{name}");
                assert_eq!(again.raw_config(), checkpoint.raw_config());
                assert_eq!(again.files().len() > 1, limit == 700);
                assert_eq!(
                    first_difference(&loaded(&again)?, &loaded(checkpoint)?)?,
                    None,
                    "{name}"
                );
                let beside = place.parent().expect("a parent").read_dir().expect("a directory");
                assert_eq!(beside.count(), 1, "nothing is left beside it");
            }
        }
    }
    Ok(())
}

/// The files are laid out as transformers writes them.
#[test]
fn files_are_those_of_transformers() -> Result<()> {
    let place = tempfile::tempdir().expect("a directory");
    let (one, many) = (place.path().join("one"), place.path().join("many"));
    let base = stored(qwen2(), DType::BF16)?;
    base.export(&one, LARGE)?;
    base.export(&many, 900)?;
    assert_eq!(json_of(&one.join("config.json")), qwen2());

    let bytes = std::fs::read(one.join("model.safetensors")).expect("a file");
    let (length, header) = safetensors_header(&bytes);
    assert_eq!(length % 8, 0, "tensors are aligned");
    assert_eq!(header["__metadata__"], json!({ "format": "pt" }));
    assert_eq!(header["model.norm.weight"]["dtype"], "BF16");
    assert!(header.get("lm_head.weight").is_none(), "a tied output is written once");

    let index = json_of(&many.join("model.safetensors.index.json"));
    let numbers: usize = base.outline()?.count();
    assert_eq!(index["metadata"]["total_size"], json!(2 * numbers));
    let map = index["weight_map"].as_object().expect("a map");
    assert_eq!(map.len(), base.outline()?.tensors.len());
    let shards = Checkpoint::open(&many)?.files().len();
    for (tensor, file) in map {
        let file = file.as_str().expect("a name");
        assert!(file.ends_with(&format!("-of-{shards:05}.safetensors")), "{file}");
        let bytes = std::fs::read(many.join(file)).expect("a shard");
        let (length, header) = safetensors_header(&bytes);
        let whole = header.as_object().expect("tensors").len() == 2;
        assert!(header.get(tensor).is_some());
        assert!(bytes.len() - length - 8 <= 900 || whole, "{file} is too large");
    }
    Ok(())
}

fn safetensors_header(bytes: &[u8]) -> (usize, Value) {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    (length, serde_json::from_slice(&bytes[8..8 + length]).expect("a header"))
}

/// Fully trained weights are rounded to the type of the base when they are written.
#[test]
fn trained_weights_are_written_in_the_stored_type() -> Result<()> {
    let place = tempfile::tempdir().expect("a directory");
    let base = stored(opt(), DType::BF16)?;
    let model = load_backbone(&base, DType::F32, &Device::Cpu)?;
    let weights = weights(&*model, 2)?;
    base.merged(&Trainable::Full, &weights)?.export(&place.path().join("out"), LARGE)?;
    let again = Checkpoint::open(&place.path().join("out"))?;
    assert_eq!(again.storage_dtype(), DType::BF16);
    let rounded =
        weights.map(|it| Ok(it.detach().to_dtype(DType::BF16)?.to_dtype(DType::F32)?))?;
    assert_eq!(first_difference(&loaded(&again)?, &rounded)?, None);

    // What f16 cannot hold is not written.
    let base = stored(opt(), DType::F16)?;
    let large = weights.map(|it| Ok((it.detach() * 1e6)?))?;
    let refused = base.merged(&Trainable::Full, &large)?.export(&place.path().join("large"), LARGE);
    let message = refused.expect_err("beyond f16").to_string();
    assert!(message.contains("inf") && message.contains("F16"), "{message}");
    Ok(())
}

/// An export is never mixed with what is there already.
#[test]
fn a_directory_that_holds_something_is_refused() -> Result<()> {
    let place = tempfile::tempdir().expect("a directory");
    let taken = place.path().join("taken");
    std::fs::create_dir(&taken).expect("a directory");
    let base = stored(llama(), DType::F32)?;
    base.export(&taken, LARGE)?;
    let message = base.export(&taken, LARGE).expect_err("it is taken").to_string();
    assert!(message.contains("taken") && message.contains("exists already"), "{message}");

    let other = with(llama(), json!({ "vocab_size": 24 }));
    let wrong = Checkpoint::made("wrong", other, loaded(&base)?);
    wrong.export(&place.path().join("wrong"), LARGE).expect_err("a shape that differs");
    assert!(!place.path().join("wrong").exists(), "shapes are checked before anything is written");
    Ok(())
}
