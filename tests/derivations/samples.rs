//! Methods of single samples: SBR, BDS and one-shot repair.

use candle_core::{Device, Tensor};
use serde_json::json;
use vxf_core::{Batch, Result};
use vxf_testkit::plain::{self, Weights};

use super::*;

const STEPS: u64 = 6;

/// Streams of the user and one further batch that is read in every step.
fn with_one(toy: &Toy, name: &'static str) -> Result<Streams> {
    let Streams(mut all) = Streams::new(toy, &["user"])?;
    let one = training::batches(toy, 4, &Key::root(6))?.swap_remove(1);
    all.push((name, vec![one]));
    Ok(Streams(all))
}

/// The last normed states at the last tokens of the prompts, `[samples, width]`.
fn anchored(weights: &Weights, batch: &Batch) -> Result<Tensor> {
    let passed = plain::pass(weights, batch)?;
    let states = plain::normed(passed.blocks.last().expect("layers"), weights)?;
    let (rows, columns) = batch.shape();
    let mut found = Vec::new();
    for row in 0..rows {
        let targets = &batch.targets[row * columns..][..columns];
        let first = targets.iter().position(|target| *target >= 0).expect("a label");
        found.push(states.get(row)?.narrow(0, first, 1)?);
    }
    Ok(Tensor::cat(&found, 0)?)
}

#[test]
fn sbr() -> Result<()> {
    let toy = toy();
    let streams = with_one(&toy, "anchors")?;
    let alpha = 3.0;
    let stage = stage(&toy, &streams, ("sbr", json!({ "alpha": alpha })), none())?;
    let anchors = streams.batch("anchors", 0);
    let first = anchored(&plain::weights(&stage.weights)?, anchors)?;
    plain::follow(stage, STEPS, |step, weights| {
        plain::gradient(weights, |weights| {
            let user = plain::pass(weights, streams.batch("user", step))?.loss;
            let away = (anchored(weights, anchors)? - &first)?.sqr()?.mean_all()?;
            Ok((user + (away * alpha)?)?)
        })
    });
    Ok(())
}

/// The mean loss of each sample.
fn losses(weights: &Weights, batch: &Batch) -> Result<Tensor> {
    let logits = plain::pass(weights, batch)?.logits;
    let (rows, columns) = batch.shape();
    let mut all = Vec::new();
    for row in 0..rows {
        let labels = batch.targets[row * columns..][..columns].iter();
        if labels.filter(|target| **target >= 0).count() == 0 {
            all.push(Tensor::zeros((), DType::F64, &Device::Cpu)?);
            continue;
        }
        // A batch of one sample: its loss is the mean over its labels.
        let one = Batch {
            tokens: batch.tokens.narrow(0, row, 1)?,
            targets: batch.targets[row * columns..][..columns].to_vec(),
            lengths: vec![batch.lengths[row]],
            ..batch.clone()
        };
        all.push(plain::loss(&logits.narrow(0, row, 1)?, &one)?);
    }
    Ok(Tensor::stack(&all, 0)?)
}

#[test]
fn bds() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    let (rate, safe) = (0.2, 0.5);
    let settings = json!({ "score_rate": rate, "safe": safe });
    let stage = stage(&toy, &streams, ("bds", settings), none())?;
    let sizes: Vec<usize> = streams.0[0].1.iter().map(|batch| batch.lengths.len()).collect();
    let all: usize = sizes.iter().sum();
    let (mut scores, mut m, mut v) = (vec![0.1f64; all], vec![0.0; all], vec![0.0; all]);
    plain::follow(stage, STEPS, |step, weights| {
        let at = step as usize % sizes.len();
        let first: usize = sizes[..at].iter().sum();
        let own: Vec<usize> = (first..first + sizes[at]).collect();
        let exps: Vec<f64> = scores.iter().map(|score| score.exp()).collect();
        let sum: f64 = exps.iter().sum();
        let shares: Vec<f64> = exps.iter().map(|exp| exp / sum).collect();
        let batch = streams.batch("user", step);
        let of_own: Vec<f64> = own.iter().map(|&i| shares[i] * all as f64).collect();
        let of_own = Tensor::new(of_own, &Device::Cpu)?;
        let found: Vec<f64> = losses(weights, batch)?.to_vec1()?;
        let gradient = plain::gradient(weights, |weights| {
            let user = (losses(weights, batch)? * &of_own)?.mean_all()?;
            let aligned = losses(weights, streams.batch("alignment", step))?.mean_all()?;
            Ok((user + (aligned * safe)?)?)
        });
        // d/dc_j of the mean of n p_i l_i is n / B sum_i l_i p_i (1[i = j] - p_j).
        for j in 0..all {
            let mut slope = 0.0;
            for (&i, loss) in own.iter().zip(&found) {
                let same = f64::from(u8::from(i == j));
                slope += all as f64 / own.len() as f64 * loss * shares[i] * (same - shares[j]);
            }
            m[j] = 0.9 * m[j] + 0.1 * slope;
            v[j] = 0.95 * v[j] + 0.05 * slope * slope;
            let n = step as i32 + 1;
            let (first, second) = (m[j] / (1.0 - 0.9f64.powi(n)), v[j] / (1.0 - 0.95f64.powi(n)));
            scores[j] -= rate * first / (second.sqrt() + 1e-8);
        }
        gradient
    });
    Ok(())
}

#[test]
fn one_shot() -> Result<()> {
    let toy = toy();
    let streams = with_one(&toy, "repair")?;
    let (steps, rate) = (4, 0.02);
    let settings = json!({ "steps": steps, "rate": rate });
    let mut stage = stage(&toy, &streams, ("one-shot-repair", settings), none())?;
    let mut by_hand = plain::weights(&stage.weights)?;
    let zeros = scaled(&by_hand, 0.0)?;
    let (mut m, mut v) = (zeros.clone(), zeros);
    for step in 1..=steps {
        let gradient = of_loss(&by_hand, streams.batch("repair", 0))?;
        for (name, g) in &gradient {
            m.insert(name.clone(), ((&m[name] * 0.9)? + (g * 0.1)?)?);
            v.insert(name.clone(), ((&v[name] * 0.999)? + (g.sqr()? * 0.001)?)?);
            let first = (&m[name] / (1.0 - 0.9f64.powi(step)))?;
            let second = (&v[name] / (1.0 - 0.999f64.powi(step)))?;
            let change = ((first / (second.sqrt()? + 1e-8)?)? * rate)?;
            by_hand.insert(name.clone(), (&by_hand[name] - change)?);
        }
    }
    let done = stage.finish()?;
    assert!(done.figures["repair_loss"] > 0.0);
    agree(&done.weights, &by_hand)
}

/// The mean attention of each head to the first token, as the toy has it, in each layer.
fn paid(weights: &Weights, batch: &Batch) -> Result<Tensor> {
    let passed = plain::pass(weights, batch)?;
    let mut layers = Vec::new();
    for layer in 0..passed.blocks.len() {
        let name = format!("layers.{layer}.mixer.v_proj");
        let value =
            passed.inputs[&name].broadcast_matmul(&weights[&format!("{name}.weight")].t()?)?;
        let all = (value.neg()?.exp()? + 1.0)?.recip()?;
        let one = |row: usize| {
            let rest = batch.lengths[row] - 1;
            all.get(row)?.narrow(0, 1, rest)?.mean(0)
        };
        let rows = (0..batch.lengths.len()).map(one).collect::<candle_core::Result<Vec<_>>>()?;
        layers.push(Tensor::stack(&rows, 0)?.mean(0)?);
    }
    Ok(Tensor::stack(&layers, 0)?)
}

#[test]
fn surgery() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "harmful", "alignment"])?;
    let alpha = 40.0;
    let stage = stage(&toy, &streams, ("surgery", json!({ "alpha": alpha })), none())?;
    plain::follow(stage, STEPS, |step, weights| {
        plain::gradient(weights, |weights| {
            let user = plain::pass(weights, streams.batch("user", step))?.loss;
            let harmful = paid(weights, streams.batch("harmful", step))?;
            let safe = paid(weights, streams.batch("alignment", step))?;
            let more = (harmful - safe)?.relu()?.mean_all()?;
            Ok((user + (more * alpha)?)?)
        })
    });
    Ok(())
}
