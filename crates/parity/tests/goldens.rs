//! The recordings shipped with the project are reproduced within their bounds.

use std::path::Path;

use candle_core::Device;
use vxf_builtins as _;

#[test]
fn every_recorded_number_is_reproduced() -> vxf_core::Result<()> {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/goldens");
    let report = vxf_parity::compare(&goldens, &Device::Cpu)?;
    for (name, quantity) in &report.quantities {
        println!(
            "{name:35} {:8} {:.2e} ({}) at {}",
            quantity.compared, quantity.largest, quantity.bound, quantity.at
        );
    }
    println!("skipped: {:?}", report.skipped);
    assert!(report.passed(), "a bound is broken");
    assert_eq!(report.runs.len(), 9, "nine runs of llama_gqa are recorded: {:?}", report.runs);
    Ok(())
}
