//! Random tensors and the two checks of an operation.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vxf_tensor::Mask;
use vxf_tensor::autograd::seed;
use vxf_testkit::device;

/// A source of random operands.
pub(crate) struct Source(ChaCha8Rng);

impl Source {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Values between -2 and 2.
    pub(crate) fn tensor(&mut self, shape: &[usize]) -> Result<Tensor> {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|_| self.0.random_range(-2.0..2.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    /// Tables of cosines and sines of random angles.
    pub(crate) fn angles(&mut self, rows: usize, half: usize) -> Result<(Tensor, Tensor)> {
        let angles = self.tensor(&[rows, half])?;
        Ok((angles.cos()?, angles.sin()?))
    }

    /// A dropout mask with p = 1/4.
    pub(crate) fn mask(&mut self, shape: &[usize]) -> Result<Tensor> {
        let count = shape.iter().product();
        let keep = |rng: &mut ChaCha8Rng| {
            if rng.random_bool(0.75) { 4.0 / 3.0 } else { 0.0 }
        };
        let values: Vec<f64> = (0..count).map(|_| keep(&mut self.0)).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }

    /// The same for an adapter's input of so many rows.
    pub(crate) fn dropout(&mut self, rows: usize, width: usize) -> Result<Mask> {
        let kept: Vec<u8> = (0..rows * width).map(|_| u8::from(self.0.random_bool(0.75))).collect();
        Ok(Mask::new(Tensor::from_vec(kept, (rows, width), &Device::Cpu)?, 4.0 / 3.0))
    }

    /// A target for each row, about a quarter ignored but never all.
    pub(crate) fn targets(&mut self, rows: usize, classes: usize) -> Vec<i64> {
        let mut targets: Vec<i64> = (0..rows)
            .map(|_| match self.0.random_bool(0.25) {
                true => -100,
                false => self.0.random_range(0..classes as i64),
            })
            .collect();
        targets[self.0.random_range(0..rows)] = 0;
        targets
    }

    /// A length for each batch row, in `1..=longest`.
    pub(crate) fn lengths(&mut self, batch: usize, longest: usize) -> Vec<usize> {
        (0..batch).map(|_| self.0.random_range(1..=longest)).collect()
    }
}

/// A further operand with the type and the device of `first`.
pub(crate) fn beside(first: &Tensor, x: &Tensor) -> Result<Tensor> {
    x.to_device(first.device())?.to_dtype(first.dtype())
}

/// An operation over the operands whose gradients are checked.
pub(crate) type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// All elements in `f64`.
pub(crate) fn values(x: &Tensor) -> Result<Vec<f64>> {
    x.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// The bits of all elements of an `f32` tensor.
pub(crate) fn bits(x: &Tensor) -> Result<Vec<u32>> {
    let values: Vec<f32> = x.detach().flatten_all()?.to_vec1()?;
    Ok(values.into_iter().map(f32::to_bits).collect())
}

/// The result and the gradients of every operand, for a random but fixed cotangent.
pub(crate) fn evaluate(op: Op<'_>, operands: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
    let vars: Vec<Var> = operands.iter().map(Var::from_tensor).collect::<Result<_>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let out = op(&tracked)?;
    let cotangent = beside(&out, &Source::new(99).tensor(out.dims())?)?;
    let grads = out.mul(&cotangent)?.sum_all()?.backward()?;
    let missing = || candle_core::Error::Msg("an operand without a gradient".into());
    let grads = vars.iter().map(|var| grads.get(var).cloned().ok_or_else(missing));
    let grads = grads.collect::<Result<Vec<_>>>()?;
    for (grad, operand) in grads.iter().zip(operands) {
        assert_eq!(grad.dims(), operand.dims(), "shape of a gradient");
        assert_eq!(grad.dtype(), operand.dtype(), "dtype of a gradient");
    }
    Ok((out.detach(), grads))
}

/// The backward pass from a result, with a cotangent of its own.
pub(crate) fn backward(out: &Tensor) -> Result<GradStore> {
    let cotangent = Source::new(5).tensor(out.dims())?.to_dtype(out.dtype())?;
    seed(out, &cotangent).expect("a graph").backward()
}

/// Asserts that two tensors agree to a tolerance relative to the larger elements.
///
/// Operands are near one, so much smaller elements are sums that cancel; they have the rounding
/// errors of their terms.
pub(crate) fn assert_close(
    what: &str,
    found: &Tensor,
    expected: &Tensor,
    tolerance: f64,
) -> Result<()> {
    assert_eq!(found.dims(), expected.dims(), "{what}: shape");
    let alike = !device().is_cpu() || found.dtype() == expected.dtype();
    assert!(alike, "{what}: {:?} instead of {:?}", found.dtype(), expected.dtype());
    let (found, expected) = (values(found)?, values(expected)?);
    let size = expected.iter().fold(0.5_f64, |size, x| size.max(x.abs()));
    for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance * size, "{what} {i}: {found} instead of {expected}");
    }
    Ok(())
}

/// Checks every element of every gradient against central differences in `f64`.
pub(crate) fn check_differences(op: Op<'_>, operands: &[Tensor]) -> Result<()> {
    const STEP: f64 = 1e-5;
    let (out, grads) = evaluate(op, operands)?;
    let cotangent = Source::new(99).tensor(out.dims())?;
    let loss = |operands: &[Tensor]| -> Result<f64> {
        op(operands)?.mul(&cotangent)?.sum_all()?.to_scalar::<f64>()
    };
    for (which, grad) in grads.iter().enumerate() {
        let start = values(&operands[which])?;
        let mut slopes = Vec::with_capacity(start.len());
        for i in 0..start.len() {
            let moved = |by: f64| -> Result<f64> {
                let mut point = start.clone();
                point[i] += by;
                let mut operands = operands.to_vec();
                operands[which] = Tensor::from_vec(point, grad.shape(), &Device::Cpu)?;
                loss(&operands)
            };
            slopes.push((moved(STEP)? - moved(-STEP)?) / (2.0 * STEP));
        }
        let slopes = Tensor::from_vec(slopes, grad.shape(), &Device::Cpu)?;
        assert_close(&format!("gradient {which}, element"), grad, &slopes, 1e-6)?;
    }
    Ok(())
}

/// Checks the result and the gradients against another form of the operation, in both types. On
/// another device it compares with that form on the CPU, in the types that have kernels.
pub(crate) fn check_same(fused: Op<'_>, slow: Op<'_>, operands: &[Tensor]) -> Result<()> {
    let cases = match device().is_cpu() {
        true => [(DType::F64, DType::F64, 1e-11), (DType::F32, DType::F32, 3e-5)],
        // The slow form gets rounded operands but does not round. One rounding to bf16 is 2^-9; a
        // result is rounded two or three times, and sums of some dozen terms cancel to a tenth.
        false => [(DType::F32, DType::F64, 3e-5), (DType::BF16, DType::F64, 6e-2)],
    };
    for (dtype, slow_dtype, tolerance) in cases {
        let operands: Vec<Tensor> =
            operands.iter().map(|x| x.to_dtype(dtype)).collect::<Result<_>>()?;
        let there: Vec<Tensor> =
            operands.iter().map(|x| x.to_device(device())).collect::<Result<_>>()?;
        let wide: Vec<Tensor> =
            operands.iter().map(|x| x.to_dtype(slow_dtype)).collect::<Result<_>>()?;
        let (found, found_grads) = evaluate(fused, &there)?;
        let (expected, expected_grads) = evaluate(slow, &wide)?;
        assert_close("result", &found, &expected, tolerance)?;
        for (which, (found, expected)) in found_grads.iter().zip(&expected_grads).enumerate() {
            assert_close(&format!("gradient {which}, element"), found, expected, tolerance)?;
        }
    }
    Ok(())
}
