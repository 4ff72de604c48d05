//! Models whose linear layers are held in few bits.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device};
use serde_json::Value;
use vxf_core::lineage::{self, Lineage};
use vxf_core::metric::Model;
use vxf_core::quantized::Scheme;
use vxf_core::{Backbone, Batch, Key, Lora, Params, Result, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_testkit::batches;
use vxf_testkit::numbers::{distance, entries};
use vxf_testkit::training::weights;

use crate::shapes::{self, all, checkpoint};

fn loaded(checkpoint: &Checkpoint) -> Result<Arc<dyn Backbone>> {
    load_backbone(checkpoint, DType::F64, &Device::Cpu)
}

fn logits(backbone: &dyn Backbone, weights: &Params) -> Result<Vec<f64>> {
    let batch = batches::batch(2, 7, 23, &Key::root(1))?;
    entries(&Model { backbone, weights }.logits(&batch)?)
}

/// An adapter on some layers of each family.
fn lora(config: &Value) -> Trainable {
    let targets = ["q_proj", "k_proj", "v_proj", "fc1", "down_proj", "project_in"];
    let target_modules = targets.map(str::to_owned).to_vec();
    let lora = Lora { rank: 2, target_modules, ..Lora::default() };
    Trainable::Lora(shapes::suited(&lora, config))
}

/// A model of few bits is the model of the numbers that they stand for, and embeddings and output keep theirs.
#[test]
fn a_quantised_model_computes_with_what_its_codes_mean() -> Result<()> {
    for (name, config) in all() {
        for scheme in [Scheme::Nf4, Scheme::Int8] {
            let base = checkpoint(config.clone());
            let quantized = loaded(&base.quantized_by(scheme)?)?;
            let dense = quantized.tensors();
            let plain = loaded(&base)?;
            for (tensor, stored) in plain.tensors().iter() {
                let found = dense.get(tensor).expect("all tensors");
                let off = distance(&entries(found)?, &entries(stored)?);
                let linear =
                    base.outline()?.linears.iter().any(|it| format!("{it}.weight") == tensor);
                assert_eq!(off > 0.0, linear, "{name}: {tensor} is off by {off}");
            }
            let same = loaded(&Checkpoint::made("same", config.clone(), dense))?;
            let none = Params::new();
            let (found, expected) = (logits(&*quantized, &none)?, logits(&*same, &none)?);
            assert_eq!(found, expected, "{name}");
        }
    }
    Ok(())
}

/// Merging an adapter neither quantises again nor rounds: the next stage starts from the model that was
/// trained, twice in a row.
#[test]
fn merged_adapters_lie_on_top_of_the_codes() -> Result<()> {
    for (name, config) in all() {
        let trainable = lora(&config);
        let mut base = checkpoint(config).quantized_by(Scheme::Nf4)?;
        for seed in [3, 4] {
            let trained = loaded(&base)?.with_trainable(&trainable)?;
            let weights = weights(&*trained, seed)?;
            let merged = base.merged(&trainable, &weights)?;
            let next = loaded(&merged)?;
            let (found, expected) = (logits(&*next, &Params::new())?, logits(&*trained, &weights)?);
            // The product is kept in f32.
            let off = distance(&found, &expected);
            assert!(off < 1e-5, "{name}: {off}");
            let module = base.outline()?.linears[0].clone();
            let reference = Lineage::weight(&merged, &module)?;
            let own = lineage::merged(&*trained, &weights, &module)?;
            let off = distance(&entries(&reference)?, &entries(&own)?);
            assert!(off < 1e-6, "{name}: the reference's `{module}` is off by {off}");
            base = merged;
        }
    }
    Ok(())
}

#[test]
fn full_training_and_export_are_refused() -> Result<()> {
    let quantized = checkpoint(shapes::llama()).quantized_by(Scheme::Nf4)?;
    let model = loaded(&quantized)?;
    let error = model.with_trainable(&Trainable::Full).err().expect("refused").to_string();
    assert!(error.contains("lora") && error.contains("model.quantize"), "{error}");
    let directory = tempfile::tempdir().expect("a directory");
    let error = quantized.export(directory.path(), u64::MAX).expect_err("refused").to_string();
    assert!(error.contains("--adapter"), "{error}");
    Ok(())
}

/// Checkpoints that bitsandbytes stored give the logits of transformers, as tensors and as they are stored.
#[test]
fn stored_codes_are_read() -> Result<()> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded");
    for (name, scheme) in [("nf4", Scheme::Nf4), ("fp4", Scheme::Nf4), ("int8", Scheme::Int8)] {
        let place = recorded.join(name);
        let text = std::fs::read_to_string(place.join("logits.json")).expect("logits");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        let tokens: Vec<u32> = serde_json::from_value(said["tokens"].clone()).expect("tokens");
        let expected: Vec<Vec<f64>> = serde_json::from_value(said["logits"].clone()).expect("rows");
        let stored = Checkpoint::open(&place)?;
        let remarks = stored.remarks(&stored.outline()?);
        assert!(remarks.len() == 1 && remarks[0].contains("bitsandbytes"), "{remarks:?}");

        let batch = Batch::from_rows(&[&tokens], &[vec![0; tokens.len()]], &Device::Cpu)?;
        let mut seen = Vec::new();
        for checkpoint in [stored.clone(), stored.quantized_by(scheme)?] {
            let backbone = &*load_backbone(&checkpoint, DType::F32, &Device::Cpu)?;
            let logits = Model { backbone, weights: &Params::new() }.logits(&batch)?;
            for (found, expected) in entries(&logits)?.iter().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 1e-4, "{name}: {found} {expected}");
            }
            seen.push(entries(&logits)?);
        }
        assert_eq!(seen[0], seen[1], "{name}");
        assert!(stored.quantized_by(scheme)?.quantized_again().is_empty());
        // As other codes than the stored ones.
        let other = if scheme == Scheme::Nf4 { Scheme::Int8 } else { Scheme::Nf4 };
        let again = stored.quantized_by(other)?;
        let remarks = again.quantized_again();
        assert!(remarks.len() == 1 && remarks[0].contains("quantised again"), "{remarks:?}");
        let backbone = &*load_backbone(&again, DType::F32, &Device::Cpu)?;
        let logits = entries(&Model { backbone, weights: &Params::new() }.logits(&batch)?)?;
        assert_ne!(logits, seen[0], "{name}");
    }
    Ok(())
}
