//! Methods that choose or change the data: filters, SDD, VAA, adaptive KL.

use candle_core::{D, DType, Device, Tensor};
use rand::Rng;
use rand::seq::{SliceRandom, index};
use serde_json::json;
use vxf_core::batch::IGNORED;
use vxf_core::{Batch, Result};
use vxf_testkit::plain::{self, Weights};

use super::*;

const STEPS: u64 = 6;

/// The tokens and the unshifted labels of each sample of a set, by index.
fn rows(streams: &Streams, name: &str) -> Vec<(Vec<u32>, Vec<i64>)> {
    let (_, batches) = streams.0.iter().find(|(known, _)| *known == name).expect("a stream");
    let mut all = Vec::new();
    for batch in batches {
        let (_, columns) = batch.shape();
        let tokens = batch.tokens.to_vec2::<u32>().expect("tokens");
        for (row, tokens) in tokens.iter().enumerate() {
            let length = batch.lengths[row];
            let mut labels = vec![IGNORED];
            labels.extend(&batch.targets[row * columns..][..length - 1]);
            all.push((tokens[..length].to_vec(), labels));
        }
    }
    all
}

fn batch_of(rows: &[(Vec<u32>, Vec<i64>)], samples: &[usize]) -> Result<Batch> {
    let tokens: Vec<&[u32]> = samples.iter().map(|at| rows[*at].0.as_slice()).collect();
    let labels: Vec<Vec<i64>> = samples.iter().map(|at| rows[*at].1.clone()).collect();
    Batch::from_rows(&tokens, &labels, &Device::Cpu)
}

/// The number of tokens of the prompt: all of a sample that has no answer.
fn prompt_of((tokens, labels): &(Vec<u32>, Vec<i64>)) -> usize {
    labels.iter().position(|label| *label >= 0).unwrap_or(tokens.len())
}

/// The batches of a stream without the samples that are left out.
fn without(streams: &Streams, name: &str, out: &[usize]) -> Result<Vec<Batch>> {
    let (_, batches) = streams.0.iter().find(|(known, _)| *known == name).expect("a stream");
    let rows = rows(streams, name);
    let (mut first, mut left) = (0, Vec::new());
    for batch in batches {
        let own = first..first + batch.lengths.len();
        let kept: Vec<usize> = own.clone().filter(|at| !out.contains(at)).collect();
        if !kept.is_empty() {
            left.push(batch_of(&rows, &kept)?);
        }
        first = own.end;
    }
    Ok(left)
}

/// Follows plain training on what a filter should leave.
fn trains_on(stage: Training<'_>, left: &[Batch]) {
    plain::follow(stage, STEPS, |step, weights| {
        of_loss(weights, &left[step as usize % left.len()])
    });
}

#[test]
fn gradient_filter() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment"])?;
    let (user, safe) = (rows(&streams, "user"), rows(&streams, "alignment"));
    let build = |settings| stage(&toy, &streams, ("gradient-filter", settings), none());
    let start = plain::weights(&build(json!({}))?.weights)?;
    // The mean over the labels of the first ten samples.
    let first: Vec<usize> = (0..10).collect();
    let aligned = of_loss(&start, &batch_of(&safe, &first)?)?;
    let mut cosines = Vec::new();
    for sample in 0..user.len() {
        let own = of_loss(&start, &batch_of(&user, &[sample])?)?;
        cosines.push((dot(&own, &aligned)? / plain::norm(&own)? / plain::norm(&aligned)?, sample));
    }
    cosines.sort_by(|one, other| one.0.total_cmp(&other.0));
    let out: Vec<usize> = cosines[..4].iter().map(|(_, sample)| *sample).collect();
    let between = (cosines[3].0 + cosines[4].0) / 2.0;
    // Four of nine samples: by their share, and by a cosine between the fourth and the fifth.
    for settings in [json!({ "share": 0.5 }), json!({ "share": 0.0, "below": between })] {
        let mut settings = settings;
        settings["samples"] = json!(10);
        trains_on(build(settings)?, &without(&streams, "user", &out)?);
    }
    Ok(())
}

/// The mean embedding of the answer's tokens at the output of a layer; zero without an answer.
fn answers(
    weights: &Weights,
    (tokens, labels): &(Vec<u32>, Vec<i64>),
    layer: usize,
) -> Result<Tensor> {
    let batch = Batch::from_rows(&[tokens], std::slice::from_ref(labels), &Device::Cpu)?;
    let hidden = plain::pass(weights, &batch)?.blocks[layer].get(0)?;
    let own: Vec<u32> = (0..tokens.len() as u32).filter(|at| labels[*at as usize] >= 0).collect();
    if own.is_empty() {
        return Ok(hidden.get(0)?.zeros_like()?);
    }
    Ok(hidden.index_select(&Tensor::new(own, &Device::Cpu)?, 0)?.mean(0)?)
}

#[test]
fn direction_filter() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "alignment", "harmful"])?;
    // A depth of 0.5 of three layers is the second one.
    let settings = json!({ "share": 0.35, "depth": 0.5, "samples": 9 });
    let stage = stage(&toy, &streams, ("direction-filter", settings), none())?;
    let start = plain::weights(&stage.weights)?;
    let mean = |name: &str| -> Result<Tensor> {
        let own = rows(&streams, name)[..9]
            .iter()
            .map(|row| answers(&start, row, 1))
            .collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&own, 0)?.mean(0)?)
    };
    let direction = (mean("harmful")? - mean("alignment")?)?;
    let mut along = Vec::new();
    for (sample, row) in rows(&streams, "user").iter().enumerate() {
        let own = (answers(&start, row, 1)? * &direction)?.sum_all()?.to_scalar::<f64>()?;
        along.push((own, sample));
    }
    along.sort_by(|one, other| other.0.total_cmp(&one.0));
    let out: Vec<usize> = along[..3].iter().map(|(_, sample)| *sample).collect();
    trains_on(stage, &without(&streams, "user", &out)?);
    Ok(())
}

/// The random numbers of a step: those of the stage's key.
fn rng(purpose: &str, step: u64) -> impl Rng {
    Key::root(11).child(purpose).index(step).index(0).rng()
}

#[test]
fn sdd() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment", "harmful", "benign"])?;
    let stage = stage(&toy, &streams, ("sdd", json!({})), none())?;
    let (harmful, benign) = (rows(&streams, "harmful"), rows(&streams, "benign"));
    let size = 3;
    plain::follow(stage, STEPS, |step, weights| {
        let drawn = index::sample(&mut rng("answers", step), benign.len(), size).into_vec();
        let pairs = (0..size).map(|place| {
            let prompt = &harmful[(step as usize * size + place) % harmful.len()];
            let answer = &benign[drawn[place]];
            let (end, begin) = (prompt_of(prompt), prompt_of(answer));
            let tokens = [&prompt.0[..end], &answer.0[begin..]].concat();
            let labels = [vec![IGNORED; end], answer.1[begin..].to_vec()].concat();
            (tokens, labels)
        });
        let pairs: Vec<_> = pairs.collect();
        of_loss(weights, &batch_of(&pairs, &[0, 1, 2])?)
    });
    Ok(())
}

/// AdamW at a constant rate, without decay and clipping.
pub(super) fn simulate(
    weights: &mut Weights,
    steps: usize,
    rate: f64,
    mut batch: impl FnMut(usize) -> Result<Batch>,
) -> Result<()> {
    let zeros = scaled(weights, 0.0)?;
    let (mut m, mut v) = (zeros.clone(), zeros);
    for step in 0..steps {
        let gradient = of_loss(weights, &batch(step)?)?;
        for (name, g) in &gradient {
            m.insert(name.clone(), ((&m[name] * 0.9)? + (g * 0.1)?)?);
            v.insert(name.clone(), ((&v[name] * 0.999)? + (g.sqr()? * 0.001)?)?);
            let n = step as i32 + 1;
            let first = (&m[name] / (1.0 - 0.9f64.powi(n)))?;
            let second = (&v[name] / (1.0 - 0.999f64.powi(n)))?;
            let change = ((first / (second.sqrt()? + 1e-8)?)? * rate)?;
            weights.insert(name.clone(), (&weights[name] - change)?);
        }
    }
    Ok(())
}

#[test]
fn vaa() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["alignment", "harmful"])?;
    let (rho, group_rate, rate) = (0.3, 0.2, 0.02);
    let settings = json!({
        "rho": rho, "group_rate": group_rate, "vulnerable": 0.4, "ascent": 1.0, "rate": rate,
        "align_steps": 3, "attack_steps": 2,
    });
    let mut stage = stage(&toy, &streams, ("vaa", settings), none())?;
    stage.schedule.total = 8;
    let (safe, harmful) = (rows(&streams, "alignment"), rows(&streams, "harmful"));

    // Which samples the simulated attack makes it forget.
    let mut simulated = plain::weights(&stage.weights)?;
    let drawn = |stream: &str, step: usize, all: usize| {
        let key = Key::root(11).child("simulated").index(0).index(0).child(stream);
        index::sample(&mut key.index(step as u64).rng(), all, 3).into_vec()
    };
    let losses = |weights: &Weights| -> Result<Vec<f64>> {
        let one = |at: usize| {
            Ok(plain::pass(weights, &batch_of(&safe, &[at])?)?.loss.to_scalar::<f64>()?)
        };
        (0..safe.len()).map(one).collect()
    };
    let aligned = |step| batch_of(&safe, &drawn("alignment", step, safe.len()));
    simulate(&mut simulated, 3, rate, aligned)?;
    let before = losses(&simulated)?;
    let attack = |step| batch_of(&harmful, &drawn("harmful", step, harmful.len()));
    simulate(&mut simulated, 2, rate, attack)?;
    let mut rises: Vec<(f64, usize)> =
        losses(&simulated)?.iter().zip(before).map(|(after, it)| after - it).zip(0..).collect();
    rises.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut groups: Vec<Vec<usize>> = vec![
        rises[..4].iter().map(|(_, sample)| *sample).collect(),
        rises[4..].iter().map(|(_, sample)| *sample).collect(),
    ];

    let (mut p, mut read) = (0.5, [0, 0]);
    let mut seen = [false; 2];
    plain::follow(stage, 8, |step, weights| {
        let mut draws = rng("group", step);
        let group = usize::from(draws.random::<f64>() >= p);
        let changed = draws.random::<f64>() > 1.0 - step as f64 / 8.0;
        seen[usize::from(changed)] = true;
        let samples = &mut groups[group];
        if read[group] == 0 {
            samples.sort_unstable();
            samples.shuffle(&mut rng("order", step));
        }
        let end = (read[group] + 3).min(samples.len());
        let batch = batch_of(&safe, &samples[read[group]..end])?;
        read[group] = end % samples.len();
        let mut at = weights.clone();
        if changed {
            let g = of_loss(weights, &batch)?;
            at = plain::plus(weights, &g, rho / (plain::norm(&g)? + 1e-7))?;
        }
        let loss = plain::pass(&at, &batch)?.loss.to_scalar::<f64>()?;
        let share = [p, 1.0 - p];
        let mut odds = share;
        odds[group] *= (group_rate * loss / share[group]).exp();
        p = (odds[0] / (odds[0] + odds[1])).clamp(0.1, 0.9);
        of_loss(&at, &batch)
    });
    assert_eq!(seen, [true; 2], "steps of both kinds");
    Ok(())
}

/// Logistic regression by gradient descent on standardised features; which of `of` it takes for harmful.
fn judged(features: &[Tensor], harmful: usize, of: &[Tensor]) -> Result<Vec<bool>> {
    let x = Tensor::stack(features, 0)?;
    let (n, width) = x.dims2()?;
    let mean = x.mean_keepdim(0)?;
    let spread = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?.sqrt()?;
    let scale = ((spread + 1e-8)? * (width as f64).sqrt())?;
    let standard = |x: &Tensor| x.broadcast_sub(&mean)?.broadcast_div(&scale);
    let x = standard(&x)?;
    let y: Vec<f64> = (0..n).map(|at| f64::from(u8::from(at < harmful))).collect();
    let y = Tensor::from_vec(y, (n, 1), &Device::Cpu)?;
    let mut w = Tensor::zeros((width, 1), DType::F64, &Device::Cpu)?;
    let mut b = 0.0;
    for _ in 0..400 {
        let p = (((x.matmul(&w)? + b)?.neg()?.exp()? + 1.0)?.recip()? - &y)?;
        let slope = ((x.t()?.matmul(&p)? / n as f64)? + (&w * 1e-3)?)?;
        b -= 0.5 * p.mean_all()?.to_scalar::<f64>()?;
        w = (w - (slope * 0.5)?)?;
    }
    let logits = (standard(&Tensor::stack(of, 0)?)?.matmul(&w)? + b)?.squeeze(1)?;
    Ok(logits.to_vec1::<f64>()?.into_iter().map(|logit| logit > 0.0).collect())
}

fn softmax(logits: &Tensor) -> candle_core::Result<Tensor> {
    let all = logits.exp()?;
    all.broadcast_div(&all.sum_keepdim(D::Minus1)?)
}

#[test]
fn adaptive_kl() -> Result<()> {
    let toy = toy();
    let streams = Streams::new(&toy, &["user", "harmful", "benign"])?;
    let settings = json!({ "least": 0.2, "samples": 8 });
    let stage = stage(&toy, &streams, ("adaptive-kl", settings), none())?;
    let start = plain::weights(&stage.weights)?;
    // The prompt's mean embedding, averaged over the embedding and the three layers.
    let features = |name: &str, count: usize| -> Result<Vec<Tensor>> {
        let mut found = Vec::new();
        for row in rows(&streams, name).iter().take(count) {
            let prompt = prompt_of(row);
            let passed = plain::pass(&start, &batch_of(std::slice::from_ref(row), &[0])?)?;
            let mut sum = passed.embedded.get(0)?.narrow(0, 0, prompt)?.mean(0)?;
            for block in &passed.blocks {
                sum = (sum + block.get(0)?.narrow(0, 0, prompt)?.mean(0)?)?;
            }
            found.push((sum / 4.0)?);
        }
        Ok(found)
    };
    let known = [features("harmful", 8)?, features("benign", 8)?].concat();
    let risky = judged(&known, 8, &features("user", usize::MAX)?)?;
    assert!(risky.contains(&true) && risky.contains(&false), "samples of both kinds");
    let user = rows(&streams, "user");
    plain::follow(stage, STEPS, |step, weights| {
        let batch = step as usize % 3;
        plain::gradient(weights, |weights| {
            let mut sum: Option<Tensor> = None;
            for (sample, risky) in risky.iter().enumerate().skip(3 * batch).take(3) {
                let one = batch_of(&user, &[sample])?;
                let passed = plain::pass(weights, &one)?;
                let p = softmax(&plain::pass(&start, &one)?.logits)?;
                let q = softmax(&passed.logits)?;
                let apart = (&p * (p.log()? - q.log()?)?)?.sum(D::Minus1)?.get(0)?;
                let own: Vec<u32> =
                    (0u32..).zip(&one.targets).filter(|(_, it)| **it >= 0).map(|it| it.0).collect();
                let apart = apart.index_select(&Tensor::new(own, &Device::Cpu)?, 0)?.mean_all()?;
                // (5 - 2) / 3 and (1 - 2) / 3, between 0.2 and 0.8.
                let held = if *risky { 0.8 } else { 0.2 };
                let term = ((passed.loss * (1.0 - held))? + (apart * held)?)?;
                sum = Some(match sum {
                    Some(sum) => (sum + term)?,
                    None => term,
                });
            }
            Ok((sum.expect("samples") / 3.0)?)
        })
    });
    Ok(())
}
