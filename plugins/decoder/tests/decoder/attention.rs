//! The attention paid to the first token, against a softmax by hand.

use candle_core::{D, DType, Device, Tensor};
use serde_json::json;
use vxf_core::{Key, Params, Pass, Result};
use vxf_testkit::batches::Rows;
use vxf_testkit::numbers::entries;

use crate::shapes::{checkpoint, llama, mistral, model, with};

const HEADS: usize = 4;
const KEYS: usize = 2;

/// `[length, heads d]` as rotated heads `[heads, length, d]`.
fn rotated(x: &Tensor, heads: usize, theta: f64) -> candle_core::Result<Tensor> {
    let (length, width) = x.dims2()?;
    let d = width / heads;
    let angle = |at: usize, i: usize| at as f64 * theta.powf(-2.0 * i as f64 / d as f64);
    let table = |f: fn(f64) -> f64| {
        let all = (0..length).flat_map(|at| (0..d).map(move |i| (at, i % (d / 2))));
        let all: Vec<f64> = all.map(|(at, i)| f(angle(at, i))).collect();
        Tensor::from_vec(all, (length, d), &Device::Cpu)
    };
    let x = x.reshape((length, heads, d))?.transpose(0, 1)?.contiguous()?;
    let (low, high) = (x.narrow(2, 0, d / 2)?, x.narrow(2, d / 2, d / 2)?);
    let turned = Tensor::cat(&[&high.neg()?, &low], 2)?;
    x.broadcast_mul(&table(f64::cos)?)? + turned.broadcast_mul(&table(f64::sin)?)?
}

#[test]
fn attention_to_the_first_token() -> Result<()> {
    let plain = json!({ "rope_scaling": null, "rope_theta": 500.0 });
    for (config, window) in [(with(llama(), plain), usize::MAX), (mistral(), 3)] {
        let backbone = model(&checkpoint(config));
        let key = Key::root(4);
        let batch = Rows::random(3, 9, 23, &key).batch(&Device::Cpu)?;
        let rows = batch.rows();
        let width = backbone.architecture().width;
        let input = key.child("input").normal(&[rows.count(), width], DType::F64, &Device::Cpu)?;
        let nothing = Params::new();
        let there = input.to_device(backbone.device())?;
        let paid = backbone.first_token_attention(1, &there, &Pass::new(&nothing, &rows))?;
        let paid = paid.to_device(&Device::Cpu)?;
        assert_eq!(paid.dims(), [rows.count(), HEADS]);

        let tensors = backbone.tensors().map(|tensor| Ok(tensor.to_device(&Device::Cpu)?))?;
        let project = |x: &Tensor, part: &str| -> candle_core::Result<Tensor> {
            let name = format!("model.layers.1.self_attn.{part}");
            let weight = tensors.get(&format!("{name}.weight")).expect("a weight");
            let product = x.matmul(&weight.t()?)?;
            match tensors.get(&format!("{name}.bias")) {
                Some(bias) => product.broadcast_add(bias),
                None => Ok(product),
            }
        };
        for sample in 0..rows.samples() {
            let range = rows.range(sample);
            let x = input.narrow(0, range.start, range.len())?;
            let q = rotated(&project(&x, "q_proj")?, HEADS, 500.0)?;
            let k = rotated(&project(&x, "k_proj")?, KEYS, 500.0)?;
            let d = q.dim(D::Minus1)? as f64;
            for head in 0..HEADS {
                let key = k.get(head / (HEADS / KEYS))?;
                let scores = (q.get(head)?.matmul(&key.t()?)? / d.sqrt())?.to_vec2::<f64>()?;
                for (at, scores) in scores.iter().enumerate() {
                    let seen = at.saturating_sub(window.saturating_sub(1))..at + 1;
                    let all: f64 = scores[seen.clone()].iter().map(|it| it.exp()).sum();
                    let expected = if seen.contains(&0) { scores[0].exp() / all } else { 0.0 };
                    let ours = entries(&paid.get(range.start + at)?)?[head];
                    // The angles' tables are rounded to f32, as everywhere.
                    assert!((ours - expected).abs() < 1e-7, "{head} at {at}: {ours} {expected}");
                }
            }
        }
    }
    Ok(())
}
