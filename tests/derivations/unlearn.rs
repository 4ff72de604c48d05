//! RepNoise and SEAM.

use candle_core::{D, Tensor};
use serde_json::json;
use vxf_core::{Batch, Result};
use vxf_testkit::plain::{self, Weights};

use super::*;

const STEPS: u64 = 5;
const LAYERS: usize = 3;

/// `log(1 + (CE + sum_l CE_l) / (L + 1))`.
fn seen(weights: &Weights, batch: &Batch) -> Result<Tensor> {
    let passed = plain::pass(weights, batch)?;
    let last = plain::normed(&passed.blocks[LAYERS - 1], weights)?;
    let mut sum = passed.loss;
    for state in [&passed.embedded, &passed.blocks[0], &passed.blocks[1], &last] {
        sum = (sum + plain::loss(&plain::lens(state, weights)?, batch)?)?;
    }
    Ok(((sum / 4.0)? + 1.0)?.log()?)
}

/// The discrepancy of rows, from differences of pairs.
fn discrepancy(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let rows: Vec<Tensor> =
        [x, y].iter().flat_map(|it| it.chunk(it.dims()[0], 0)).flatten().collect();
    let half = rows.len() / 2;
    let mut squares = Vec::new();
    let mut total = 0.0;
    for a in &rows {
        for b in &rows {
            let square = (a - b)?.sqr()?.sum_all()?;
            total += square.to_scalar::<f64>()?;
            squares.push(square);
        }
    }
    let middle = total / (rows.len() * rows.len() - rows.len()) as f64;
    let mut sum = Tensor::zeros((), DType::F64, &candle_core::Device::Cpu)?;
    for (index, square) in squares.iter().enumerate() {
        let (i, j) = (index / rows.len(), index % rows.len());
        let sign = if (i < half) == (j < half) { 1.0 } else { -1.0 };
        for width in [middle / 4.0, middle / 2.0, middle, middle * 2.0, middle * 4.0] {
            sum = (sum + ((square / -width)?.exp()? * sign)?)?;
        }
    }
    // The mean runs over pairs of one row of each.
    Ok((sum / (half * half) as f64)?)
}

/// 1 at the answer's tokens.
fn answers(batch: &Batch, width: usize) -> Result<Tensor> {
    let (rows, columns) = batch.shape();
    let mut mask = vec![0.0; rows * columns];
    for row in 0..rows {
        for column in 1..columns {
            if batch.targets[row * columns + column - 1] >= 0 {
                mask[row * columns + column] = 1.0;
            }
        }
    }
    let mask = Tensor::from_vec(mask, (rows, columns, 1), &candle_core::Device::Cpu)?;
    Ok(mask.broadcast_as((rows, columns, width))?.contiguous()?)
}

#[test]
fn repnoise() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment", "harmful"])?;
    let (beta, alpha) = (0.7, 0.4);
    let stage =
        stage(&toy, &streams, ("repnoise", json!({ "beta": beta, "alpha": alpha })), none())?;
    let key = stage.session.key.clone();
    plain::follow(stage, STEPS, |step, weights| {
        let aligned = of_loss(weights, streams.batch("alignment", step))?;
        let batch = streams.batch("harmful", step);
        let harmful = plain::gradient(weights, |weights| {
            let mut loss = (seen(weights, batch)? * -alpha)?;
            for (layer, states) in plain::pass(weights, batch)?.mlps.iter().enumerate() {
                let mask = answers(batch, states.dim(D::Minus1)?)?;
                let key = key.child("noise").index(step).index(0).index(layer as u64);
                let noise = key.normal(states.dims(), DType::F64, states.device())?;
                let rows = |x: Tensor| x.reshape((states.dim(0)?, ()));
                let (x, y) = (rows((states * &mask)?)?, rows((noise * &mask)?)?);
                loss = (loss + (discrepancy(&x, &y)? * (beta / LAYERS as f64))?)?;
            }
            Ok(loss)
        })?;
        plain::plus(&aligned, &harmful, 1.0)
    });
    Ok(())
}

/// With the alignment stream as the benign one, and with a stream of its own.
#[test]
fn seam() -> Result<()> {
    let toy = toy();
    for benign in ["alignment", "helpful"] {
        let streams = Streams::new(&toy, &["alignment", "harmful", "helpful"])?;
        let (alpha, beta, epsilon) = (0.6, 0.3, 1e-3);
        let settings =
            json!({ "alpha": alpha, "beta": beta, "epsilon": epsilon, "benign": benign });
        let stage = stage(&toy, &streams, ("seam", settings), none())?;
        plain::follow(stage, STEPS, |step, weights| {
            let batch = streams.batch("harmful", step);
            let kept = streams.batch(benign, step);
            let unlearned = plain::gradient(weights, |weights| Ok(seen(weights, batch)?.neg()?))?;
            let aligned = of_loss(weights, streams.batch("alignment", step))?;
            let (a, b) = (of_loss(weights, batch)?, of_loss(weights, kept)?);
            let (length_a, length_b) = (plain::norm(&a)?, plain::norm(&b)?);
            let cosine = dot(&a, &b)? / (length_a * length_b + 1e-8);
            let (unit_a, unit_b) = (scaled(&a, 1.0 / length_a)?, scaled(&b, 1.0 / length_b)?);
            let to_b = plain::plus(&unit_b, &unit_a, -cosine)?;
            let to_a = plain::plus(&unit_a, &unit_b, -cosine)?;
            let a_there = of_loss(&plain::plus(weights, &to_b, epsilon)?, batch)?;
            let b_there = of_loss(&plain::plus(weights, &to_a, epsilon)?, kept)?;
            let of_a = scaled(&plain::plus(&a_there, &a, -1.0)?, beta / epsilon / length_a)?;
            let of_b = scaled(&plain::plus(&b_there, &b, -1.0)?, beta / epsilon / length_b)?;
            let sum = plain::plus(&unlearned, &aligned, alpha)?;
            plain::plus(&plain::plus(&sum, &of_a, 1.0)?, &of_b, 1.0)
        });
    }
    Ok(())
}
