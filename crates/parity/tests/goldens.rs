//! The recordings shipped with the project are reproduced within their bounds.

use std::path::Path;

use candle_core::Device;
use vxf_builtins as _;
use vxf_parity::{Bounds, Report};

fn replay(folder: &str, bounds: &Bounds) -> vxf_core::Result<Report> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(folder);
    let report = vxf_parity::compare(&folder, &Device::Cpu, bounds)?;
    let broken = report.quantities.iter().filter(|(_, quantity)| !quantity.holds());
    assert_eq!(broken.collect::<Vec<_>>(), [], "bounds are broken");
    assert!(report.passed());
    Ok(report)
}

/// The official trainer's steps.
#[test]
fn the_reference_is_reproduced() -> vxf_core::Result<()> {
    let report = replay("goldens", &Bounds::F32)?;
    let of = |model: &str| report.runs.iter().filter(|run| run.starts_with(model)).count();
    assert_eq!((of("llama_gqa/"), of("opt/")), (9, 7), "{:?}", report.runs);
    assert_eq!(report.quantities["logits"].compared, logits("goldens"), "of all five models");
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    assert!(report.compared() > 250_000, "{} numbers", report.compared());
    Ok(())
}

/// Steps recorded with `tests/recorder/record.py` on other shapes: one key-value head, heads wider
/// than hidden / heads, odd vocabularies, other epsilon and rope base, windows, scaled rotary
/// positions, soft caps, partial rotation, joined projections, projected embeddings, norms after the
/// sums, all kinds of files, adapters.
#[test]
fn other_shapes_are_reproduced() -> vxf_core::Result<()> {
    let report = replay("recordings", &Bounds::F32)?;
    assert_eq!(report.runs.len(), 44, "{:?}", report.runs);
    assert_eq!(report.quantities["logits"].compared, logits("recordings"));
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    Ok(())
}

/// The same in bfloat16, the arithmetic of a GPU.
#[test]
fn bfloat16_keeps_its_bounds() -> vxf_core::Result<()> {
    for folder in ["goldens", "recordings"] {
        replay(folder, &Bounds::BF16)?;
    }
    Ok(())
}

/// The number of recorded logits at real tokens in a folder.
fn logits(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(folder);
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("a manifest");
    let manifest: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    let count = |model: &String| {
        let read = |file| {
            let file = folder.join(model).join(file);
            candle_core::safetensors::load(file, &Device::Cpu).expect("recorded tensors")
        };
        let mask = read("batch.safetensors")["attention_mask"].sum_all().expect("a sum");
        let real = mask.to_scalar::<i64>().expect("a count") as usize;
        real * read("logits.safetensors")["logits"].dims()[2]
    };
    manifest["models"].as_object().expect("models").keys().map(count).sum()
}
