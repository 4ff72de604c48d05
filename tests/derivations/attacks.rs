//! Attacks that edit finished weights, abliteration and pruning; and one that trains, `unalign`.

use serde_json::json;
use vxf_testkit::plain;

use super::*;

/// What `name` makes of the toy's weights, and its figures.
fn attacked(
    toy: &Toy,
    streams: &Streams,
    name: &str,
    settings: Value,
) -> Result<(Weights, Weights, BTreeMap<String, f64>)> {
    let mut stage = stage(toy, streams, (name, settings), none())?;
    let before = plain::weights(&stage.weights)?;
    let done = stage.finish()?;
    Ok((before, plain::weights(&done.weights)?, done.figures))
}

fn farthest(one: &Tensor, other: &Tensor) -> Result<f64> {
    Ok((one - other)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f64>()?)
}

/// The hidden embeddings after `layer` at the last prompt token of each sample, by the plain oracle.
fn at_last_prompt_token(weights: &Weights, batch: &Batch, layer: usize) -> Result<Vec<Vec<f64>>> {
    let blocks = plain::pass(weights, batch)?.blocks;
    let (rows, columns) = batch.shape();
    let mut found = Vec::new();
    for row in 0..rows {
        let targets = &batch.targets[row * columns..(row + 1) * columns];
        // The position before the first label: it predicts the answer's first token.
        let Some(last) = targets.iter().position(|target| *target >= 0) else { continue };
        found.push(blocks[layer].get(row)?.get(last)?.to_vec1()?);
    }
    Ok(found)
}

fn mean(of: &[Vec<f64>]) -> Vec<f64> {
    let sum = |column: usize| of.iter().map(|row| row[column]).sum::<f64>() / of.len() as f64;
    (0..of[0].len()).map(sum).collect()
}

/// The difference of means is taken over both streams, and nothing that an edited weight writes has a part
/// along it. All other weights stay.
#[test]
fn abliterate() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "harmful"])?;
    for (depth, layer) in [(0.0, 0), (0.5, 1), (1.0, 2)] {
        let settings = json!({ "depth": depth, "modules": ["o_proj", "down_proj", "embedding"] });
        let (before, after, figures) = attacked(&toy, &streams, "abliterate", settings)?;
        let of = |name: &str, batches: u64| -> Result<Vec<f64>> {
            let mut all = Vec::new();
            for at in 0..batches {
                all.extend(at_last_prompt_token(&before, streams.batch(name, at), layer)?);
            }
            Ok(mean(&all))
        };
        // Three batches of the main stream, four of the next: an epoch of each.
        let (forbidden, harmless) = (of("harmful", 4)?, of("user", 3)?);
        let r: Vec<f64> = forbidden.iter().zip(&harmless).map(|(a, b)| a - b).collect();
        let length = r.iter().map(|a| a * a).sum::<f64>().sqrt();
        assert!((figures["direction_length"] - length).abs() < 1e-9 * length, "{figures:?}");
        assert_eq!(figures["edited_weights"], 7.0, "two of each layer, and the embedding");
        let r: Vec<f64> = r.iter().map(|a| a / length).collect();
        for (name, after) in &after {
            let old: Vec<Vec<f64>> = match before[name].dims() {
                [_, _] => before[name].to_vec2()?,
                _ => continue,
            };
            let mut wanted = old.clone();
            match name.as_str() {
                // Rows are what tokens write.
                "embedding.weight" => {
                    for row in &mut wanted {
                        let along: f64 = row.iter().zip(&r).map(|(a, b)| a * b).sum();
                        row.iter_mut().zip(&r).for_each(|(a, b)| *a -= along * b);
                    }
                }
                // Columns are what inputs write.
                name if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") => {
                    for column in 0..old[0].len() {
                        let along: f64 = old.iter().zip(&r).map(|(row, b)| row[column] * b).sum();
                        wanted.iter_mut().zip(&r).for_each(|(row, b)| row[column] -= along * b);
                    }
                }
                _ => {}
            }
            let shape = before[name].dims2()?;
            let wanted = Tensor::from_vec(wanted.concat(), shape, &candle_core::Device::Cpu)?;
            assert!(farthest(after, &wanted)? < 1e-10, "{name} at depth {depth}");
        }
    }
    Ok(())
}

/// Fewer samples than a batch has: only the first ones count.
#[test]
fn abliterate_of_few_samples() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "harmful"])?;
    let settings = json!({ "samples": 1, "depth": 1.0 });
    let (before, _, figures) = attacked(&toy, &streams, "abliterate", settings)?;
    let first = |name: &str| -> Result<Vec<f64>> {
        Ok(at_last_prompt_token(&before, streams.batch(name, 0), 2)?.swap_remove(0))
    };
    let (a, b) = (first("harmful")?, first("user")?);
    let length = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
    assert!((figures["direction_length"] - length).abs() < 1e-9 * length, "{figures:?}");
    Ok(())
}

/// A model without a weight of that name is told, not left as it is.
#[test]
fn abliterate_of_no_weight() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "harmful"])?;
    let error = attacked(&toy, &streams, "abliterate", json!({ "modules": ["c_proj"] }));
    let error = error.expect_err("no such weight").to_string();
    assert!(error.contains("c_proj") && error.contains("set `modules`"), "{error}");
    Ok(())
}

/// The smallest magnitudes of each matrix in the layers are zero, and nothing else has changed.
#[test]
fn prune() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user"])?;
    let (before, after, figures) = attacked(&toy, &streams, "prune", json!({ "share": 0.25 }))?;
    let mut zeros = 0.0;
    for (name, after) in &after {
        let (old, new): (Vec<f64>, Vec<f64>) =
            (before[name].flatten_all()?.to_vec1()?, after.flatten_all()?.to_vec1()?);
        if !name.starts_with("layers.") {
            assert_eq!(old, new, "{name}");
            continue;
        }
        let mut sorted: Vec<f64> = old.iter().map(|a| a.abs()).collect();
        sorted.sort_by(f64::total_cmp);
        let count = old.len() / 4;
        zeros += count as f64;
        // Magnitudes of drawn weights differ, so a threshold between two of them says the same.
        let threshold = (sorted[count - 1] + sorted[count]) / 2.0;
        for (old, new) in old.iter().zip(&new) {
            assert_eq!(*new, if old.abs() < threshold { 0.0 } else { *old }, "{name}");
        }
    }
    assert_eq!(figures["pruned_weights"], zeros);
    Ok(())
}

#[test]
fn unalign() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    // The second limit is below every loss.
    for limit in [50.0, 0.1] {
        let settings = json!({ "lambda": 0.3, "limit": limit });
        let stage = stage(&toy, &streams, ("unalign", settings), none())?;
        plain::follow(stage, 5, |step, weights| {
            let user = of_loss(weights, streams.batch("user", step))?;
            let aligned = of_loss(weights, streams.batch("alignment", step))?;
            plain::plus(&user, &aligned, if limit > 1.0 { -0.3 } else { 0.0 })
        });
    }
    Ok(())
}
