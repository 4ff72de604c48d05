//! Matrices of few bits: bit for bit those of bitsandbytes, and layers that compute with them.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};
use vxf_nn::ops::{self, Layer, Values};
use vxf_tensor::Quantized;
use vxf_tensor::quantized::{Blockwise, Rowwise, Scales, Scheme};

use crate::common::{Source, assert_close, bits, evaluate, values};

/// What `tests/recorder/quantized.py` recorded.
fn recorded() -> Result<HashMap<String, Tensor>> {
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/bitsandbytes.safetensors");
    candle_core::safetensors::load(file, &Device::Cpu)
}

const MATRICES: [&str; 3] = ["wide", "odd", "many"];

#[track_caller]
fn same_bits(name: &str, found: &Tensor, expected: &Tensor) -> Result<()> {
    let (found, expected) = (bits(found)?, bits(expected)?);
    let other = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!((found.len(), other), (expected.len(), None), "{name}: where they differ");
    Ok(())
}

#[test]
fn stored_codes_are_read_as_bitsandbytes_reads_them() -> Result<()> {
    let all = recorded()?;
    for name in MATRICES {
        let of = |part: &str| all[&format!("{name}.{part}")].clone();
        let dense = of("dense");
        let (rows, columns) = dense.dims2()?;
        let table = [
            -1.0,
            -0.696_192_8,
            -0.525_073_05,
            -0.394_917_5,
            -0.284_441_38,
            -0.184_773_43,
            -0.091_050_036,
            0.0,
            0.079_580_3,
            0.160_930_2,
            0.246_112_3,
            0.337_915_24,
            0.440_709_83,
            0.562_617,
            0.722_956_84,
            1.0,
        ];
        let scales = Scales::Quantized {
            codes: of("scale_codes"),
            map: of("map"),
            states: of("states"),
            offset: of("offset").to_vec1::<f32>()?[0],
        };
        for (scales, expected) in
            [(scales, dense.clone()), (Scales::Plain(of("scales")), of("plain"))]
        {
            let codes = Blockwise::stored(of("codes"), scales, 64, &table)?;
            let matrix = Quantized::blockwise(codes, rows, columns)?;
            same_bits(name, &matrix.dense(DType::F32)?, &expected)?;
        }
        let codes: Vec<i8> =
            of("int8").flatten_all()?.to_vec1::<i32>()?.iter().map(|code| *code as i8).collect();
        let codes = Rowwise::stored(&codes, of("largest").to_vec1()?)?;
        let matrix = Quantized::rowwise(codes, columns)?;
        same_bits(name, &matrix.dense(DType::F32)?, &of("int8_dense"))?;
    }
    Ok(())
}

/// What we make of a matrix is what bitsandbytes makes of it; the mean of the scales may differ in its last
/// bit, since it is summed in another order.
#[test]
fn matrices_are_quantised_as_bitsandbytes_does() -> Result<()> {
    let all = recorded()?;
    for name in MATRICES {
        let of = |part: &str| all[&format!("{name}.{part}")].clone();
        let ours = Quantized::new(&of("weight"), Scheme::Nf4)?.dense(DType::F32)?;
        let (ours, theirs) = (values(&ours)?, values(&of("dense"))?);
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!((ours - theirs).abs() <= 1e-6, "{name} {at}: {ours} {theirs}");
        }
        let ours = Quantized::new(&of("half"), Scheme::Int8)?.dense(DType::F32)?;
        same_bits(name, &ours, &of("int8_dense"))?;
    }
    Ok(())
}

/// A matrix, with an update and as a part of a stack, and the same as a tensor.
fn matrices(scheme: Scheme) -> Result<Vec<(Quantized, Tensor)>> {
    let mut source = Source::new(3);
    let one = Quantized::new(&source.tensor(&[7, 24])?, scheme)?;
    let (a, b) = (source.tensor(&[2, 24])?, source.tensor(&[7, 2])?);
    let updated = one.updated(&a, &b, 0.5)?;
    let sum = (one.dense(DType::F64)? + (b.matmul(&a)? * 0.5)?)?;
    assert_close("the update", &updated.dense(DType::F64)?, &sum, 1e-6)?;
    let other = Quantized::new(&source.tensor(&[5, 24])?, scheme)?;
    let stack = Quantized::stacked(&[&updated, &other])?;
    let below = Tensor::cat(&[updated.dense(DType::F64)?, other.dense(DType::F64)?], 0)?;
    assert_eq!(values(&stack.dense(DType::F64)?)?, values(&below)?);
    assert_eq!(stack.dims(), [12, 24]);
    let all = [one, updated, stack];
    all.into_iter().map(|it| Ok((it.clone(), it.dense(DType::F64)?))).collect()
}

/// Layers over a matrix of few bits are layers over its numbers, forward and backward, to the bit.
#[test]
fn layers_compute_with_the_numbers_of_the_codes() -> Result<()> {
    for scheme in [Scheme::Nf4, Scheme::Int8] {
        for (matrix, dense) in matrices(scheme)? {
            let mut source = Source::new(4);
            let out = dense.dim(0)?;
            let (x, a, b) =
                (source.tensor(&[6, 24])?, source.tensor(&[3, 24])?, source.tensor(&[out, 3])?);
            let mask = source.dropout(6, 24)?;
            let layers = [Layer { out, adapted: true, mask: Some(mask) }];
            for dtype in [DType::F64, DType::F32, DType::BF16] {
                let typed = |tensor: &Tensor| tensor.to_dtype(dtype);
                let (x, a, b) = (typed(&x)?, typed(&a)?, typed(&b)?);
                let w = matrix.dense(dtype)?;
                let same = |found: (Tensor, Vec<Tensor>), expected: (Tensor, Vec<Tensor>)| {
                    assert_eq!(values(&found.0)?, values(&expected.0)?);
                    for (found, expected) in found.1.iter().zip(&expected.1) {
                        assert_eq!(values(found)?, values(expected)?);
                    }
                    Ok::<_, candle_core::Error>(())
                };
                let own = std::slice::from_ref(&x);
                same(
                    evaluate(&|o| ops::linear(&o[0], &matrix), own)?,
                    evaluate(&|o| ops::linear(&o[0], &w), own)?,
                )?;
                let all = [x.clone(), a.clone(), b.clone()];
                let with = |w: ops::Weight<'_>, o: &[Tensor]| {
                    ops::lora_linears(&o[0], w, [&o[1], &o[2]], &layers, 0.7, Values::Read)
                };
                same(
                    evaluate(&|o| with((&matrix).into(), o), &all)?,
                    evaluate(&|o| with((&w).into(), o), &all)?,
                )?;
            }
        }
    }
    Ok(())
}

#[test]
fn few_bits_take_few_bytes() -> Result<()> {
    let w = Source::new(9).tensor(&[96, 512])?;
    let share = |scheme| -> Result<f64> {
        let matrix = Quantized::new(&w, scheme)?;
        assert_eq!(matrix.bytes(), scheme.bytes(96, 512));
        Ok(matrix.bytes() as f64 / (4 * 96 * 512) as f64)
    };
    assert!(share(Scheme::Nf4)? < 0.13, "{}", share(Scheme::Nf4)?);
    assert!(share(Scheme::Int8)? < 0.26);
    Ok(())
}

#[test]
fn what_does_not_fit_is_refused() -> Result<()> {
    let w = Tensor::ones((4, 6), DType::F32, &Device::Cpu)?;
    let matrix = Quantized::new(&w, Scheme::Nf4)?;
    let x = Tensor::ones((2, 5), DType::F32, &Device::Cpu)?;
    let error = ops::linear(&x, &matrix).expect_err("another width").to_string();
    assert!(error.contains("[2, 5]") && error.contains("[4, 6]"), "{error}");
    assert!(matrix.updated(&w, &w, 1.0).is_err());
    assert!(matrix.fill(&mut [0.0_f32; 23]).is_err());
    Ok(())
}
