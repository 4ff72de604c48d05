//! PACT, position by position.

use candle_core::{Device, Tensor};
use serde_json::json;
use vxf_core::{Batch, Reference, Result};
use vxf_testkit::plain::{self, Weights};

use super::*;

/// Settings of the test, other than the published ones.
#[derive(Clone, Copy)]
struct Case {
    /// Answer tokens that are read to find the safety tokens.
    positions: usize,
    prefix: usize,
    decay: f64,
    header: usize,
}

/// An answer token of a batch: its sample, the position that predicts it, its place in the answer.
type Position = (usize, usize, usize);

fn answer_tokens(batch: &Batch) -> Vec<Position> {
    let (rows, columns) = batch.shape();
    let of = |row: usize| {
        let labelled = (0..columns).filter(move |at| batch.targets[row * columns + at] >= 0);
        labelled.enumerate().map(move |(place, column)| (row, column, place))
    };
    (0..rows).flat_map(of).collect()
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / sum).collect()
}

fn logits(weights: &Weights, batch: &Batch) -> Result<Vec<Vec<Vec<f64>>>> {
    Ok(plain::pass(weights, batch)?.logits.to_vec3()?)
}

/// The mean probability of each token over early answer tokens, then over samples.
fn probabilities(weights: &Weights, batches: &[Batch], positions: usize) -> Result<Vec<f64>> {
    let mut of_samples: Vec<Vec<f64>> = Vec::new();
    for batch in batches {
        let logits = logits(weights, batch)?;
        let all = answer_tokens(batch);
        for sample in 0..batch.shape().0 {
            let own: Vec<_> = all.iter().filter(|(row, ..)| *row == sample).collect();
            let first = own.first().map_or(0, |(_, column, _)| *column);
            let early = own.iter().filter(|(_, column, _)| *column < first + positions);
            let early: Vec<Vec<f64>> =
                early.map(|(row, column, _)| softmax(&logits[*row][*column])).collect();
            if !early.is_empty() {
                of_samples.push(mean(&early));
            }
        }
    }
    Ok(mean(&of_samples))
}

fn mean(of: &[Vec<f64>]) -> Vec<f64> {
    let width = of[0].len();
    (0..width).map(|at| of.iter().map(|own| own[at]).sum::<f64>() / of.len() as f64).collect()
}

/// The safety tokens, ascending, and the weight of each.
fn safety_tokens(aligned: &[f64], base: &[f64], count: usize) -> Vec<(usize, f64)> {
    let mut tokens: Vec<usize> = (0..aligned.len()).collect();
    tokens.sort_by(|a, b| aligned[*b].partial_cmp(&aligned[*a]).expect("numbers"));
    let mut tokens = tokens[..count].to_vec();
    tokens.sort();
    let differences: Vec<f64> = tokens.iter().map(|token| aligned[*token] - base[*token]).collect();
    let n = count as f64;
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|it| (it - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let weights = differences.iter().map(|it| ((it - mean) / (variance.sqrt() + 1e-6)).max(0.0));
    tokens.into_iter().zip(weights).collect()
}

/// The share of tokens that reach the probability 0.7, the most probable first.
fn spread(logits: &[f64]) -> f64 {
    let mut probabilities = softmax(logits);
    probabilities.sort_by(|a, b| b.partial_cmp(a).expect("numbers"));
    let (mut sum, mut count) = (0.0, 0);
    while sum < 0.7 {
        sum += probabilities[count];
        count += 1;
    }
    count as f64 / logits.len() as f64
}

/// Each sample with the last `kept` tokens of its prompt alone, as a batch of its own.
fn without_prompts(batch: &Batch, kept: usize) -> Result<Vec<Batch>> {
    let (_, columns) = batch.shape();
    let tokens: Vec<Vec<u32>> = batch.tokens.to_vec2()?;
    let one = |(row, tokens): (usize, &Vec<u32>)| {
        let targets = &batch.targets[row * columns..][..columns];
        let first = targets.iter().position(|target| *target >= 0);
        let first = first.map_or(batch.lengths[row], |at| at + 1);
        let from = first.saturating_sub(kept);
        let tokens = &tokens[from..batch.lengths[row]];
        let labels: Vec<i64> = std::iter::once(-100)
            .chain(targets[from..].iter().copied())
            .take(tokens.len())
            .collect();
        Batch::from_rows(&[tokens], &[labels], &Device::Cpu)
    };
    tokens.iter().enumerate().map(one).collect()
}

fn agrees(case: Case) -> Result<()> {
    let Case { positions, prefix, decay, header } = case;
    let (lambda, temperature, slope) = (0.7, 1.5, 3.0);
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "safety"])?;
    let settings = json!({
        "lambda": lambda, "temperature": temperature, "tokens": 6, "positions": positions, "top_p": 0.7,
        "slope": slope, "prefix": prefix, "decay": decay, "header": header,
    });
    let stage = stage(&toy, &streams, ("pact", settings), none())?;
    let aligned = plain::weights(&stage.weights)?;
    let base = plain::weights(&stage.session.references[&Reference::Base].model()?.1)?;
    let (_, safety) = &streams.0[1];
    let of = |weights: &Weights| probabilities(weights, safety, positions);
    let held = safety_tokens(&of(&aligned)?, &of(&base)?, 6);
    let ids: Vec<u32> = held.iter().map(|(id, _)| *id as u32).collect();
    let chosen = |logits: &[f64]| -> Vec<f64> { held.iter().map(|(id, _)| logits[*id]).collect() };
    plain::follow(stage, 6, |step, weights| {
        let batch = streams.batch("user", step);
        let asked = logits(&aligned, batch)?;
        // Random prompts have no ending in common: one token is left.
        let alone = without_prompts(batch, header.max(1))?;
        let alone: Vec<_> = alone
            .iter()
            .map(|batch| Ok((answer_tokens(batch), logits(&aligned, batch)?)))
            .collect::<Result<_>>()?;
        let now = logits(weights, batch)?;
        plain::gradient(weights, |weights| {
            let passed = plain::pass(weights, batch)?;
            let all = answer_tokens(batch);
            let mut loss = passed.loss.clone();
            for &(row, column, place) in &all {
                let (own, alone) = &alone[row];
                let (_, other, _) = own[place];
                let (z, z_alone) = (chosen(&asked[row][column]), chosen(&alone[0][other]));
                let apart = spread(&chosen(&now[row][column])) - spread(&z_alone);
                let open = match (place >= prefix, decay > 0.0) {
                    (false, _) => 1.0,
                    (true, true) => (-((place - prefix) as f64) / decay).exp(),
                    (true, false) => 0.0,
                };
                let c = open / (1.0 + (-slope * apart).exp());
                let teacher: Vec<f64> = z
                    .iter()
                    .zip(&z_alone)
                    .map(|(a, b)| ((1.0 - c) * a + c * b) / temperature)
                    .collect();
                let weighed: Vec<f64> = softmax(&teacher)
                    .iter()
                    .zip(&held)
                    .map(|(p, (_, weight))| p * weight)
                    .collect();
                let sum: f64 = weighed.iter().sum();
                let student = passed.logits.get(row)?.get(column)?;
                let student = (student.index_select(&Tensor::new(&ids[..], &Device::Cpu)?, 0)?
                    / temperature)?;
                let log_p = student.broadcast_sub(&student.exp()?.sum_keepdim(0)?.log()?)?;
                let share = lambda * temperature * temperature / all.len() as f64;
                for (at, q) in
                    weighed.iter().map(|it| it / sum).enumerate().filter(|(_, q)| *q > 0.0)
                {
                    let term = (log_p.get(at)?.affine(-1.0, q.ln())? * (q * share))?;
                    loss = (loss + term)?;
                }
            }
            Ok(loss)
        })
    });
    Ok(())
}

#[test]
fn pact() -> Result<()> {
    agrees(Case { positions: 2, prefix: 1, decay: 1.5, header: 2 })?;
    agrees(Case { positions: 64, prefix: 2, decay: 0.0, header: 0 })
}
