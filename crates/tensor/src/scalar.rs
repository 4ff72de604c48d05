//! A deferred scalar: a number that may still be on the device that computes it.
//!
//! Reading a number from a GPU waits for all work queued before it. A step computes dozens of
//! numbers: two losses, a norm per site, the gradient norm. They stay on the device as [`Scalar`]s
//! until [`fetch`] fetches all of them in one transfer.

use candle_core::{DType, Device, Tensor};

use crate::{Result, numeric};

/// A number that is known on the CPU or still pending on a device.
#[derive(Clone, Debug)]
pub struct Scalar(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Known(f64),
    /// A scalar in `f64` on a device.
    Pending(Tensor),
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self(Kind::Known(value))
    }
}

impl Default for Scalar {
    fn default() -> Self {
        0.0.into()
    }
}

impl Scalar {
    /// A scalar from a tensor with one element; does not wait for its device.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.detach().to_dtype(DType::F64)?;
        Ok(Self(match tensor.device() {
            Device::Cpu => Kind::Known(tensor.to_scalar()?),
            _ => Kind::Pending(tensor),
        }))
    }

    /// The value; waits for the device if it is pending.
    pub fn value(&self) -> Result<f64> {
        match &self.0 {
            Kind::Known(value) => Ok(*value),
            Kind::Pending(tensor) => Ok(tensor.to_scalar()?),
        }
    }

    /// The value, if it is already known.
    pub fn known(&self) -> Option<f64> {
        match &self.0 {
            Kind::Known(value) => Some(*value),
            Kind::Pending(_) => None,
        }
    }

    /// The sum of two scalars.
    pub fn add(&self, other: &Self) -> Result<Self> {
        Ok(match (&self.0, &other.0) {
            (Kind::Known(a), Kind::Known(b)) => (a + b).into(),
            (Kind::Known(a), Kind::Pending(b)) | (Kind::Pending(b), Kind::Known(a)) => {
                Self(Kind::Pending((b + *a)?))
            }
            (Kind::Pending(a), Kind::Pending(b)) => Self(Kind::Pending((a + b)?)),
        })
    }

    /// This scalar times `factor`.
    pub fn mul(&self, factor: f64) -> Result<Self> {
        self.map(|value| value * factor, |tensor| tensor * factor)
    }

    /// The square.
    pub fn sqr(&self) -> Result<Self> {
        self.map(|value| value * value, Tensor::sqr)
    }

    /// The square root.
    pub fn sqrt(&self) -> Result<Self> {
        self.map(f64::sqrt, Tensor::sqrt)
    }

    /// `numerator` divided by this scalar.
    pub fn rdiv(&self, numerator: f64) -> Result<Self> {
        self.map(|value| numerator / value, |tensor| tensor.recip()? * numerator)
    }

    /// A tensor times this scalar, rounded once to the tensor's dtype.
    pub fn scale(&self, tensor: &Tensor) -> Result<Tensor> {
        let factor = match &self.0 {
            Kind::Known(value) => return numeric::scaled(tensor, *value),
            Kind::Pending(factor) => factor,
        };
        #[cfg(feature = "cuda")]
        if crate::numeric::in_kernels(tensor) {
            let x = tensor.detach().contiguous()?;
            let scaled =
                vxf_cuda::with([&x, factor], |[x, factor]| vxf_cuda::scaled_by(x, factor))?;
            return Ok(vxf_cuda::tensor(scaled, tensor.shape()));
        }
        let wide = tensor.to_dtype(DType::F64)?.broadcast_mul(factor)?;
        wide.to_dtype(tensor.dtype())
    }

    fn map(
        &self,
        known: impl FnOnce(f64) -> f64,
        pending: impl FnOnce(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Self> {
        Ok(Self(match &self.0 {
            Kind::Known(value) => Kind::Known(known(*value)),
            Kind::Pending(tensor) => Kind::Pending(pending(tensor)?),
        }))
    }
}

/// Fetches the values of all `scalars`, in order; waits for a device at most once.
///
/// # Errors
/// When a device fails; when numbers are pending on several devices.
pub fn fetch(scalars: &[&Scalar]) -> Result<Vec<f64>> {
    let pending: Vec<Tensor> = scalars
        .iter()
        .filter_map(|scalar| match &scalar.0 {
            Kind::Known(_) => None,
            Kind::Pending(tensor) => Some(tensor.reshape(1)),
        })
        .collect::<candle_core::Result<_>>()?;
    let fetched = match pending.is_empty() {
        true => Vec::new(),
        false => Tensor::cat(&pending, 0)?.to_vec1::<f64>()?,
    };
    let mut fetched = fetched.into_iter();
    let value = |scalar: &&Scalar| scalar.known().or_else(|| fetched.next()).unwrap_or(f64::NAN);
    Ok(scalars.iter().map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(value: f64) -> Result<Scalar> {
        Ok(Scalar(Kind::Pending(Tensor::new(value, &Device::Cpu)?)))
    }

    /// Pending and known scalars give the same results.
    #[test]
    fn pending_numbers_compute_like_known_ones() -> Result<()> {
        let reckon = |a: &Scalar, b: &Scalar| -> Result<Vec<f64>> {
            let all = [
                a.add(b)?,
                b.add(a)?,
                a.mul(0.3)?,
                a.sqr()?,
                b.sqrt()?,
                b.rdiv(2.0)?,
                Scalar::from(7.0),
            ];
            fetch(&all.iter().collect::<Vec<_>>())
        };
        let (a, b) = (-1.7, 0.9);
        let known = reckon(&a.into(), &b.into())?;
        for (a, b) in [(pending(a)?, pending(b)?), (a.into(), pending(b)?)] {
            for (got, expected) in reckon(&a, &b)?.iter().zip(&known) {
                assert!((got - expected).abs() < 1e-15, "{got} {expected}");
            }
        }
        Ok(())
    }

    #[test]
    fn tensors_are_scaled_alike() -> Result<()> {
        let x = Tensor::new(&[1.5f32, -2.25, 0.1], &Device::Cpu)?;
        let known = Scalar::from(0.7).scale(&x)?.to_vec1::<f32>()?;
        for (got, expected) in pending(0.7)?.scale(&x)?.to_vec1::<f32>()?.iter().zip(known) {
            assert!((got - expected).abs() <= f32::EPSILON * expected.abs());
        }
        Ok(())
    }
}
