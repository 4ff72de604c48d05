//! Layer normalisation.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::{apply1, apply3};

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, rows_of, same_kind};
use crate::compose;
use crate::kernel::{Real, add_scaled, dot, filled, sum, sum_over_rows};

/// Normalises rows to mean zero and variance one, multiplies by a gain and adds a bias.
///
/// `x` is `[.., H]`, `gain` and `bias` are `[H]`, the result has the shape of `x`: `(x - mean(x)) /
/// sqrt(var(x) + eps) gain + bias`, with the variance over H elements. If neither is tracked, gain
/// and bias are captured and get no gradient.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    same_kind("layer_norm", &[x, gain, bias])?;
    let (_, width) = rows_of("layer_norm", x)?;
    for (name, tensor) in [("gain", gain), ("bias", bias)] {
        if tensor.dims() != [width] {
            let (x, found) = (x.dims(), tensor.dims());
            bail!("layer_norm: x is {x:?} but the {name} is {found:?}, not [{width}]");
        }
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::layer_norm(x, gain, bias, eps);
    }
    if !fused(x) {
        return compose::layer_norm(x, gain, bias, eps);
    }
    let (x, norm) = (x.contiguous()?, Norm { width, eps });
    if gain.track_op() || bias.track_op() {
        apply3([&x, &gain.contiguous()?, &bias.contiguous()?], norm)
    } else {
        apply1(&x, FrozenNorm { norm, gain: frozen(gain)?, bias: frozen(bias)? })
    }
}

/// The normalisation without its gain and bias.
struct Norm {
    width: usize,
    eps: f64,
}

impl Norm {
    /// A row's mean and the reciprocal of its standard deviation.
    #[inline(always)]
    fn moments<T: Real>(&self, row: &[T]) -> (T, T) {
        let count = T::of(self.width as f64);
        let mean = sum(row) / count;
        // Relative to the mean: a difference of two sums of squares would lose all digits of a row
        // far from zero.
        let mut squares = T::ZERO;
        for part in row.chunks(CHUNK) {
            let mut distances = [T::ZERO; CHUNK];
            for (distance, &x) in distances.iter_mut().zip(part) {
                *distance = x - mean;
            }
            squares += dot(&distances[..part.len()], &distances[..part.len()]);
        }
        (mean, T::ONE / (squares / count + T::of(self.eps)).root())
    }

    fn forward<T: Real>(&self, x: &[T], gain: &[T], bias: &[T]) -> Vec<T> {
        filled(
            x.len(),
            self.width,
            #[inline(always)]
            |row, y| {
                let x = x[row * self.width..].chunks_exact(self.width);
                for (y, x) in y.chunks_exact_mut(self.width).zip(x) {
                    let (mean, factor) = self.moments(x);
                    let affine = gain.iter().zip(bias);
                    for (y, (&x, (&gain, &bias))) in y.iter_mut().zip(x.iter().zip(affine)) {
                        *y = (x - mean) * factor * gain + bias;
                    }
                }
            },
        )
    }

    /// With `n` the normalised row, `r` its factor and `g = gain dy`:
    /// `r (g - mean(g) - n mean(g n))`.
    fn back_x<T: Real>(&self, x: &[T], gain: &[T], dy: &[T]) -> Vec<T> {
        let count = T::of(self.width as f64);
        filled(
            x.len(),
            self.width,
            #[inline(always)]
            |row, dx| {
                let rows = x[row * self.width..].chunks_exact(self.width);
                let rows = rows.zip(dy[row * self.width..].chunks_exact(self.width));
                let mut normed = vec![T::ZERO; self.width];
                for (dx, (x, dy)) in dx.chunks_exact_mut(self.width).zip(rows) {
                    let (mean, factor) = self.moments(x);
                    let operands = x.iter().zip(dy.iter().zip(gain));
                    for ((dx, normed), (&x, (&dy, &gain))) in
                        dx.iter_mut().zip(&mut normed).zip(operands)
                    {
                        *normed = (x - mean) * factor;
                        *dx = dy * gain * factor;
                    }
                    let (shift, along) = (sum(dx) / count, dot(dx, &normed) / count);
                    dx.iter_mut().for_each(|dx| *dx -= shift);
                    add_scaled(dx, -along, &normed);
                }
            },
        )
    }

    /// The sum over rows of `dy n`.
    fn back_gain<T: Real>(&self, x: &[T], dy: &[T]) -> Vec<T> {
        sum_over_rows(
            self.rows(x),
            self.width,
            #[inline(always)]
            |row, sum| {
                let row = row * self.width..(row + 1) * self.width;
                let (x, dy) = (&x[row.clone()], &dy[row]);
                let (mean, factor) = self.moments(x);
                for (sum, (&x, &dy)) in sum.iter_mut().zip(x.iter().zip(dy)) {
                    *sum += dy * ((x - mean) * factor);
                }
            },
        )
    }

    /// The sum over rows of `dy`.
    fn back_bias<T: Real>(&self, dy: &[T]) -> Vec<T> {
        sum_over_rows(
            self.rows(dy),
            self.width,
            #[inline(always)]
            |row, sum| {
                add_scaled(sum, T::ONE, &dy[row * self.width..(row + 1) * self.width]);
            },
        )
    }

    fn rows<T>(&self, x: &[T]) -> usize {
        x.len().checked_div(self.width).unwrap_or(0)
    }
}

/// Elements of a row whose deviations from the mean are in memory at one time.
const CHUNK: usize = 64;

/// The normalisation with a captured gain and bias.
struct FrozenNorm {
    norm: Norm,
    gain: Tensor,
    bias: Tensor,
}

impl CustomOp1 for FrozenNorm {
    fn name(&self) -> &'static str {
        "frozen-layer-norm"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (gain, bias) = (flat(&self.gain)?, flat(&self.bias)?);
            let y = self.norm.forward::<T>(elements(x, layout)?, gain.slice()?, bias.slice()?);
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

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        gain: &CpuStorage,
        gain_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (x, gain) = (elements::<T>(x, layout)?, elements(gain, gain_layout)?);
            let y = self.forward(x, gain, elements(bias, bias_layout)?);
            Ok(output(y, layout.shape()))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        gain: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let (xs, dy) = (flat(x)?, flat(&dy)?);
            let (xs, dy) = (xs.slice::<T>()?, dy.slice::<T>()?);
            let dx = match x.track_op() {
                true => Some(gradient(self.back_x(xs, flat(gain)?.slice()?, dy), x.shape())?),
                false => None,
            };
            let dgain = match gain.track_op() {
                true => Some(gradient(self.back_gain(xs, dy), gain.shape())?),
                false => None,
            };
            let dbias = match bias.track_op() {
                true => Some(gradient(self.back_bias(dy), bias.shape())?),
                false => None,
            };
            Ok((dx, dgain, dbias))
        })
    }
}
