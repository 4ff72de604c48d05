//! The same call gives the same bits.

use candle_core::{DType, Result, Var};
use vxf_nn::ops;

use crate::common::{Source, backward, bits};

/// Runs all operations, large enough to be shared among threads. Returns the bits of the results
/// and of all gradients.
fn step() -> Result<Vec<Vec<u32>>> {
    let mut source = Source::new(11);
    let mut t = |shape: &[usize]| Var::from_tensor(&source.tensor(shape)?.to_dtype(DType::F32)?);
    let (batch, len, width) = (3, 90, 128);
    let x = t(&[batch, len, width])?;
    let (w, gain) = (t(&[width, width])?, t(&[width])?);
    let (a, b, head) = (t(&[4, width])?, t(&[width, 4])?, t(&[300, width])?);
    let (cos, sin) = (t(&[len, 8])?, t(&[len, 8])?);
    let normed = ops::rms_norm(&x, &gain, 1e-5)?;
    let wide = ops::lora_linear(&normed, &w.detach(), &a, &b, 0.1, None)?;
    let q = ops::rotary(&wide, 8, &cos, &sin, 0)?;
    let k = ops::split_heads(&ops::linear(&normed, &w)?.narrow(2, 0, width / 4)?, 2)?;
    let mixed = ops::attention(&q, &k, &k, Some(&[90, 40, 7]), Some(50))?;
    let y = ops::swiglu(&mixed, &normed)?;
    let targets: Vec<i64> = (0..(batch * len) as i64).map(|i| i % 307 - 7).collect();
    let targets: Vec<i64> = targets.into_iter().map(|t| t.min(299)).collect();
    let loss = ops::linear_cross_entropy(&y, &head, &targets, None)?;
    let grads = loss.backward()?;
    let mut all = vec![bits(&q)?, bits(&mixed)?, bits(&y)?, bits(&loss)?];
    for v in [&x, &w, &gain, &a, &b, &head] {
        all.push(grads.get(v).map(bits).transpose()?.unwrap_or_default());
    }
    Ok(all)
}

/// Runs a function twice on a pool of its own and returns its result.
fn twice(threads: usize, run: fn() -> Result<Vec<Vec<u32>>>) -> Result<Vec<Vec<u32>>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(candle_core::Error::wrap)?;
    let first = pool.install(run)?;
    assert_eq!(first, pool.install(run)?, "{threads} threads");
    assert!(first.iter().all(|bits| !bits.is_empty()));
    Ok(first)
}

#[test]
fn bits_are_repeatable() -> Result<()> {
    for threads in [1, 2, 3] {
        twice(threads, step)?;
    }
    Ok(())
}

/// The same without the large matrix products, which the `gemm` crate splits among threads.
fn step_without_products() -> Result<Vec<Vec<u32>>> {
    let mut source = Source::new(12);
    let mut t = |shape: &[usize]| Var::from_tensor(&source.tensor(shape)?.to_dtype(DType::F32)?);
    let (x, gain, bias) = (t(&[3, 90, 128])?, t(&[128])?, t(&[128])?);
    let (cos, sin) = (t(&[90, 8])?, t(&[90, 8])?);
    let normed = ops::layer_norm(&ops::rms_norm(&x, &gain, 1e-5)?, &gain, &bias, 1e-5)?;
    let normed = ops::relu(&ops::add_bias(&normed, &bias)?)?;
    let q = ops::rotary(&normed, 8, &cos, &sin, 0)?;
    let k = ops::split_heads(&x.narrow(2, 0, 32)?, 2)?;
    let mixed = ops::attention(&q, &k, &k, Some(&[90, 40, 7]), None)?;
    let y = ops::swiglu(&mixed, &normed)?;
    let grads = backward(&y)?;
    let grad = |v: &Var| grads.get(v).map_or(Ok(Vec::new()), bits);
    Ok(vec![bits(&q)?, bits(&mixed)?, bits(&y)?, grad(&x)?, grad(&gain)?, grad(&bias)?])
}

#[test]
fn bits_do_not_depend_on_the_thread_count() -> Result<()> {
    let alone = twice(1, step_without_products)?;
    assert_eq!(alone, twice(2, step_without_products)?);
    assert_eq!(alone, twice(5, step_without_products)?);
    Ok(())
}
