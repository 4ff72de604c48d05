//! Merging trained weights into a checkpoint: results and rounding.

use candle_core::{DType, Device, Tensor};
use serde_json::{Value, json};
use vxf_core::backbone::{Parameter, Part};
use vxf_core::lineage::{self, Lineage};
use vxf_core::metric::Model;
use vxf_core::{Backbone, Key, Lora, Params, Result, Trainable};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_testkit::batches;
use vxf_testkit::checkpoint::tensors;
use vxf_testkit::numbers::{distance, entries, first_difference};
use vxf_testkit::training::weights;

use crate::shapes::{self, all, checkpoint, llama, model};

fn lora(targets: &[&str]) -> Trainable {
    let target_modules = targets.iter().map(|&target| target.to_owned()).collect();
    Trainable::Lora(Lora { rank: 3, alpha: 6.5, target_modules, ..Lora::default() })
}

/// The same layers of this model.
fn suited(trainable: &Trainable, config: &Value) -> Trainable {
    match trainable {
        Trainable::Lora(lora) => Trainable::Lora(shapes::suited(lora, config)),
        Trainable::Full => Trainable::Full,
    }
}

/// A model with merged weights gives the same outputs as before.
#[test]
fn merging_changes_nothing() -> Result<()> {
    let trainables =
        [Trainable::Full, lora(&["q_proj", "v_proj"]), lora(&["k_proj", "fc1", "down_proj"])];
    for (name, config) in all() {
        for trainable in &trainables {
            let trainable = &suited(trainable, &config);
            let base = checkpoint(config.clone());
            let trained = model(&base).with_trainable(trainable)?;
            let weights = weights(&*trained, 3)?;
            let merged = model(&base.merged(trainable, &weights)?);
            let batch = batches::batch(2, 7, 23, &Key::root(1))?;
            let logits = |backbone: &dyn Backbone, weights: &Params| {
                entries(&Model { backbone, weights }.logits(&batch)?)
            };
            let (none, with) = (Params::new(), logits(&*trained, &weights)?);
            assert_ne!(with, logits(&*trained, &none)?, "{name}: weights matter");
            for (a, b) in with.iter().zip(logits(&*merged, &none)?) {
                // x (W + BA) against x W + (x A) B, in f64.
                assert!((a - b).abs() <= 1e-10, "{name}: {a} {b}");
            }
            assert!(merged.tensors().names().eq(trained.tensors().names()), "{name}");
        }
    }
    Ok(())
}

const LAYER: &str = "model.layers.0.self_attn.q_proj";

/// A Llama stored in this type, with one adapter on one layer.
fn stored(dtype: DType) -> Result<(Checkpoint, Params)> {
    let config = llama();
    let made = tensors(&config, &Key::root(2), dtype, &Device::Cpu)?;
    let key = Key::root(4);
    let adapter =
        [(Lora::a_of(LAYER), [3, 12]), (Lora::b_of(LAYER), [24, 3])].map(|(name, shape)| {
            let tensor = key.child(&name).normal(&shape, DType::F32, &Device::Cpu);
            (name, tensor.expect("random numbers"))
        });
    Ok((Checkpoint::made("stored", config, made), adapter.into_iter().collect()))
}

fn layer(checkpoint: &Checkpoint) -> Result<Tensor> {
    checkpoint.tensor(&format!("{LAYER}.weight"), &[24, 12], DType::F64, &Device::Cpu)
}

/// PEFT's merge: product and sum in f32, rounded to the stored type after each adapter.
#[test]
fn adapters_are_rounded_to_the_stored_type_one_by_one() -> Result<()> {
    let trainable = lora(&["q_proj"]);
    let scale = 6.5 / 3.0;
    for dtype in [DType::BF16, DType::F16, DType::F32, DType::F64] {
        let (base, weights) = stored(dtype)?;
        let (a, b) = (&weights.get(&Lora::a_of(LAYER)), &weights.get(&Lora::b_of(LAYER)));
        let (a, b) = (a.expect("A"), b.expect("B"));
        let wide = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let once = |weight: Tensor| -> Result<Tensor> {
            let delta = (b.to_dtype(wide)?.matmul(&a.to_dtype(wide)?)? * scale)?;
            Ok((weight.to_dtype(wide)? + delta)?.to_dtype(dtype)?)
        };
        let one = once(layer(&base)?.to_dtype(dtype)?)?;
        let two = once(one.clone())?;
        let merged = base.merged(&trainable, &weights)?;
        let twice = merged.merged(&trainable, &weights)?;
        for (found, expected) in [(layer(&merged)?, one), (layer(&twice)?, two)] {
            assert_eq!(entries(&found)?, entries(&expected)?, "{dtype:?}");
        }
        assert_eq!(merged.storage_dtype(), dtype);
        let untouched = "model.layers.1.self_attn.q_proj.weight";
        let read = |checkpoint: &Checkpoint| {
            entries(&checkpoint.tensor(untouched, &[24, 12], DType::F64, &Device::Cpu)?)
        };
        assert_eq!(read(&base)?, read(&merged)?);
    }
    Ok(())
}

/// Fully trained weights are kept unrounded, also if the base is stored in a narrower type.
#[test]
fn trained_weights_are_not_rounded() -> Result<()> {
    let (base, _) = stored(DType::BF16)?;
    let model = load_backbone(&base, DType::F32, &Device::Cpu)?;
    let weights = weights(&*model, 7)?;
    let merged =
        load_backbone(&base.merged(&Trainable::Full, &weights)?, DType::F32, &Device::Cpu)?;
    assert_eq!(first_difference(&merged.tensors(), &weights)?, None);
    Ok(())
}

/// The optimiser changes weights in place later; the merged ones stay.
#[test]
fn merging_takes_a_copy() -> Result<()> {
    let (base, weights) = stored(DType::F32)?;
    let leaves = weights.leaves()?;
    let merged = base.merged(&lora(&["q_proj"]), &leaves)?;
    let before = entries(&layer(&merged)?)?;
    let b = leaves.get(&Lora::b_of(LAYER)).expect("B");
    candle_core::Var::from_tensor(b)?.set(&b.zeros_like()?)?;
    assert_eq!(entries(&layer(&merged)?)?, before);
    Ok(())
}

#[test]
fn foreign_weights_are_refused_by_name() -> Result<()> {
    let (base, weights) = stored(DType::F32)?;
    let lora = lora(&["q_proj"]);
    let with = |name: &str, shape: &[usize]| -> Result<Params> {
        let mut weights = weights.clone();
        weights.insert(name, Tensor::zeros(shape, DType::F32, &Device::Cpu)?);
        Ok(weights)
    };
    let refused = |trainable: &Trainable, weights: &Params, text: &[&str]| {
        let message = base.merged(trainable, weights).err().expect("refused").to_string();
        assert!(text.iter().all(|text| message.contains(text)), "{message}");
    };
    refused(&lora, &with("model.norm.weight", &[12])?, &["model.norm.weight"]);
    refused(&lora, &with(&Lora::a_of("model.norm"), &[3, 12])?, &["model.norm", "lacks"]);
    refused(&lora, &with(&Lora::b_of(LAYER), &[24, 4])?, &[LAYER, "[24, 4]"]);
    let mut stray = with(&Lora::a_of("decoder.layer"), &[3, 12])?;
    stray.insert(Lora::b_of("decoder.layer"), Tensor::zeros((12, 3), DType::F32, &Device::Cpu)?);
    refused(&lora, &stray, &["decoder.layer"]);
    let full = |name: &str, shape: &[usize]| -> Result<Params> {
        let tensor = Tensor::zeros(shape, DType::F32, &Device::Cpu)?;
        Ok([(name.to_owned(), tensor)].into_iter().collect())
    };
    refused(&Trainable::Full, &full("model.norm.weight", &[13])?, &["model.norm.weight", "[13]"]);
    refused(&Trainable::Full, &full("model.other.weight", &[12])?, &["model.other.weight"]);
    assert_eq!(base.raw_config()["head_dim"], json!(6));
    Ok(())
}

/// A checkpoint gives the merged weight of any module, equal to that of the model with its adapter.
#[test]
fn a_checkpoint_is_a_reference_model() -> Result<()> {
    for (_, config) in all() {
        let trainable = suited(&lora(&["q_proj", "fc1", "down_proj"]), &config);
        let base = checkpoint(config);
        let trained = model(&base).with_trainable(&trainable)?;
        let weights = weights(&*trained, 3)?;
        let aligned = base.merged(trained.trainable(), &weights)?;
        let modules = trained.tensors();
        let modules = modules.names().filter_map(|name| name.strip_suffix(".weight"));
        let mut changed = 0;
        for module in modules {
            let found = Lineage::weight(&aligned, module)?;
            let expected = lineage::merged(&*trained, &weights, module)?;
            assert_eq!(found.dtype(), expected.dtype());
            let off = distance(&entries(&found)?, &entries(&expected)?);
            assert!(off < 1e-12, "{module} is off by {off}");
            let before = Lineage::weight(&base, module)?;
            changed += usize::from(distance(&entries(&found)?, &entries(&before)?) > 0.0);
        }
        assert_eq!(2 * changed, weights.len(), "modules with an adapter, and no other");
        let error = Lineage::weight(&aligned, "model.layers.9.self_attn.q_proj");
        let error = error.expect_err("no such layer").to_string();
        assert!(error.contains("`model.layers.9.self_attn.q_proj.weight`"), "{error}");
    }
    Ok(())
}

/// Every parameter of every family has its layer and its part.
#[test]
fn parameters_have_locations() -> Result<()> {
    for (family, config) in all() {
        let trainable = suited(&lora(&["q_proj", "up_proj", "fc1", "project_in"]), &config);
        let full = model(&checkpoint(config));
        let adapted = full.with_trainable(&trainable)?;
        for parameter in full.parameters().into_iter().chain(adapted.parameters()) {
            let Parameter { name, layer, part, .. } = &parameter;
            let found = name.split(".layers.").nth(1).and_then(|rest| rest.split('.').next());
            assert_eq!(layer.map(|layer| layer.to_string()).as_deref(), found, "{family}: {name}");
            let module = parameter.module();
            let expected = match module {
                _ if module.contains("norm") => Part::Norm,
                _ if module.contains("self_attn") => Part::Attention,
                _ if layer.is_some() => Part::Mlp,
                _ if module.contains("embed") || module.contains("project_in") => Part::Embedding,
                _ => Part::Head,
            };
            assert_eq!(*part, expected, "{family}: {name}");
        }
    }
    Ok(())
}
