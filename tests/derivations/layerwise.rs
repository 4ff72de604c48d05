//! T-Vaccine and OASIS.

use std::collections::BTreeMap;

use serde_json::json;
use vxf_core::Result;
use vxf_testkit::plain::{self, Weights};

use super::*;

const LAYERS: [usize; 3] = [0, 1, 2];

/// The harmful gradient's norm at each mixer output.
fn norms(weights: &Weights, batch: &Batch) -> Result<Vec<f64>> {
    let sites = at_sites(weights, batch, &LAYERS, &BTreeMap::new())?;
    sites.into_values().map(|tensor| length(&BTreeMap::from([(0, tensor)]))).collect()
}

fn scaled_to(sites: BTreeMap<usize, Tensor>, rho: f64) -> Result<BTreeMap<usize, Tensor>> {
    let factor = rho / (length(&sites)? + 1e-7);
    sites.into_iter().map(|(layer, tensor)| Ok((layer, (tensor * factor)?))).collect()
}

/// The numbers called `name` in the perturber's state.
fn state<T: serde::de::DeserializeOwned>(stage: &Training<'_>, name: &str) -> Result<Vec<T>> {
    let values = stage.perturber.state()?.values;
    Ok(serde_json::from_value(values[name].clone()).expect("a list"))
}

/// Which layers are drawn is read off the perturber's state; when they are drawn, from which norms, what is
/// perturbed and what trains is checked.
#[test]
fn t_vaccine() -> Result<()> {
    for trained in ["attention", "layers"] {
        let toy = toy();
        let streams = Streams::new(&toy, &["alignment", "harmful"])?;
        let inner = json!({ "rho": 0.8, "layers": 2, "resample": 2, "rescore": 4 });
        let method = ("t-vaccine", json!({ "trained": trained }));
        let mut stage = stage(&toy, &streams, method, ("t-vaccine", inner))?;
        let mut weights = plain::weights(&stage.weights)?;
        let mut optimizer = plain::AdamW::default();
        let mut drawn = Vec::new();
        stage.prepare()?;
        for step in 0..9 {
            if step % 4 == 0 {
                let expected = norms(&weights, streams.batch("harmful", step / 4))?;
                stage.step()?;
                let found: Vec<f64> = state(&stage, "norms")?;
                for (a, b) in expected.iter().zip(&found) {
                    assert!((a - b).abs() < 1e-10, "{expected:?} {found:?}");
                }
            } else {
                stage.step()?;
            }
            let chosen: Vec<usize> = state(&stage, "chosen")?;
            assert_eq!(chosen.len(), 2);
            if step % 2 == 1 {
                assert_eq!(drawn.last(), Some(&chosen), "drawn again too early");
            }
            let batch = streams.batch("alignment", step);
            let sites = at_sites(&weights, batch, &chosen, &BTreeMap::new())?;
            let mut gradient = at_perturbation(&weights, batch, &scaled_to(sites, 0.8)?)?;
            gradient.retain(|name, _| {
                let layer = |layer: &usize| name.starts_with(&format!("layers.{layer}."));
                let own = chosen.iter().any(layer);
                own || trained == "attention" && !name.contains("mixer")
            });
            optimizer.step(&mut weights, &gradient)?;
            agree(&stage.weights, &weights)?;
            drawn.push(chosen);
        }
        drawn.dedup();
        assert!(drawn.len() > 1, "always the same layers: {drawn:?}");
    }
    Ok(())
}

#[test]
fn oasis() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment", "harmful"])?;
    let inner = json!({ "rho": 0.8, "layers": 2, "refresh": 3 });
    let mut stage = stage(&toy, &streams, ("oasis", json!({})), ("oasis", inner))?;
    let mut weights = plain::weights(&stage.weights)?;
    let mut optimizer = plain::AdamW::default();
    let (mut chosen, mut directions) = (Vec::new(), BTreeMap::new());
    stage.prepare()?;
    for step in 0..7 {
        if step % 3 == 0 {
            let harmful = streams.batch("harmful", step / 3);
            let norms = norms(&weights, harmful)?;
            let mut order = LAYERS.to_vec();
            order.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]));
            chosen = order[..2].to_vec();
            chosen.sort_unstable();
            let count = plain::real(harmful)?.sum_all()?.to_scalar::<f64>()?;
            directions = at_sites(&weights, harmful, &chosen, &BTreeMap::new())?;
            for direction in directions.values_mut() {
                // The gradient at padding is zero.
                *direction = (direction.sum(0)?.sum(0)? / count)?;
            }
        }
        stage.step()?;
        let batch = streams.batch("alignment", step);
        let mut eps = scaled_to(at_sites(&weights, batch, &chosen, &BTreeMap::new())?, 0.8)?;
        for (layer, eps) in &mut eps {
            let d = &directions[layer];
            let square = d.sqr()?.sum_all()?.to_scalar::<f64>()? + 1e-7;
            let along = (eps.broadcast_mul(d)?.sum_keepdim(2)? / square)?;
            *eps = (&*eps - along.broadcast_mul(d)?)?;
        }
        assert!(length(&eps)? <= 0.8 + 1e-12);
        let mut gradient = at_perturbation(&weights, batch, &eps)?;
        gradient.retain(|name, _| {
            chosen.iter().any(|layer| name.starts_with(&format!("layers.{layer}.")))
        });
        optimizer.step(&mut weights, &gradient)?;
        agree(&stage.weights, &weights)?;
    }
    Ok(())
}
