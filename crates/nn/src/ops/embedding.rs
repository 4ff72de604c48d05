//! Looks up rows of a table by their indices.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::apply1;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output};
use crate::compose;
use crate::kernel::{Real, add_scaled, filled};

/// Looks up rows of a table, such as token embeddings.
///
/// `table` is `[V, H]`, `indices` is u32 `[..]`, the result `[.., H]`. The gradient of a row is the
/// sum over its uses, in their order; uses of the index `ignored` contribute nothing, as with
/// PyTorch's `padding_idx`.
///
/// # Errors
///
/// When the table is not a matrix, or an index exceeds it.
pub fn embedding(table: &Tensor, indices: &Tensor, ignored: Option<u32>) -> Result<Tensor> {
    if !fused(table) {
        return compose::embedding(table, indices, ignored);
    }
    let (rows, width) = table.dims2()?;
    let list = indices.flatten_all()?.to_vec1::<u32>()?;
    if let Some(index) = list.iter().find(|&&index| index as usize >= rows) {
        bail!("embedding: index {index} of a table of only {rows} rows");
    }
    let shape = Shape::from([indices.dims(), &[width]].concat());
    apply1(&table.contiguous()?, Lookup { list, ignored, width, shape })
}

/// The operation with its indices.
struct Lookup {
    list: Vec<u32>,
    ignored: Option<u32>,
    width: usize,
    /// The shape of the result.
    shape: Shape,
}

impl Lookup {
    fn forward<T: Real>(&self, table: &[T]) -> Vec<T> {
        let width = self.width;
        filled(
            self.list.len() * width,
            width,
            #[inline(always)]
            |first, out| {
                for (out, &index) in out.chunks_exact_mut(width).zip(&self.list[first..]) {
                    out.copy_from_slice(&table[index as usize * width..][..width]);
                }
            },
        )
    }

    /// The gradient of a table of `len` elements.
    fn backward<T: Real>(&self, dy: &[T], len: usize) -> Vec<T> {
        let mut table = vec![T::ZERO; len];
        for (dy, &index) in dy.chunks_exact(self.width).zip(&self.list) {
            if Some(index) != self.ignored {
                add_scaled(&mut table[index as usize * self.width..][..self.width], T::ONE, dy);
            }
        }
        table
    }
}

impl CustomOp1 for Lookup {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn cpu_fwd(&self, table: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(table.dtype(), T => {
            Ok(output(self.forward(elements::<T>(table, layout)?), &self.shape))
        })
    }

    fn bwd(&self, table: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !table.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(table.dtype(), T => {
            let gradients = self.backward::<T>(flat(&dy)?.slice()?, table.elem_count());
            Ok(Some(gradient(gradients, table.shape())?))
        })
    }
}
