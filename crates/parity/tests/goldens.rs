//! The recordings shipped with the project are reproduced within their bounds.

use std::path::Path;

use candle_core::Device;
use vxf_builtins as _;
use vxf_parity::Report;

fn replay(folder: &str) -> vxf_core::Result<Report> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(folder);
    let report = vxf_parity::compare(&folder, &Device::Cpu)?;
    let broken = report.quantities.iter().filter(|(_, quantity)| !quantity.holds());
    assert_eq!(broken.collect::<Vec<_>>(), [], "bounds are broken");
    assert!(report.passed());
    Ok(report)
}

/// The official trainer's steps.
#[test]
fn the_reference_is_reproduced() -> vxf_core::Result<()> {
    let report = replay("goldens")?;
    assert_eq!(report.runs.len(), 9, "nine runs of llama_gqa are recorded: {:?}", report.runs);
    let skipped: Vec<_> = report.skipped.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(skipped, ["opt", "qwen2", "qwen3"], "families that are not read yet");
    assert!(report.compared() > 250_000, "{} numbers", report.compared());
    Ok(())
}

/// Steps recorded with `tests/recorder/record.py` on another shape: one key-value head, heads
/// wider than hidden / heads, an odd vocabulary, other epsilon and rope base, an adapter in use.
#[test]
fn another_shape_is_reproduced() -> vxf_core::Result<()> {
    let report = replay("recordings")?;
    assert_eq!(report.runs.len(), 9, "{:?}", report.runs);
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);
    Ok(())
}
