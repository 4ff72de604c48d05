//! Edits of finished weights: SafeLoRA, WiSE-FT, LoX, Antidote.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde_json::json;
use vxf_core::lineage::Lineage;
use vxf_core::{Lora, Reference, Result, Trainable};
use vxf_edits::leading_left;

use super::*;

type References = BTreeMap<Reference, Arc<dyn Lineage>>;

/// A stage that has `name` edit these weights of `backbone`.
fn edited(
    backbone: &dyn Backbone,
    name: &str,
    settings: Value,
    references: &References,
) -> Result<(Params, Params, BTreeMap<String, f64>)> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user"])?;
    let mut stage = stage(backbone, &streams, (name, settings), none())?;
    stage.session.references = references.clone();
    let before = stage.weights.copy()?;
    let done = stage.finish()?;
    Ok((before, done.weights, done.figures))
}

fn frobenius(of: &Tensor) -> Result<f64> {
    Ok(of.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
}

/// The projected change of a layer, and its cosine with the change.
fn projected(change: &Tensor, base: &Tensor, aligned: &Tensor) -> Result<(Tensor, f64)> {
    let v = (aligned - base)?;
    let c = (v.matmul(&v.t()?)? / frobenius(&v)?)?;
    let projected = c.matmul(change)?;
    let product = (&projected * change)?.sum_all()?.to_scalar::<f64>()?;
    let cosine = product / frobenius(&projected)? / frobenius(change)?;
    Ok((projected, cosine))
}

#[test]
fn safelora_of_full_weights() -> Result<()> {
    let toy = toy();
    let references = training::references(&toy, 5)?;
    let weight = |of: Reference, module: &str| references[&of].weight(module);
    let before = training::weights(&toy, 3)?;
    let mut cosines = Vec::new();
    let mut expected = BTreeMap::new();
    for (name, now) in before.iter().filter(|(name, _)| name.starts_with("layers.")) {
        let module = name.strip_suffix(".weight").expect("a weight");
        let aligned = weight(Reference::Aligned, module)?;
        let change = (now.detach() - &aligned)?;
        let (projected, cosine) = projected(&change, &weight(Reference::Base, module)?, &aligned)?;
        cosines.push(cosine);
        expected.insert(name.to_owned(), (cosine, (aligned + projected)?));
    }
    cosines.sort_by(f64::total_cmp);
    // By a threshold between two cosines, and by the number below it.
    let tau = (cosines[4] + cosines[5]) / 2.0;
    for settings in [json!({ "tau": tau }), json!({ "layers": 5 })] {
        let (before, after, figures) = edited(&toy, "safelora", settings, &references)?;
        assert_eq!((figures["projected_layers"], figures["changed_layers"]), (5.0, 12.0));
        for (name, after) in after.iter() {
            let wanted = match expected.get(name) {
                Some((cosine, projected)) if *cosine <= tau => projected.clone(),
                _ => before.get(name).expect("the same names").detach(),
            };
            assert!(frobenius(&(after.detach() - wanted)?)? < 1e-9, "{name}");
        }
    }
    Ok(())
}

/// A change that has no part along what alignment changed goes back to the aligned weight.
#[test]
fn safelora_of_a_change_outside_of_alignment() -> Result<()> {
    let toy = toy();
    let before = training::weights(&toy, 3)?;
    let name = before.names().find(|name| name.starts_with("layers.")).expect("a layer").to_owned();
    // Alignment changed the first row of one matrix, the user the second.
    let row = |row: usize, of: &Params| -> Result<Params> {
        let mut other = of.copy()?;
        let old = of.get(&name).expect("the same names").detach();
        let (rows, width) = old.dims2()?;
        let shift: Vec<f64> =
            (0..rows * width).map(|at| f64::from(u8::from(at / width == row))).collect();
        other.insert(name.clone(), (&old - Tensor::from_vec(shift, (rows, width), old.device())?)?);
        Ok(other)
    };
    let aligned = row(1, &before)?;
    let mut references = training::references(&toy, 5)?;
    references.insert(Reference::Base, Arc::new(row(0, &aligned)?));
    references.insert(Reference::Aligned, Arc::new(aligned.copy()?));
    for settings in [json!({ "tau": 0.0 }), json!({ "layers": 1 })] {
        let (_, after, figures) = edited(&toy, "safelora", settings, &references)?;
        assert_eq!((figures["projected_layers"], figures["changed_layers"]), (1.0, 1.0));
        for (name, after) in after.iter() {
            let wanted = aligned.get(name).expect("the same names").detach();
            assert!(frobenius(&(after.detach() - wanted)?)? < 1e-12, "{name}");
        }
    }
    Ok(())
}

/// A toy with an adapter on all layers, and references where the aligned model is the one below it.
fn adapted() -> Result<(Arc<dyn Backbone>, References)> {
    let toy = toy();
    let mut references = training::references(&toy, 5)?;
    let own = references[&Reference::Base].clone();
    let other = references[&Reference::Parent].clone();
    references.insert(Reference::Aligned, own);
    references.insert(Reference::Base, other);
    let targets = vec!["all-linear".to_owned()];
    let lora =
        Lora { rank: 2, alpha: 3.0, dropout: 0.0, target_modules: targets, ..Lora::default() };
    Ok((toy.with_trainable(&Trainable::Lora(lora))?, references))
}

#[test]
fn safelora_of_an_adapter() -> Result<()> {
    let (backbone, references) = adapted()?;
    let (before, after, _) = edited(&*backbone, "safelora", json!({ "tau": 1.0 }), &references)?;
    let mut projections = 0;
    for (name, after) in after.iter() {
        let before = before.get(name).expect("the same names").detach();
        let wanted = match name.strip_suffix(".lora_B").filter(|it| it.starts_with("layers.")) {
            None => before,
            Some(module) => {
                projections += 1;
                let aligned = references[&Reference::Aligned].weight(module)?;
                projected(&before, &references[&Reference::Base].weight(module)?, &aligned)?.0
            }
        };
        assert!(frobenius(&(after.detach() - wanted)?)? < 1e-9, "{name}");
    }
    assert_eq!(projections, 12);
    Ok(())
}

#[test]
fn wise_ft() -> Result<()> {
    let toy = toy();
    let references = training::references(&toy, 5)?;
    let (before, after, _) = edited(&toy, "wise-ft", json!({ "share": 0.25 }), &references)?;
    for (name, after) in after.iter() {
        let module = name.strip_suffix(".weight").expect("the toy has no biases");
        let aligned = references[&Reference::Aligned].weight(module)?;
        let wanted = ((before.get(name).expect("a weight").detach() * 0.75)? + (aligned * 0.25)?)?;
        assert!(frobenius(&(after.detach() - wanted)?.flatten_all()?)? < 1e-9, "{name}");
    }
    // Of an adapter on the aligned model: the same merged weights.
    let (backbone, references) = adapted()?;
    let (before, after, _) = edited(&*backbone, "wise-ft", json!({ "share": 0.25 }), &references)?;
    for (name, after) in after.iter() {
        let factor = if name.ends_with(".lora_B") { 0.75 } else { 1.0 };
        let wanted = (before.get(name).expect("a weight").detach() * factor)?;
        assert!(frobenius(&(after.detach() - wanted)?)? < 1e-9, "{name}");
    }
    Ok(())
}

/// An adapter that does not stand on the aligned model cannot carry the edit.
#[test]
fn an_adapter_elsewhere_is_refused() -> Result<()> {
    let (backbone, mut references) = adapted()?;
    references.insert(Reference::Aligned, references[&Reference::Base].clone());
    for (name, settings) in [("wise-ft", json!({ "share": 0.5 })), ("lox", json!({ "rank": 1 }))] {
        let error = edited(&*backbone, name, settings, &references);
        let error = error.expect_err("another model").to_string();
        assert!(error.contains("trainable = \"full\""), "{error}");
    }
    Ok(())
}

/// The leading part of a matrix with known singular values is found.
#[test]
fn lox_finds_leading_directions() -> Result<()> {
    let key = Key::root(9);
    let draw =
        |name: &str, rows: usize| key.child(name).normal(&[rows, 2], DType::F64, &Device::Cpu);
    // Two strong directions and weak noise.
    let (u, v) = (draw("u", 20)?, draw("v", 30)?);
    let noise = key.child("noise").normal(&[20, 30], DType::F64, &Device::Cpu)?;
    let strong = u.matmul(&v.t()?)?;
    let matrix = (&strong + (noise * 1e-9)?)?;
    let leading = leading_left(&matrix, 2, &key)?.expect("not zero");
    assert_eq!(leading.dims(), [20, 2]);
    let part = leading.matmul(&leading.t()?)?.matmul(&matrix)?;
    // The noise has a norm of about 2e-8.
    assert!(frobenius(&(part - strong)?)? < 1e-7);
    // The first direction alone is the best approximation of rank one: its error is the second
    // singular value, whose square is the rest of the squared norm.
    let first = leading_left(&matrix, 1, &key)?.expect("not zero");
    let part = first.matmul(&first.t()?)?.matmul(&matrix)?;
    let small = u.t()?.matmul(&u)?.matmul(&v.t()?.matmul(&v)?)?;
    let [[a, b], [c, d]] = <[[f64; 2]; 2]>::try_from(
        small.to_vec2::<f64>()?.into_iter().map(|row| [row[0], row[1]]).collect::<Vec<_>>(),
    )
    .expect("two by two");
    // The squared singular values are the eigenvalues of U^T U V^T V.
    let (trace, determinant) = (a + d, a * d - b * c);
    let second = (trace - (trace * trace - 4.0 * determinant).sqrt()) / 2.0;
    let off = frobenius(&(part - &matrix)?)? - second.sqrt();
    // The noise again, and the root of a difference of large numbers.
    assert!(off.abs() < 1e-6, "off by {off}");
    assert!(leading_left(&matrix.zeros_like()?, 2, &key)?.is_none());
    Ok(())
}

#[test]
fn lox() -> Result<()> {
    let toy = toy();
    let mut references = training::references(&toy, 5)?;
    // What alignment changed has rank one in each layer.
    let now = training::weights(&toy, 3)?;
    let key = Key::root(4);
    let base = now.iter().map(|(name, weight)| {
        let weight = weight.detach();
        let Ok((rows, columns)) = weight.dims2() else { return Ok((name.to_owned(), weight)) };
        let draw = |part: &str, shape: &[usize]| {
            key.child(name).child(part).normal(shape, DType::F64, &Device::Cpu)
        };
        let change = draw("u", &[rows, 1])?.matmul(&draw("v", &[1, columns])?)?;
        Ok((name.to_owned(), (weight - change)?))
    });
    let base: Params = base.collect::<Result<_>>()?;
    references.insert(Reference::Base, Arc::new(base.clone()));
    let settings = json!({ "rank": 1, "factor": 1.25 });
    let (before, after, _) = edited(&toy, "lox", settings, &references)?;
    for (name, after) in after.iter() {
        let before = before.get(name).expect("the same names").detach();
        let wanted = match name.starts_with("layers.") {
            true => {
                let change = (&before - base.get(name).expect("the same names"))?;
                (before + (change * 1.25)?)?
            }
            false => before,
        };
        assert!(frobenius(&(after.detach() - wanted)?.flatten_all()?)? < 1e-8, "{name}");
    }
    Ok(())
}

/// `weight` without the share of each row whose score `|w| root` is highest, or lowest.
fn pruned(weight: &Tensor, x: &Tensor, share: f64, highest: bool) -> Result<Tensor> {
    let squares: Vec<f64> = x.sqr()?.sum(0)?.to_vec1()?;
    let mut rows: Vec<Vec<f64>> = weight.to_vec2()?;
    for row in &mut rows {
        let columns = row.len();
        let kept = (columns as f64 * (1.0 - share)) as usize;
        for _ in 0..columns - kept {
            let score = |row: &[f64], at: usize| row[at].abs() * squares[at].sqrt();
            let left = (0..columns).filter(|&at| row[at] != 0.0);
            let order = |&i: &usize, &j: &usize| score(row, i).total_cmp(&score(row, j));
            let found = if highest { left.max_by(order) } else { left.min_by(order) };
            row[found.expect("a weight is left")] = 0.0;
        }
    }
    Ok(Tensor::new(rows, &Device::Cpu)?)
}

/// The inputs at real tokens of the layer `module`, over all harmful batches.
fn inputs(weights: &plain::Weights, streams: &Streams, module: &str) -> Result<Tensor> {
    let mut all = Vec::new();
    for at in 0..4 {
        let batch = streams.batch("harmful", at);
        let x = &plain::pass(weights, batch)?.inputs[module];
        for (row, length) in batch.lengths.iter().enumerate() {
            all.push(x.get(row)?.narrow(0, 0, *length)?);
        }
    }
    Ok(Tensor::cat(&all, 0)?)
}

#[test]
fn antidote() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "harmful"])?;
    let samples: usize = streams.0[1].1.iter().map(|batch| batch.lengths.len()).sum();
    for (prunes, highest) in [("highest", true), ("lowest", false)] {
        let settings = json!({ "share": 0.3, "samples": samples, "prunes": prunes });
        let mut stage = stage(&toy, &streams, ("antidote", settings.clone()), none())?;
        let before = plain::weights(&stage.weights)?;
        for (name, after) in stage.finish()?.weights.iter() {
            let module = name.strip_suffix(".weight").expect("the toy has no biases");
            let wanted = match name.starts_with("layers.") {
                true => {
                    let x = inputs(&before, &streams, module)?;
                    pruned(&before[name], &x, 0.3, highest)?
                }
                false => before[name].clone(),
            };
            assert!(frobenius(&(after.detach() - wanted)?.flatten_all()?)? < 1e-12, "{name}");
        }

        // An adapter: A reads what the layer reads, B what A gives.
        let (backbone, _) = adapted()?;
        let mut stage = self::stage(&*backbone, &streams, ("antidote", settings), none())?;
        let before = plain::weights(&stage.weights)?;
        let mut merged = plain::weights(&toy.initial(&Key::root(0))?)?;
        for (name, weight) in merged.iter_mut().filter(|(name, _)| name.starts_with("layers.")) {
            let module = name.strip_suffix(".weight").expect("no biases");
            let part = |of: &str| &before[&format!("{module}.lora_{of}")];
            // alpha 3 over rank 2
            *weight = (&*weight + (part("B").matmul(part("A"))? * 1.5)?)?;
        }
        for (name, after) in stage.finish()?.weights.iter() {
            let (module, part) = name.rsplit_once(".lora_").expect("an adapter");
            let mut x = inputs(&merged, &streams, module)?;
            if part == "B" {
                x = x.matmul(&before[&format!("{module}.lora_A")].t()?)?;
            }
            let wanted = pruned(&before[name], &x, 0.3, highest)?;
            assert!(frobenius(&(after.detach() - wanted)?)? < 1e-12, "{name}");
        }
    }
    Ok(())
}
