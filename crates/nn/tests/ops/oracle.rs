//! The fused operations against their compositions over random shapes, in both types.

use candle_core::{D, DType, Result, Tensor};
use proptest::prelude::*;
use vxf_nn::{compose, ops};

use crate::common::{Source, beside, check_same};

/// Converts candle's error into proptest's, for `?` in a property.
fn ran(result: Result<()>) -> std::result::Result<(), TestCaseError> {
    result.map_err(|error| TestCaseError::fail(error.to_string()))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn linear(seed: u64, rows in 1..20_usize, inner in 1..40_usize, out in 1..40_usize) {
        ran((|| {
            let mut source = Source::new(seed);
            let operands = [source.tensor(&[rows, 1, inner])?, source.tensor(&[out, inner])?];
            check_same(
                &|o| ops::linear(&o[0], &o[1]),
                &|o| compose::linear(&o[0], &o[1]),
                &operands,
            )
        })())?;
    }

    #[test]
    fn lora_linear(
        seed: u64,
        rows in 1..12_usize,
        inner in 1..30_usize,
        out in 1..30_usize,
        rank in 1..9_usize,
        dropped: bool,
    ) {
        ran((|| {
            let mut source = Source::new(seed);
            let w = source.tensor(&[out, inner])?;
            let mask = source.dropout(2 * rows, inner)?;
            let operands = [
                source.tensor(&[2, rows, inner])?,
                source.tensor(&[rank, inner])?,
                source.tensor(&[out, rank])?,
            ];
            type Form = fn(&Tensor, &Tensor, &Tensor, &Tensor, f64, Option<&vxf_tensor::Mask>)
                -> Result<Tensor>;
            let run = |form: Form, o: &[Tensor]| {
                let w = beside(&o[0], &w)?;
                form(&o[0], &w, &o[1], &o[2], 2.5, dropped.then_some(&mask))
            };
            check_same(
                &|o| run(|x, w, a, b, s, mask| ops::lora_linear(x, w, a, b, s, mask), o),
                &|o| run(compose::lora_linear, o),
                &operands,
            )
        })())?;
    }

    #[test]
    fn rms_norm(seed: u64, rows in 1..150_usize, width in 1..70_usize) {
        ran((|| {
            let mut source = Source::new(seed);
            let operands = [source.tensor(&[rows, width])?, source.tensor(&[width])?];
            check_same(
                &|o| ops::rms_norm(&o[0], &o[1], 1e-4),
                &|o| compose::rms_norm(&o[0], &o[1], 1e-4),
                &operands,
            )
        })())?;
    }

    #[test]
    fn layer_norm(
        seed: u64,
        rows in 1..150_usize,
        width in prop_oneof![1..9_usize, 30..150_usize],
        shift in -3.0..3.0_f64,
    ) {
        ran((|| {
            let mut source = Source::new(seed);
            let x = source.tensor(&[rows, width])?.affine(1.0, shift)?;
            let operands = [x, source.tensor(&[width])?, source.tensor(&[width])?];
            check_same(
                &|o| ops::layer_norm(&o[0], &o[1], &o[2], 1e-2),
                &|o| compose::layer_norm(&o[0], &o[1], &o[2], 1e-2),
                &operands,
            )
        })())?;
    }

    #[test]
    fn add_bias(seed: u64, rows in 1..150_usize, width in 1..70_usize) {
        ran((|| {
            let mut source = Source::new(seed);
            let operands = [source.tensor(&[2, rows, width])?, source.tensor(&[width])?];
            check_same(
                &|o| ops::add_bias(&o[0], &o[1]),
                &|o| compose::add_bias(&o[0], &o[1]),
                &operands,
            )
        })())?;
    }

    #[test]
    fn relu(seed: u64, rows in 1..50_usize, width in 1..40_usize) {
        ran((|| {
            let mut source = Source::new(seed);
            // Whole numbers, so that many are exactly zero.
            let x = source.tensor(&[rows, width])?.round()?;
            check_same(&|o| ops::relu(&o[0]), &|o| compose::relu(&o[0]), &[x])
        })())?;
    }

    #[test]
    fn rotary(
        seed: u64,
        batch in 1..4_usize,
        len in 1..9_usize,
        heads in 1..5_usize,
        half in 1..9_usize,
        offset in 0..5_usize,
    ) {
        ran((|| {
            let mut source = Source::new(seed);
            let (cos, sin) = source.angles(len + offset, half)?;
            let run = |fused: bool, o: &[Tensor]| {
                let (cos, sin) = (beside(&o[0], &cos)?, beside(&o[0], &sin)?);
                let form = if fused { ops::rotary } else { compose::rotary };
                form(&o[0], heads, &cos, &sin, offset)
            };
            let x = source.tensor(&[batch, len, heads * 2 * half])?;
            check_same(&|o| run(true, o), &|o| run(false, o), &[x])
        })())?;
    }

    #[test]
    fn attention(
        seed: u64,
        batch in 1..4_usize,
        kv_heads in 1..4_usize,
        group in 1..4_usize,
        len in prop_oneof![1..8_usize, 30..70_usize],
        before in 0..6_usize,
        d in 1..20_usize,
        padded: bool,
        window in prop_oneof![Just(None), (1..12_usize).prop_map(Some), Just(Some(40))],
    ) {
        ran((|| {
            let mut source = Source::new(seed);
            let keys = len + before;
            let lengths = source.lengths(batch, keys);
            let lengths = padded.then_some(&lengths[..]);
            let operands = [
                source.tensor(&[batch, kv_heads * group, len, d])?,
                source.tensor(&[batch, kv_heads, keys, d])?,
                source.tensor(&[batch, kv_heads, keys, d])?,
            ];
            check_same(
                &|o| ops::attention(&o[0], &o[1], &o[2], lengths, window),
                &|o| compose::attention(&o[0], &o[1], &o[2], lengths, window),
                &operands,
            )
        })())?;
    }

    #[test]
    fn swiglu(seed: u64, rows in 1..20_usize, width in 1..40_usize, size in 0.1..20.0_f64) {
        ran((|| {
            let mut source = Source::new(seed);
            let gate = source.tensor(&[rows, width])?.affine(size, 0.0)?;
            let operands = [gate, source.tensor(&[rows, width])?];
            check_same(
                &|o| ops::swiglu(&o[0], &o[1]),
                &|o| compose::swiglu(&o[0], &o[1]),
                &operands,
            )
        })())?;
    }

    #[test]
    fn geglu(seed: u64, rows in 1..20_usize, width in 1..40_usize, size in 0.1..20.0_f64) {
        ran((|| {
            let mut source = Source::new(seed);
            let gate = source.tensor(&[rows, width])?.affine(size, 0.0)?;
            let operands = [gate, source.tensor(&[rows, width])?];
            check_same(
                &|o| ops::geglu(&o[0], &o[1]),
                &|o| compose::geglu(&o[0], &o[1]),
                &operands,
            )
        })())?;
    }

    #[test]
    fn linear_cross_entropy(
        seed: u64,
        rows in 1..90_usize,
        width in 1..30_usize,
        classes in 1..60_usize,
    ) {
        ran((|| {
            let mut source = Source::new(seed);
            let targets = source.targets(rows, classes);
            let operands = [source.tensor(&[1, rows, width])?, source.tensor(&[classes, width])?];
            check_same(
                &|o| ops::linear_cross_entropy(&o[0], &o[1], &targets, None),
                &|o| compose::linear_cross_entropy(&o[0], &o[1], &targets, None),
                &operands,
            )
        })())?;
    }
}

/// Sizes at which work is shared among threads and the loss is computed in several chunks.
#[test]
fn large_operands() -> Result<()> {
    let mut source = Source::new(11);
    let operands = [source.tensor(&[600, 48])?, source.tensor(&[130, 48])?];
    let targets = source.targets(600, 130);
    check_same(
        &|o| ops::linear_cross_entropy(&o[0], &o[1], &targets, None),
        &|o| compose::linear_cross_entropy(&o[0], &o[1], &targets, None),
        &operands,
    )?;
    check_same(
        &|o| ops::linear(&o[0], &o[1]),
        &|o| compose::linear(&o[0], &o[1]),
        &[source.tensor(&[300, 100])?, source.tensor(&[90, 100])?],
    )?;
    check_same(
        &|o| ops::rms_norm(&o[0], &o[1], 1e-6),
        &|o| compose::rms_norm(&o[0], &o[1], 1e-6),
        &[source.tensor(&[700, 64])?, source.tensor(&[64])?],
    )?;
    check_same(
        &|o| ops::layer_norm(&o[0], &o[1], &o[2], 1e-5),
        &|o| compose::layer_norm(&o[0], &o[1], &o[2], 1e-5),
        &[source.tensor(&[700, 64])?, source.tensor(&[64])?, source.tensor(&[64])?],
    )?;
    check_same(
        &|o| ops::add_bias(&o[0], &o[1]),
        &|o| compose::add_bias(&o[0], &o[1]),
        &[source.tensor(&[700, 64])?, source.tensor(&[64])?],
    )?;
    check_same(&|o| ops::relu(&o[0]), &|o| compose::relu(&o[0]), &[source.tensor(&[300, 130])?])?;
    check_same(
        &|o| ops::swiglu(&o[0], &o[1]),
        &|o| compose::swiglu(&o[0], &o[1]),
        &[source.tensor(&[300, 130])?, source.tensor(&[300, 130])?],
    )?;
    let qkv = [
        source.tensor(&[3, 4, 70, 8])?,
        source.tensor(&[3, 2, 70, 8])?,
        source.tensor(&[3, 2, 70, 8])?,
    ];
    check_same(
        &|o| ops::attention(&o[0], &o[1], &o[2], Some(&[70, 1, 33]), None),
        &|o| compose::attention(&o[0], &o[1], &o[2], Some(&[70, 1, 33]), None),
        &qkv,
    )
}

/// A window of all keys has no effect, and one of a single key returns that key's value.
#[test]
fn windows_have_the_size_they_say() -> Result<()> {
    let mut source = Source::new(14);
    let (q, k) = (source.tensor(&[2, 2, 70, 4])?, source.tensor(&[2, 2, 70, 4])?);
    let v = source.tensor(&[2, 2, 70, 4])?;
    let whole = ops::attention(&q, &k, &v, None, None)?;
    let close = |a: &Tensor, b: &Tensor| -> Result<()> {
        let gap = a.sub(b)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(gap < 1e-12, "{gap}");
        Ok(())
    };
    close(&ops::attention(&q, &k, &v, None, Some(70))?, &whole)?;
    let own = v.transpose(1, 2)?.reshape((2, 70, 8))?;
    close(&ops::attention(&q, &k, &v, None, Some(1))?, &own)?;
    // Two keys: the mean of both values, weighted by their scores.
    let last = |x: &Tensor| x.narrow(2, 68, 2)?.contiguous();
    let query = q.narrow(2, 69, 1)?.contiguous()?;
    let two = ops::attention(&query, &last(&k)?, &last(&v)?, None, None)?;
    let found = ops::attention(&q, &k, &v, None, Some(2))?;
    close(&found.narrow(1, 69, 1)?, &two)
}

/// The compositions against candle's own reference implementations.
#[test]
fn compositions_match_candle() -> Result<()> {
    let mut source = Source::new(12);
    let x = source.tensor(&[2, 3, 8])?.to_dtype(DType::F32)?;
    let gain = source.tensor(&[8])?.to_dtype(DType::F32)?;
    let close = |a: &Tensor, b: &Tensor| -> Result<()> {
        let gap = a.sub(b)?.abs()?.max_all()?.to_scalar::<f32>()?;
        assert!(gap < 1e-6, "{gap}");
        Ok(())
    };
    close(&compose::rms_norm(&x, &gain, 1e-5)?, &candle_nn::ops::rms_norm_slow(&x, &gain, 1e-5)?)?;
    let bias = source.tensor(&[8])?.to_dtype(DType::F32)?;
    let slow = candle_nn::ops::layer_norm_slow(&x, &gain, &bias, 1e-5)?;
    close(&compose::layer_norm(&x, &gain, &bias, 1e-5)?, &slow)?;
    close(&compose::relu(&x)?, &x.relu()?)?;

    let (cos, sin) = source.angles(3, 2)?;
    let (cos, sin) = (cos.to_dtype(DType::F32)?, sin.to_dtype(DType::F32)?);
    let heads = compose::split_heads(&x, 2)?;
    close(
        &compose::rotary(&x, 2, &cos, &sin, 0)?,
        &candle_nn::rotary_emb::rope_slow(&heads, &cos, &sin)?,
    )?;

    let q = source.tensor(&[1, 1, 1, 8])?.to_dtype(DType::F32)?;
    let k = source.tensor(&[1, 1, 5, 8])?.to_dtype(DType::F32)?;
    let scores = q.matmul(&k.t()?)?.affine(1.0 / 8.0_f64.sqrt(), 0.0)?;
    let mixed = candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&k)?;
    close(&compose::attention(&q, &k, &k, None, None)?, &mixed.reshape((1, 1, 8))?)?;

    let targets = [1_i64, 3];
    let (h, w) = (x.narrow(0, 0, 1)?.narrow(1, 0, 2)?, source.tensor(&[5, 8])?);
    let w = w.to_dtype(DType::F32)?;
    let logits = compose::linear(&h, &w)?.squeeze(0)?;
    let expected = candle_nn::loss::cross_entropy(
        &logits,
        &Tensor::new(&[1_u32, 3], &candle_core::Device::Cpu)?,
    )?;
    close(&compose::linear_cross_entropy(&h, &w, &targets, None)?, &expected)
}

/// Decoding one chunk of keys at a time gives the result of the whole sequence.
#[test]
fn decoding_matches_the_whole_sequence() -> Result<()> {
    let mut source = Source::new(13);
    let (len, heads, d) = (7, 4, 6);
    let x = source.tensor(&[2, len, heads * d])?;
    let kv = source.tensor(&[2, len, 2 * d])?;
    let (cos, sin) = source.angles(len, d / 2)?;
    let whole = ops::attention(
        &ops::rotary(&x, heads, &cos, &sin, 0)?,
        &ops::rotary(&kv, 2, &cos, &sin, 0)?,
        &ops::split_heads(&kv, 2)?,
        None,
        None,
    )?;
    for t in 0..len {
        let step = ops::attention(
            &ops::rotary(&x.narrow(1, t, 1)?, heads, &cos, &sin, t)?,
            &ops::rotary(&kv.narrow(1, 0, t + 1)?, 2, &cos, &sin, 0)?,
            &ops::split_heads(&kv.narrow(1, 0, t + 1)?, 2)?,
            None,
            None,
        )?;
        let gap = step.sub(&whole.narrow(1, t, 1)?)?.abs()?.max_all()?.to_scalar::<f64>()?;
        assert!(gap < 1e-12, "position {t}: {gap}");
    }
    Ok(())
}
