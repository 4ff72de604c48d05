//! The start of a backward pass from a given cotangent.

use candle_core::backend::BackendDevice;
use candle_core::cpu_backend::CpuDevice;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, bail};

use super::{frozen, same_kind};
use crate::compose;

/// Makes a scalar zero whose backward pass hands `cotangent` to `out`.
///
/// `seed(out, g)?.backward()?` gives the vector-Jacobian products of `g` with everything that
/// `out` was computed from. `cotangent` has the shape of `out` and never gets a gradient. On the
/// CPU it runs for every floating-point type.
///
/// # Errors
///
/// When the shapes, dtypes or devices differ, or the dtype is not a floating-point one.
pub fn seed(out: &Tensor, cotangent: &Tensor) -> Result<Tensor> {
    same_kind("seed", &[out, cotangent])?;
    if out.dims() != cotangent.dims() {
        bail!(
            "seed: out is {:?} but the cotangent is {:?}",
            out.dims(),
            cotangent.dims()
        );
    }
    if !matches!(out.device(), Device::Cpu) {
        return compose::seed(out, &cotangent.detach());
    }
    out.apply_op1(Seed {
        cotangent: frozen(cotangent)?,
    })
}

/// The operation with its cotangent.
struct Seed {
    cotangent: Tensor,
}

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }

    fn cpu_fwd(&self, _out: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = Shape::from(());
        Ok((CpuDevice.zeros_impl(&shape, self.cotangent.dtype())?, shape))
    }

    fn bwd(&self, out: &Tensor, _zero: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        if !out.track_op() {
            return Ok(None);
        }
        // `backward` starts from one, where the cotangent is handed on as it is.
        let factor = grad
            .detach()
            .to_dtype(candle_core::DType::F64)?
            .to_scalar::<f64>()?;
        if factor == 1.0 {
            return Ok(Some(self.cotangent.clone()));
        }
        Ok(Some(self.cotangent.affine(factor, 0.0)?))
    }
}
