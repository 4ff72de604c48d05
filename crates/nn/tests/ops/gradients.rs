//! Every gradient against central differences in `f64`.

use candle_core::Result;
use vxf_nn::ops;

use crate::common::{Source, check_differences};

#[test]
fn linear() -> Result<()> {
    let mut source = Source::new(1);
    let (x, w) = (source.tensor(&[2, 3, 5])?, source.tensor(&[4, 5])?);
    check_differences(&|o| ops::linear(&o[0], &o[1]), &[x.clone(), w.clone()])?;
    check_differences(&|o| ops::linear(&o[0], &w), &[x])
}

#[test]
fn lora_linear() -> Result<()> {
    let mut source = Source::new(2);
    let (x, w) = (source.tensor(&[2, 3, 5])?, source.tensor(&[4, 5])?);
    let (a, b) = (source.tensor(&[2, 5])?, source.tensor(&[4, 2])?);
    let mask = source.dropout(6, 5)?;
    for mask in [None, Some(&mask)] {
        let all = [x.clone(), a.clone(), b.clone()];
        check_differences(&|o| ops::lora_linear(&o[0], &w, &o[1], &o[2], 0.7, mask), &all)?;
        let op = |o: &[candle_core::Tensor]| ops::lora_linear(&o[0], &w, &a, &b, 0.7, mask);
        check_differences(&op, std::slice::from_ref(&x))?;
        let op = |o: &[candle_core::Tensor]| ops::lora_linear(&x, &w, &a, &o[0], 0.7, mask);
        check_differences(&op, std::slice::from_ref(&b))?;
    }
    Ok(())
}

#[test]
fn rms_norm() -> Result<()> {
    let mut source = Source::new(3);
    let (x, gain) = (source.tensor(&[70, 5])?, source.tensor(&[5])?);
    check_differences(&|o| ops::rms_norm(&o[0], &o[1], 1e-3), &[x.clone(), gain.clone()])?;
    check_differences(&|o| ops::rms_norm(&o[0], &gain, 1e-3), &[x])
}

#[test]
fn layer_norm() -> Result<()> {
    let mut source = Source::new(8);
    let (x, gain, bias) = (source.tensor(&[70, 5])?, source.tensor(&[5])?, source.tensor(&[5])?);
    let all = [x.clone(), gain.clone(), bias.clone()];
    check_differences(&|o| ops::layer_norm(&o[0], &o[1], &o[2], 1e-3), &all)?;
    check_differences(&|o| ops::layer_norm(&o[0], &gain, &bias, 1e-3), std::slice::from_ref(&x))?;
    // Gradients of one of the two alone.
    check_differences(&|o| ops::layer_norm(&o[0], &o[1], &bias, 1e-3), &[x.clone(), gain.clone()])?;
    check_differences(&|o| ops::layer_norm(&x, &gain, &o[0], 1e-3), &[bias])
}

#[test]
fn bias_and_relu() -> Result<()> {
    let mut source = Source::new(9);
    let (x, bias) = (source.tensor(&[70, 5])?, source.tensor(&[5])?);
    check_differences(&|o| ops::add_bias(&o[0], &o[1]), &[x.clone(), bias.clone()])?;
    check_differences(&|o| ops::add_bias(&o[0], &bias), std::slice::from_ref(&x))?;
    check_differences(&|o| ops::relu(&o[0]), &[x])
}

#[test]
fn rotary_and_split() -> Result<()> {
    let mut source = Source::new(4);
    let x = source.tensor(&[2, 3, 12])?;
    let (cos, sin) = source.angles(5, 3)?;
    check_differences(&|o| ops::rotary(&o[0], 2, &cos, &sin, 2), std::slice::from_ref(&x))?;
    check_differences(&|o| ops::split_heads(&o[0], 3), &[x])
}

#[test]
fn attention() -> Result<()> {
    let mut source = Source::new(5);
    // Longer than one tile of queries in the last case.
    for (heads, kv_heads, len, keys, d) in [(2, 1, 3, 3, 4), (4, 2, 2, 5, 3), (1, 1, 35, 37, 1)] {
        let q = source.tensor(&[2, heads, len, d])?;
        let k = source.tensor(&[2, kv_heads, keys, d])?;
        let v = source.tensor(&[2, kv_heads, keys, d])?;
        for (lengths, window) in [
            (None, None),
            (Some(&[keys, keys - 1][..]), None),
            (None, Some(2)),
            (Some(&[keys, keys - 1]), Some(2)),
        ] {
            let all = [q.clone(), k.clone(), v.clone()];
            let op =
                |o: &[candle_core::Tensor]| ops::attention(&o[0], &o[1], &o[2], lengths, window);
            check_differences(&op, &all)?;
            let limits = ops::Limits { window, cap: Some(0.9) };
            let capped =
                |o: &[candle_core::Tensor]| ops::attention(&o[0], &o[1], &o[2], lengths, limits);
            check_differences(&capped, &all)?;
        }
    }
    Ok(())
}

#[test]
fn swiglu() -> Result<()> {
    let mut source = Source::new(6);
    let (gate, up) = (source.tensor(&[3, 7])?, source.tensor(&[3, 7])?);
    check_differences(&|o| ops::swiglu(&o[0], &o[1]), &[gate, up])
}

#[test]
fn geglu() -> Result<()> {
    let mut source = Source::new(8);
    let (gate, up) = (source.tensor(&[3, 7])?, source.tensor(&[3, 7])?);
    check_differences(&|o| ops::geglu(&o[0], &o[1]), &[gate, up])
}

#[test]
fn scaled() -> Result<()> {
    let x = Source::new(9).tensor(&[3, 7])?;
    check_differences(&|o| ops::scaled(&o[0], -2.5), &[x])
}

#[test]
fn linear_cross_entropy() -> Result<()> {
    let mut source = Source::new(7);
    let (h, w) = (source.tensor(&[2, 3, 4])?, source.tensor(&[7, 4])?);
    let targets = [3, -100, 0, 6, -1, 2];
    let both = [h.clone(), w.clone()];
    check_differences(&|o| ops::linear_cross_entropy(&o[0], &o[1], &targets, None), &both)?;
    let capped =
        |o: &[candle_core::Tensor]| ops::linear_cross_entropy(&o[0], &o[1], &targets, Some(0.8));
    check_differences(&capped, &both)?;
    check_differences(&|o| ops::linear_cross_entropy(&o[0], &w, &targets, None), &[h])
}
