//! Root-mean-square normalisation.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{add, apply1, apply2};

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, rows_of, same_kind};
use crate::compose;
use crate::kernel::{Real, add_scaled, dot, filled, sum_over_rows};

/// Normalises rows by their root mean square and multiplies them by a gain.
///
/// `x` is `[.., H]`, `gain` is `[H]`, the result has the shape of `x`: `x gain / sqrt(mean(x^2) +
/// eps)`. The last size of `x` may be a multiple of `H`: each part, such as a head, is then a row.
/// An untracked `gain` is captured and gets no gradient.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match.
pub fn rms_norm(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    let width = checked(x, gain)?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::rms_norm(x, gain, eps);
    }
    if !fused(x) {
        return compose::rms_norm(x, gain, eps);
    }
    let (x, norm) = (x.contiguous()?, Norm { width, eps });
    if gain.track_op() {
        apply2([&x, &gain.contiguous()?], norm)
    } else {
        apply1(&x, FrozenNorm { norm, gain: frozen(gain)? })
    }
}

/// `x + y` and [`rms_norm`] of it, with the bits of the two operations; on CUDA one kernel makes both.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match.
pub fn add_rms_norm(x: &Tensor, y: &Tensor, gain: &Tensor, eps: f64) -> Result<[Tensor; 2]> {
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        same_kind("add_rms_norm", &[x, y])?;
        if x.dims() != y.dims() {
            bail!("add_rms_norm: x is {:?} and y is {:?}", x.dims(), y.dims());
        }
        checked(x, gain)?;
        return crate::cuda::add_rms_norm([x, y], gain, eps);
    }
    let sum = add(x, y)?;
    let norm = rms_norm(&sum, gain, eps)?;
    Ok([sum, norm])
}

/// The width of the gain, if it fits `x`.
fn checked(x: &Tensor, gain: &Tensor) -> Result<usize> {
    same_kind("rms_norm", &[x, gain])?;
    let (_, last) = rows_of("rms_norm", x)?;
    match *gain.dims() {
        [width] if width > 0 && last % width == 0 => Ok(width),
        ref gain => bail!("rms_norm: x is {:?} but the gain is {gain:?}, not [{last}]", x.dims()),
    }
}

/// The normalisation without its gain.
struct Norm {
    width: usize,
    eps: f64,
}

impl Norm {
    /// The factor on a row.
    #[inline(always)]
    fn factor<T: Real>(&self, row: &[T]) -> T {
        let mean = dot(row, row) / T::of(self.width as f64);
        T::ONE / (mean + T::of(self.eps)).root()
    }

    fn forward<T: Real>(&self, x: &[T], gain: &[T]) -> Vec<T> {
        filled(
            x.len(),
            self.width,
            #[inline(always)]
            |row, y| {
                let x = x[row * self.width..].chunks_exact(self.width);
                for (y, x) in y.chunks_exact_mut(self.width).zip(x) {
                    let factor = self.factor(x);
                    for (y, (&x, &gain)) in y.iter_mut().zip(x.iter().zip(gain)) {
                        *y = x * factor * gain;
                    }
                }
            },
        )
    }

    /// With `r` the row's factor: `r (gain dy - x r^2 mean(gain dy x))`.
    fn back_x<T: Real>(&self, x: &[T], gain: &[T], dy: &[T]) -> Vec<T> {
        filled(
            x.len(),
            self.width,
            #[inline(always)]
            |row, dx| {
                let rows = x[row * self.width..].chunks_exact(self.width);
                let rows = rows.zip(dy[row * self.width..].chunks_exact(self.width));
                for (dx, (x, dy)) in dx.chunks_exact_mut(self.width).zip(rows) {
                    let factor = self.factor(x);
                    for (dx, (&dy, &gain)) in dx.iter_mut().zip(dy.iter().zip(gain)) {
                        *dx = dy * gain * factor;
                    }
                    let along = dot(dx, x) * factor * factor / T::of(self.width as f64);
                    add_scaled(dx, -along, x);
                }
            },
        )
    }

    /// The sum over rows of `dy x r`.
    fn back_gain<T: Real>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        let rows = x.len().checked_div(self.width).unwrap_or(0);
        sum_over_rows(
            rows,
            self.width,
            #[inline(always)]
            |row, sum| {
                let row = row * self.width..(row + 1) * self.width;
                let (x, dy) = (&x[row.clone()], &dy[row]);
                let factor = self.factor(x);
                for (sum, (&x, &dy)) in sum.iter_mut().zip(x.iter().zip(dy)) {
                    *sum += dy * x * factor;
                }
            },
        )
    }
}

/// The normalisation with a captured gain.
struct FrozenNorm {
    norm: Norm,
    gain: Tensor,
}

impl CustomOp1 for FrozenNorm {
    fn name(&self) -> &'static str {
        "frozen-rms-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let gain = flat(&self.gain)?;
            let y = self.norm.forward::<T>(elements(x, layout)?, gain.slice()?);
            Ok(output(y, layout.shape()))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let (xs, gain, dy) = (flat(x)?, flat(&self.gain)?, flat(&dy)?);
            let dx = self.norm.back_x::<T>(xs.slice()?, gain.slice()?, dy.slice()?);
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (x, gain) = (elements::<T>(x, layout)?, elements(gain, gain_layout)?);
            Ok(output(self.forward(x, gain), layout.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let (xs, dy) = (flat(x)?, flat(&dy)?);
            let (xs, dy) = (xs.slice::<T>()?, dy.slice::<T>()?);
            let dx = if x.track_op() {
                let dx = self.back_x(xs, flat(gain)?.slice()?, dy);
                Some(gradient(dx, x.shape())?)
            } else {
                None
            };
            let dgain = gradient(self.back_gain(xs, dy), gain.shape())?;
            Ok((dx, Some(dgain)))
        })
    }
}
