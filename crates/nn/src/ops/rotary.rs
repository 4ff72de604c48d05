//! Rotary position embedding, joined with the split into heads.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::compose;
use crate::kernel::{Real, blocks};

/// Splits the last dimension into heads and puts them before the positions.
///
/// `x` is `[B, T, heads d]`, the result a contiguous `[B, heads, T, d]`.
///
/// # Errors
///
/// When `x` has not three dimensions or its width is not a multiple of `heads`.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, len, d) = head_sizes("split_heads", x, heads)?;
    x.reshape((batch, len, heads, d))?.transpose(1, 2)?.contiguous()
}

/// Splits into heads and rotates each by its position.
///
/// `x` is `[B, T, heads d]`, the result a contiguous `[B, heads, T, d]`. Row `t` of `x` stands at
/// position `offset + t`, which selects the row of `cos` and `sin`, both `[T_max, d / 2]`. The
/// halves of a head form the rotated pairs: element `i` with element `i + d / 2`, as in Hugging
/// Face's Llama. The tables are captured and never get a gradient.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not fit each other, `d` is odd, or the tables are too
/// short.
pub fn rotary(
    x: &Tensor,
    heads: usize,
    cos: &Tensor,
    sin: &Tensor,
    offset: usize,
) -> Result<Tensor> {
    same_kind("rotary", &[x, cos, sin])?;
    let (batch, len, d) = head_sizes("rotary", x, heads)?;
    if d % 2 != 0 {
        bail!("rotary: heads of odd width {d} (x {:?}, {heads} heads)", x.dims());
    }
    match (cos.dims(), sin.dims()) {
        (&[rows, half], sin) if half == d / 2 && sin == [rows, half] => {
            if offset.saturating_add(len) > rows {
                bail!("rotary: positions {offset}..{offset}+{len} exceed the tables' {rows} rows");
            }
        }
        (cos, sin) => {
            bail!("rotary: cos is {cos:?} and sin is {sin:?}, not [positions, {}]", d / 2)
        }
    }
    if !fused(x) {
        return compose::rotary(x, heads, &cos.detach(), &sin.detach(), offset);
    }
    let (cos, sin) = (cos.narrow(0, offset, len)?, sin.narrow(0, offset, len)?);
    let shape = Shape::from((batch, heads, len, d));
    let op = Rotary { cos: frozen(&cos)?, sin: frozen(&sin)?, heads, len, d, shape };
    x.contiguous()?.apply_op1(op)
}

/// Reads `[B, T, heads d]` as batch, length and width of a head.
fn head_sizes(op: &str, x: &Tensor, heads: usize) -> Result<(usize, usize, usize)> {
    match *x.dims() {
        [batch, len, width] if heads > 0 && width % heads == 0 => Ok((batch, len, width / heads)),
        _ => bail!("{op}: x is {:?}, not [batch, length, {heads} heads * width]", x.dims()),
    }
}

/// The rotation with its tables, from row `offset` on.
struct Rotary {
    cos: Tensor,
    sin: Tensor,
    heads: usize,
    len: usize,
    d: usize,
    shape: Shape,
}

impl Rotary {
    /// Rotates one head at one position, by the tables' angle or, for `turn` -1, back.
    fn rotate<T: Real>(&self, to: &mut [T], from: &[T], cos: &[T], sin: &[T], turn: T) {
        let half = self.d / 2;
        let (left, right) = from.split_at(half);
        let (to_left, to_right) = to.split_at_mut(half);
        let angles = cos.iter().zip(sin);
        let pairs = left.iter().zip(right).zip(angles);
        for ((l, r), ((&a, &b), (&cos, &sin))) in to_left.iter_mut().zip(to_right).zip(pairs) {
            let sin = sin * turn;
            *l = a * cos - b * sin;
            *r = b * cos + a * sin;
        }
    }

    fn forward<T: Real>(&self, x: &[T], cos: &[T], sin: &[T]) -> Vec<T> {
        let (d, half) = (self.d, self.d / 2);
        let mut y = vec![T::ZERO; x.len()];
        blocks(&mut y, d, |first, y| {
            for (row, y) in (first..).zip(y.chunks_exact_mut(d)) {
                let (t, head, batch) =
                    (row % self.len, row / self.len % self.heads, row / self.len / self.heads);
                let at = ((batch * self.len + t) * self.heads + head) * d;
                let angle = t * half..(t + 1) * half;
                self.rotate(y, &x[at..at + d], &cos[angle.clone()], &sin[angle], T::ONE);
            }
        });
        y
    }

    fn backward<T: Real>(&self, dy: &[T], cos: &[T], sin: &[T]) -> Vec<T> {
        let (d, half) = (self.d, self.d / 2);
        let mut dx = vec![T::ZERO; dy.len()];
        blocks(&mut dx, d, |first, dx| {
            for (row, dx) in (first..).zip(dx.chunks_exact_mut(d)) {
                let (head, t, batch) =
                    (row % self.heads, row / self.heads % self.len, row / self.heads / self.len);
                let at = ((batch * self.heads + head) * self.len + t) * d;
                let angle = t * half..(t + 1) * half;
                self.rotate(dx, &dy[at..at + d], &cos[angle.clone()], &sin[angle], -T::ONE);
            }
        });
        dx
    }
}

impl CustomOp1 for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(self.cos.dtype(), T => {
            let (cos, sin) = (flat(&self.cos)?, flat(&self.sin)?);
            let y = self.forward::<T>(elements(x, layout)?, cos.slice()?, sin.slice()?);
            Ok(output(y, &self.shape))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(self.cos.dtype(), T => {
            let (cos, sin, dy) = (flat(&self.cos)?, flat(&self.sin)?, flat(&dy)?);
            let dx = self.backward::<T>(dy.slice()?, cos.slice()?, sin.slice()?);
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}
