//! Methods of the alignment stage: SAM, Booster, LAT, CTRAP, TAR.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};
use serde_json::json;
use vxf_core::Result;
use vxf_testkit::plain::{self, Weights};

use super::*;

const STEPS: u64 = 6;

#[test]
fn sam() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment"])?;
    let method = ("sam", json!({}));
    let stage = stage(&toy, &streams, method, ("sam", json!({ "rho": 0.3 })))?;
    plain::follow(stage, STEPS, |step, weights| {
        let batch = streams.batch("alignment", step);
        let uphill = of_loss(weights, batch)?;
        let factor = 0.3 / (plain::norm(&uphill)? + 1e-12);
        of_loss(&plain::plus(weights, &uphill, factor)?, batch)
    });
    Ok(())
}

/// Booster, alone and with Vaccine as its inner player.
#[test]
fn booster() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment", "harmful"])?;
    for vaccine in [false, true] {
        let method = ("booster", json!({ "lambda": 2.0, "alpha": 0.2 }));
        let inner = if vaccine { ("vaccine", json!({ "rho": 0.7 })) } else { none() };
        let stage = stage(&toy, &streams, method, inner)?;
        plain::follow(stage, STEPS, |step, weights| {
            let batch = streams.batch("alignment", step);
            let aligned = match vaccine {
                false => of_loss(weights, batch)?,
                true => {
                    let sites = at_sites(weights, batch, &[0, 1, 2], &BTreeMap::new())?;
                    let factor = 0.7 / (length(&sites)? + 1e-7);
                    let added = sites.into_iter().map(|(layer, it)| Ok((layer, (it * factor)?)));
                    at_perturbation(weights, batch, &added.collect::<Result<_>>()?)?
                }
            };
            let harmful = streams.batch("harmful", step);
            let before = of_loss(weights, harmful)?;
            let moved = plain::plus(weights, &before, -0.2 / (plain::norm(&before)? + 1e-7))?;
            let after = of_loss(&moved, harmful)?;
            plain::plus(&plain::plus(&aligned, &before, 2.0)?, &after, -2.0)
        });
    }
    Ok(())
}

#[test]
fn lat() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment"])?;
    let settings =
        json!({ "rho": 0.9, "steps": 3, "step_size": 0.6, "sites": ["attention_output"] });
    let stage = stage(&toy, &streams, ("lat", json!({})), ("lat", settings))?;
    plain::follow(stage, STEPS, |step, weights| {
        let batch = streams.batch("alignment", step);
        let mut eps: BTreeMap<usize, Tensor> = BTreeMap::new();
        for _ in 0..3 {
            let slope = at_sites(weights, batch, &[0, 1, 2], &eps)?;
            let factor = 0.6 * 0.9 / (length(&slope)? + 1e-7);
            for (layer, slope) in slope {
                let own = (slope * factor)?;
                let sum = match eps.get(&layer) {
                    Some(before) => (before + own)?,
                    None => own,
                };
                eps.insert(layer, sum);
            }
            let now = length(&eps)?;
            if now > 0.9 {
                for tensor in eps.values_mut() {
                    *tensor = (&*tensor * (0.9 / now))?;
                }
            }
        }
        at_perturbation(weights, batch, &eps)
    });
    Ok(())
}

/// The mean of `-log p(token)` at labelled positions.
fn of_token(logits: &Tensor, batch: &Batch, token: usize) -> Result<Tensor> {
    let log_p = logits.broadcast_sub(&logits.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
    let chosen = log_p.narrow(2, token, 1)?.flatten_all()?;
    let counted: Vec<_> = batch.targets.iter().map(|it| f64::from(u8::from(*it >= 0))).collect();
    let count: f64 = counted.iter().sum();
    let counted = Tensor::from_vec(counted, batch.targets.len(), logits.device())?;
    Ok(((chosen * counted)?.sum_all()? * (-1.0 / count))?)
}

#[test]
fn ctrap() -> Result<()> {
    let toy = toy();
    for length in ["gradient", "unit"] {
        let streams = Streams::new(&toy, &["alignment", "harmful"])?;
        let settings = json!({ "lambda": 0.5, "alpha": 0.2, "length": length, "token": 4 });
        let stage = stage(&toy, &streams, ("ctrap", settings), none())?;
        plain::follow(stage, STEPS, |step, weights| {
            let batch = streams.batch("alignment", step);
            let harmful = of_loss(weights, streams.batch("harmful", step))?;
            let alpha = match length {
                "unit" => 0.2 / (plain::norm(&harmful)? + 1e-7),
                _ => 0.2,
            };
            let moved = plain::plus(weights, &harmful, -alpha)?;
            let trap = plain::gradient(&moved, |weights| {
                of_token(&plain::pass(weights, batch)?.logits, batch, 4)
            })?;
            plain::plus(&of_loss(weights, batch)?, &trap, 0.5)
        });
    }
    Ok(())
}

/// The mean of `sum p log p` at labelled positions.
fn negative_entropy(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
    let log_p = logits.broadcast_sub(&logits.exp()?.sum_keepdim(D::Minus1)?.log()?)?;
    let own = (log_p.exp()? * &log_p)?.sum(D::Minus1)?.flatten_all()?;
    let counted: Vec<_> = batch.targets.iter().map(|it| f64::from(u8::from(*it >= 0))).collect();
    let count: f64 = counted.iter().sum();
    let counted = Tensor::from_vec(counted, batch.targets.len(), logits.device())?;
    Ok(((own * counted)?.sum_all()? * (1.0 / count))?)
}

/// Adam without decay or clipping.
#[derive(Default)]
struct Adam {
    moments: BTreeMap<String, (Tensor, Tensor)>,
    steps: i32,
}

impl Adam {
    fn step(&mut self, weights: &Weights, gradient: &Weights, rate: f64) -> Result<Weights> {
        self.steps += 1;
        let mut moved = Weights::new();
        for (name, weight) in weights {
            let g = &gradient[name];
            let (m, v) = match self.moments.get(name) {
                Some((m, v)) => (((m * 0.9)? + (g * 0.1)?)?, ((v * 0.999)? + (g.sqr()? * 0.001)?)?),
                None => ((g * 0.1)?, (g.sqr()? * 0.001)?),
            };
            let m_hat = (&m / (1.0 - 0.9f64.powi(self.steps)))?;
            let v_hat = (&v / (1.0 - 0.999f64.powi(self.steps)))?;
            let change = (m_hat / (v_hat.sqrt()? + 1e-8)?)?;
            moved.insert(name.clone(), (weight - (change * rate)?)?);
            self.moments.insert(name.clone(), (m, v));
        }
        Ok(moved)
    }
}

#[test]
fn tar() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment", "harmful"])?;
    let settings = json!({
        "inner_steps": 4, "every": 2, "decay": 0.3, "rates": [0.02], "lambda_tr": 1.5,
        "lambda_retain": 0.8, "representation": 0.5,
    });
    let stage = stage(&toy, &streams, ("tar", settings), none())?;
    let start = plain::weights(&stage.weights)?;
    let mut read = 0;
    plain::follow(stage, STEPS, |step, weights| {
        let batch = streams.batch("alignment", step);
        let real = plain::real(batch)?;
        let count = real.sum_all()?.to_scalar::<f64>()?;
        let before = plain::pass(&start, batch)?.blocks;
        let retain = plain::gradient(weights, |weights| {
            let passed = plain::pass(weights, batch)?;
            let mut loss = passed.loss;
            for (now, before) in passed.blocks.iter().zip(&before) {
                let apart = (now - before)?.sqr()?.sum_keepdim(D::Minus1)?;
                let own = ((apart + 1e-12)?.sqrt()?.mul(&real)?.sum_all()? / count)?;
                loss = (loss + (own * (0.5 / 3.0))?)?;
            }
            Ok(loss)
        })?;
        let (mut attacked, mut adam) = (weights.clone(), Adam::default());
        let mut gradient = scaled(&retain, 0.8)?;
        for inner in 1..=4 {
            let slope = of_loss(&attacked, streams.batch("harmful", read))?;
            read += 1;
            attacked = adam.step(&attacked, &slope, 0.02)?;
            if inner % 2 == 0 {
                let held_out = streams.batch("harmful", read);
                read += 1;
                let slope = plain::gradient(&attacked, |weights| {
                    negative_entropy(&plain::pass(weights, held_out)?.logits, held_out)
                })?;
                let weight = (0.3 * (f64::from(inner) - 4.0)).exp();
                gradient = plain::plus(&gradient, &slope, 1.5 * weight)?;
            }
        }
        Ok(gradient)
    });
    Ok(())
}
