//! Task vectors: task arithmetic and RESTA.

use serde_json::json;
use vxf_core::Result;
use vxf_testkit::plain::{self, Weights};

use super::data::simulate;
use super::*;

/// Task arithmetic subtracts `W_harmful - W_base`, RESTA adds `W_aligned - W_harmful` without some entries.
#[test]
fn vectors() -> Result<()> {
    let toy = toy();
    let (steps, rate, factor) = (3, 0.02, 0.7);
    for (name, reference) in
        [("task-arithmetic", vxf_core::Reference::Base), ("resta", vxf_core::Reference::Aligned)]
    {
        let streams = Streams::new(&toy, &["user", "harmful"])?;
        let settings = json!({ "steps": steps, "rate": rate, "factor": factor });
        let mut stage = stage(&toy, &streams, (name, settings), none())?;
        let before = plain::weights(&stage.weights)?;
        let mut start = Weights::new();
        for name in before.keys() {
            let module = name.strip_suffix(".weight").expect("a weight");
            start.insert(name.clone(), stage.session.references[&reference].weight(module)?);
        }
        let mut harmful = start.clone();
        simulate(&mut harmful, steps, rate, |step| {
            Ok(streams.batch("harmful", step as u64).clone())
        })?;
        let back = plain::plus(&start, &harmful, -1.0)?;
        agree(&stage.finish()?.weights, &plain::plus(&before, &back, factor)?)?;
    }

    // Half of the entries of one difference are left out, the others are doubled.
    let streams = Streams::new(&toy, &["user", "harmful"])?;
    let run = |dropped: f64, thinned: &str, factor: f64| {
        let settings = json!({
            "steps": 1, "rate": rate, "factor": factor, "dropped": dropped, "thinned": thinned,
        });
        let mut stage = stage(&toy, &streams, ("resta", settings), none())?;
        let (before, aligned) = (stage.weights.copy()?, &stage.session.references);
        let aligned = aligned[&vxf_core::Reference::Aligned].clone();
        let mut start = vxf_core::Params::new();
        for name in before.names() {
            let module = name.strip_suffix(".weight").expect("a weight");
            start.insert(name, aligned.weight(module)?.to_dtype(candle_core::DType::F64)?);
        }
        let after = stage.finish()?.weights;
        Ok::<_, vxf_core::Error>((after.sub(&before)?, before.sub(&start)?, after.sub(&start)?))
    };
    // The vector alone, and what the user changed alone, where the vector counts for nothing.
    let (whole, ..) = run(0.0, "safety", 1.0)?;
    let (half, ..) = run(0.5, "safety", 1.0)?;
    half_is_left_out(&whole, &half)?;
    let (_, tuned, thinned) = run(0.5, "tuned", 0.0)?;
    half_is_left_out(&tuned, &thinned)
}

/// Every other entry or so of `half` is zero, and the rest is twice that of `whole`.
fn half_is_left_out(whole: &vxf_core::Params, half: &vxf_core::Params) -> Result<()> {
    let (mut zeros, mut all) = (0, 0);
    for (name, whole) in whole.iter() {
        let whole = whole.flatten_all()?.to_vec1::<f64>()?;
        let half = half.get(name).expect("the same names").flatten_all()?.to_vec1::<f64>()?;
        for (whole, half) in whole.iter().zip(half).filter(|(whole, _)| whole.abs() > 1e-6) {
            let left_out = half.abs() < 1e-9;
            assert!(left_out || (half - 2.0 * whole).abs() < 1e-9, "{name}: {half} of {whole}");
            zeros += usize::from(left_out);
            all += 1;
        }
    }
    let share = zeros as f64 / all as f64;
    assert!((0.4..0.6).contains(&share), "{share} of {all} entries are left out");
    Ok(())
}
