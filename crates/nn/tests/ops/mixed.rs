//! Half-precision activations with single-precision weights, dropout masks on a device, and a kernel that
//! makes the results of two.

use candle_core::{DType, Device, Result, Tensor, Var};
use vxf_nn::ops;
use vxf_tensor::{Key, Rows};

use vxf_testkit::device;

use crate::common::{Source, assert_close, values};

/// An adapter trained in f32 on a bf16 base gets f32 gradients, near those of the same layer in
/// f64.
#[test]
fn adapters_may_be_wider_than_activations() -> Result<()> {
    let mut source = Source::new(41);
    let half = |x: Tensor| x.to_dtype(DType::BF16);
    let (x, w) = (half(source.tensor(&[2, 9, 24])?)?, half(source.tensor(&[17, 24])?)?);
    let mask = source.dropout(18, 24)?;
    let (a, b) = (source.tensor(&[4, 24])?, source.tensor(&[17, 4])?);
    let cotangent = half(source.tensor(&[2, 9, 17])?)?;
    let run = |device: &Device, wide: bool| -> Result<Vec<Tensor>> {
        let activations = if wide { DType::F64 } else { DType::BF16 };
        let trained = if wide { DType::F64 } else { DType::F32 };
        let there = |x: &Tensor, dtype| x.to_device(device)?.to_dtype(dtype);
        let x = Var::from_tensor(&there(&x, activations)?)?;
        let a = Var::from_tensor(&there(&a, trained)?)?;
        let b = Var::from_tensor(&there(&b, trained)?)?;
        let w = there(&w, activations)?;
        let y = ops::lora_linear(&x, &w, &a, &b, 0.5, Some(&mask))?;
        let grads = (y * there(&cotangent, activations)?)?.sum_all()?.backward()?;
        let found: Vec<Tensor> =
            [&x, &a, &b].iter().filter_map(|var| grads.get(var)).cloned().collect();
        let dtypes: Vec<DType> = found.iter().map(Tensor::dtype).collect();
        assert_eq!(dtypes, [activations, trained, trained]);
        found.iter().map(|gradient| gradient.to_dtype(DType::F64)).collect()
    };
    let expected = run(&Device::Cpu, true)?;
    for (found, expected) in run(device(), false)?.iter().zip(&expected) {
        // Several roundings to bf16, 2^-9 each, and sums that cancel in part.
        assert_close("gradient", &found.to_device(&Device::Cpu)?, expected, 3e-2)?;
    }
    Ok(())
}

/// Every device drops the same elements.
#[test]
fn masks_are_those_of_the_cpu() -> vxf_tensor::Result<()> {
    for dtype in [DType::F32, DType::BF16] {
        for (seed, lengths, width) in
            [(1, vec![1], 1), (2, vec![3, 0, 4], 7), (3, vec![8], 16), (4, vec![60, 31], 111)]
        {
            let rows = Rows::dense(&lengths);
            let draw = |device| {
                Key::root(seed).child("mask").mask(0.1, &rows, width, dtype, device)?.factors(dtype)
            };
            assert_eq!(values(&draw(device())?)?, values(&draw(&Device::Cpu)?)?, "{dtype:?}");
        }
    }
    Ok(())
}

/// A mask that is drawn at each use gives the bits of one that is kept, forward and backward.
#[test]
fn masks_are_drawn_again() -> vxf_tensor::Result<()> {
    let (inner, out, rank) = (37, 9, 4);
    for (dtype, lengths) in
        [(DType::F32, vec![5, 0, 31]), (DType::BF16, vec![40]), (DType::BF16, vec![1, 17])]
    {
        let rows = Rows::dense(&lengths);
        let mut source = Source::new(7);
        let mut operand = |shape: [usize; 2]| {
            Var::from_tensor(&source.tensor(&shape)?.to_dtype(DType::F32)?.to_device(device())?)
        };
        let x = operand([rows.count(), inner])?.to_dtype(dtype)?.detach();
        let w = operand([out, inner])?.to_dtype(dtype)?.detach();
        let (x, a, b) = (Var::from_tensor(&x)?, operand([rank, inner])?, operand([out, rank])?);
        let run = |on: &Device| -> Result<Vec<Vec<f64>>> {
            let mask = Key::root(3).mask(0.25, &rows, inner, dtype, on)?;
            let y = ops::lora_linear(&x, &w, &a, &b, 0.5, Some(&mask))?;
            let grads = (&y * &y)?.sum_all()?.backward()?;
            let found = [&x, &a, &b].map(|var| grads.get(var).expect("a gradient"));
            std::iter::once(&y).chain(found).map(values).collect()
        };
        // A mask of the CPU is copied to the device, and kept there.
        let kept = run(&Device::Cpu)?;
        assert_eq!(run(device())?, kept, "{dtype:?}, {lengths:?}");
        assert!(kept.iter().flatten().any(|value| *value != 0.0));
    }
    Ok(())
}

/// A sum and its norm have the bits of the two operations, and so have all gradients.
#[test]
fn a_sum_and_its_norm() -> Result<()> {
    for (dtype, rows, width) in [(DType::F32, 3, 37), (DType::BF16, 9, 520), (DType::BF16, 2, 1)] {
        let mut source = Source::new(8);
        let mut operand = |shape: &[usize]| {
            let x = source.tensor(shape)?.to_dtype(dtype)?.to_device(device())?;
            Var::from_tensor(&x)
        };
        let (x, y, gain) = (operand(&[rows, width])?, operand(&[rows, width])?, operand(&[width])?);
        let cotangents = [operand(&[rows, width])?, operand(&[rows, width])?];
        for frozen in [false, true] {
            let gain = if frozen { gain.detach() } else { gain.as_tensor().clone() };
            let run = |[sum, norm]: [Tensor; 2]| -> Result<Vec<Vec<f64>>> {
                let [of_sum, of_norm] = &cotangents;
                let ends = ((&sum * of_sum.detach())? + (&norm * of_norm.detach())?)?;
                let grads = ends.sum_all()?.backward()?;
                assert_eq!(grads.get(&gain).is_none(), frozen);
                let found = [grads.get(&x), grads.get(&y), grads.get(&gain)];
                [&sum, &norm].into_iter().chain(found.into_iter().flatten()).map(values).collect()
            };
            let together = run(ops::add_rms_norm(&x, &y, &gain, 1e-3)?)?;
            let sum = vxf_tensor::autograd::add(&x, &y)?;
            let norm = ops::rms_norm(&sum, &gain, 1e-3)?;
            assert_eq!(together, run([sum, norm])?, "{dtype:?} {rows} {width}");
        }
    }
    let wrong = |shape: &[usize]| Tensor::zeros(shape, DType::F32, device());
    let (x, y, gain) = (wrong(&[2, 4])?, wrong(&[2, 3])?, wrong(&[4])?);
    assert!(ops::add_rms_norm(&x, &y, &gain, 1e-3).is_err(), "sums of other shapes");
    assert!(ops::add_rms_norm(&y, &y, &gain, 1e-3).is_err(), "a gain of another width");
    Ok(())
}
