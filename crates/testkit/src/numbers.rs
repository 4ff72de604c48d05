//! Tensors as plain numbers.

use candle_core::{DType, Tensor};
use vxf_core::{Params, Result};

/// All entries in row-major order, in f64.
pub fn entries(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.detach().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

/// The L2 norm.
pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The L2 norm of the difference.
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "the same number of entries");
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// The tensor plus `by` at the row-major `index`.
pub fn nudged(tensor: &Tensor, index: usize, by: f64) -> Result<Tensor> {
    let mut values = entries(tensor)?;
    values[index] += by;
    let moved = Tensor::from_vec(values, tensor.shape(), &candle_core::Device::Cpu)?;
    Ok(moved.to_dtype(tensor.dtype())?.to_device(tensor.device())?)
}

/// The name of a tensor that differs in any bit, except the sign of a zero, or that only one side
/// has.
pub fn first_difference(a: &Params, b: &Params) -> Result<Option<String>> {
    let names = a.names().chain(b.names());
    for name in names {
        let (Some(x), Some(y)) = (a.get(name), b.get(name)) else {
            return Ok(Some(name.to_owned()));
        };
        // Conversion to f64 is exact, so bits agree there if and only if they agree here. A zero
        // may have either sign, because candle's sums start at plus zero; adding zero makes it
        // plus.
        let bits = |tensor| {
            let entries = entries(tensor)?.into_iter();
            Ok::<_, vxf_core::Error>(entries.map(|entry| (entry + 0.0).to_bits()))
        };
        if x.dims() != y.dims() || !bits(x)?.eq(bits(y)?) {
            return Ok(Some(name.to_owned()));
        }
    }
    Ok(None)
}

/// `|a - b| / |b|` over all tensors together, in f64.
pub fn relative_distance(a: &Params, b: &Params) -> Result<f64> {
    let difference = a.zip(b, |a, b| Ok((a.to_dtype(DType::F64)? - b.to_dtype(DType::F64)?)?))?;
    Ok(difference.norm()? / b.norm()?.max(f64::MIN_POSITIVE))
}
