//! Stacks of matrices.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{apply2, apply3};

use super::{by_dtype, elements, fused, output, same_kind};
use crate::kernel::Real;

/// Concatenates one to three matrices of the same width along their rows.
///
/// # Errors
///
/// When the widths, dtypes or devices differ, or there are others than one to three.
pub fn stacked(parts: &[&Tensor]) -> Result<Tensor> {
    same_kind("stacked", parts)?;
    let mut rows = Vec::with_capacity(parts.len());
    let mut width = None;
    for part in parts {
        let (own, columns) = part.dims2()?;
        if *width.get_or_insert(columns) != columns {
            bail!("stacked: {:?} below a width of {width:?}", part.dims());
        }
        rows.push(own);
    }
    if parts.iter().any(|part| !fused(part)) {
        return Tensor::cat(parts, 0);
    }
    let shape = Shape::from((rows.iter().sum::<usize>(), width.unwrap_or(0)));
    match *parts {
        [x] => Ok(x.clone()),
        [x, y] => apply2([&x.contiguous()?, &y.contiguous()?], Stacked { rows, shape }),
        [x, y, z] => {
            apply3([&x.contiguous()?, &y.contiguous()?, &z.contiguous()?], Stacked { rows, shape })
        }
        _ => bail!("stacked: {} matrices", parts.len()),
    }
}

/// The operation; the gradients are parts of the result's gradient.
struct Stacked {
    rows: Vec<usize>,
    shape: Shape,
}

impl Stacked {
    fn forward<T: Real>(&self, parts: &[&[T]]) -> (CpuStorage, Shape) {
        output(parts.concat(), &self.shape)
    }

    fn part(&self, index: usize, of: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let first = self.rows[..index].iter().sum();
        of.track_op().then(|| dy.detach().narrow(0, first, self.rows[index])).transpose()
    }
}

impl CustomOp2 for Stacked {
    fn name(&self) -> &'static str {
        "stacked"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            Ok(self.forward::<T>(&[elements(x, x_layout)?, elements(y, y_layout)?]))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((self.part(0, x, dy)?, self.part(1, y, dy)?))
    }
}

impl CustomOp3 for Stacked {
    fn name(&self) -> &'static str {
        "stacked"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        z: &CpuStorage,
        z_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let parts = [elements(x, x_layout)?, elements(y, y_layout)?, elements(z, z_layout)?];
            Ok(self.forward::<T>(&parts))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        z: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        Ok((self.part(0, x, dy)?, self.part(1, y, dy)?, self.part(2, z, dy)?))
    }
}
