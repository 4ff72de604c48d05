//! Rotary position embedding, fused with the split into heads.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::autograd::apply1;

use super::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::compose;
use crate::kernel::{Real, filled};

/// Splits the last dimension into heads and puts them before the positions.
///
/// `x` is `[B, T, heads d]`, the result a contiguous `[B, heads, T, d]`.
///
/// # Errors
///
/// When `x` does not have three dimensions or its width is not a multiple of `heads`.
pub fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, len, d) = head_sizes("split_heads", x, heads)?;
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) {
        return crate::cuda::heads(x, None, [batch, len, heads, d]);
    }
    if !fused(x) {
        return x.reshape((batch, len, heads, d))?.transpose(1, 2)?.contiguous();
    }
    let shape = Shape::from((batch, heads, len, d));
    apply1(&x.contiguous()?, Heads { rotation: None, heads, len, d, shape })
}

/// Splits into heads and rotates each by its position.
///
/// `x` is `[B, T, heads d]`, the result a contiguous `[B, heads, T, d]`. Row `t` of `x` has
/// position `offset + t`, which selects the row of `cos` and `sin`, both `[T_max, half]`. Element
/// `i` of a head is rotated with element `i + half`, as in Hugging Face's Llama; elements from `2 half`
/// on are copied (partial rotary positions). The tables are captured and never get a gradient.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match, `d < 2 half`, or the tables are too short.
pub fn rotary(
    x: &Tensor,
    heads: usize,
    cos: &Tensor,
    sin: &Tensor,
    offset: usize,
) -> Result<Tensor> {
    same_kind("rotary", &[x, cos, sin])?;
    let (batch, len, d) = head_sizes("rotary", x, heads)?;
    match (cos.dims(), sin.dims()) {
        (&[rows, half], sin) if (1..=d / 2).contains(&half) && sin == [rows, half] => {
            if offset.saturating_add(len) > rows {
                bail!("rotary: positions {offset}..{offset}+{len} exceed the tables' {rows} rows");
            }
        }
        (cos, sin) => {
            bail!("rotary: cos is {cos:?} and sin is {sin:?}, not [positions, at most {}]", d / 2)
        }
    }
    let (cos, sin) = (cos.detach(), sin.detach());
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x) && 2 * cos.dim(1)? == d {
        let (cos, sin) = (cos.narrow(0, offset, len)?, sin.narrow(0, offset, len)?);
        return crate::cuda::heads(x, Some([&cos, &sin]), [batch, len, heads, d]);
    }
    if !fused(x) {
        return compose::rotary(x, heads, &cos, &sin, offset);
    }
    let (cos, sin) = (cos.narrow(0, offset, len)?, sin.narrow(0, offset, len)?);
    let shape = Shape::from((batch, heads, len, d));
    let rotation = Some((frozen(&cos)?, frozen(&sin)?));
    apply1(&x.contiguous()?, Heads { rotation, heads, len, d, shape })
}

/// Reads `[B, T, heads d]` as batch, length and width of a head.
fn head_sizes(op: &str, x: &Tensor, heads: usize) -> Result<(usize, usize, usize)> {
    match *x.dims() {
        [batch, len, width] if heads > 0 && width % heads == 0 => Ok((batch, len, width / heads)),
        _ => bail!("{op}: x is {:?}, not [batch, length, {heads} heads * width]", x.dims()),
    }
}

/// The split into heads, with the rotation of each if there are tables.
struct Heads {
    /// Cosines and sines, from the first position.
    rotation: Option<(Tensor, Tensor)>,
    heads: usize,
    len: usize,
    d: usize,
    shape: Shape,
}

/// Pairs that are rotated at a time.
const LANES: usize = 8;

/// Cosines and sines, `[positions, half]`.
#[derive(Clone, Copy)]
pub(super) struct Tables<'a, T> {
    pub(super) cos: &'a [T],
    pub(super) sin: &'a [T],
    pub(super) half: usize,
}

impl<T: Real> Tables<'_, T> {
    /// Rotates the first `2 half` elements of a head by the angles of position `t`, or back if `direction`
    /// is -1, and copies the others.
    #[inline(always)]
    pub(super) fn rotate(&self, to: &mut [T], from: &[T], t: usize, direction: T) {
        let angles = t * self.half..(t + 1) * self.half;
        let (turned, kept) = to.split_at_mut(2 * self.half);
        let (from, rest) = from.split_at(2 * self.half);
        rotate(turned, from, (&self.cos[angles.clone()], &self.sin[angles]), direction);
        kept.copy_from_slice(rest);
    }
}

/// Rotates one head at one position by the tables' angle, or back if `direction` is -1.
#[inline(always)]
fn rotate<T: Real>(to: &mut [T], from: &[T], (cos, sin): (&[T], &[T]), direction: T) {
    let half = from.len() / 2;
    let ((left, left_rest), (right, right_rest)) =
        (from[..half].as_chunks::<LANES>(), from[half..].as_chunks::<LANES>());
    let ((cos, cos_rest), (sin, sin_rest)) = (cos.as_chunks::<LANES>(), sin.as_chunks::<LANES>());
    let (to_left, to_right) = to.split_at_mut(half);
    let (to_left, to_left_rest) = to_left.as_chunks_mut::<LANES>();
    let (to_right, to_right_rest) = to_right.as_chunks_mut::<LANES>();
    let pairs = left.iter().zip(right).zip(cos.iter().zip(sin));
    for ((to_left, to_right), ((left, right), (cos, sin))) in
        to_left.iter_mut().zip(to_right).zip(pairs)
    {
        rotate_lanes((to_left, to_right), (left, right), (cos, sin), direction);
    }
    if !left_rest.is_empty() {
        // A head has few pairs, so the remaining ones are padded to a whole vector.
        let mut pairs = [[T::ZERO; LANES]; 4];
        for (pairs, rest) in pairs.iter_mut().zip([left_rest, right_rest, cos_rest, sin_rest]) {
            pairs[..rest.len()].copy_from_slice(rest);
        }
        let [left, right, cos, sin] = &pairs;
        let (mut to_left, mut to_right) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        rotate_lanes((&mut to_left, &mut to_right), (left, right), (cos, sin), direction);
        to_left_rest.copy_from_slice(&to_left[..left_rest.len()]);
        to_right_rest.copy_from_slice(&to_right[..left_rest.len()]);
    }
}

/// [`rotate`] for one vector of pairs.
#[inline(always)]
fn rotate_lanes<T: Real>(
    (to_left, to_right): (&mut [T; LANES], &mut [T; LANES]),
    (left, right): (&[T; LANES], &[T; LANES]),
    (cos, sin): (&[T; LANES], &[T; LANES]),
    direction: T,
) {
    for i in 0..LANES {
        let (a, b, cos, sin) = (left[i], right[i], cos[i], sin[i] * direction);
        to_left[i] = a * cos - b * sin;
        to_right[i] = b * cos + a * sin;
    }
}

impl Heads {
    /// Reorders rows `[T, heads]` of width `d` to `[heads, T]`, or back if `direction` is -1.
    fn apply<T: Real>(&self, x: &[T], direction: T) -> Result<Vec<T>> {
        let Self { heads, len, d, .. } = *self;
        let (cos, sin) = match &self.rotation {
            Some((cos, sin)) => (Some(flat(cos)?), Some(flat(sin)?)),
            None => (None, None),
        };
        let half = self.rotation.as_ref().map_or(Ok(0), |(cos, _)| cos.dim(1))?;
        let tables = match (&cos, &sin) {
            (Some(cos), Some(sin)) => {
                Some(Tables { cos: cos.slice::<T>()?, sin: sin.slice::<T>()?, half })
            }
            _ => None,
        };
        // The sizes of the output.
        let (outer, inner) = if direction == T::ONE { (heads, len) } else { (len, heads) };
        Ok(filled(
            x.len(),
            d,
            #[inline(always)]
            |first, y| {
                // The indices of the first row; the next ones follow without divisions.
                let (mut minor, mut major, mut batch) =
                    (first % inner, first / inner % outer, first / inner / outer);
                for y in y.chunks_exact_mut(d) {
                    let x = &x[((batch * inner + minor) * outer + major) * d..][..d];
                    let t = if direction == T::ONE { minor } else { major };
                    minor += 1;
                    if minor == inner {
                        (minor, major) = (0, major + 1);
                    }
                    if major == outer {
                        (major, batch) = (0, batch + 1);
                    }
                    match tables {
                        None => y.copy_from_slice(x),
                        Some(tables) => tables.rotate(y, x, t, direction),
                    }
                }
            },
        ))
    }
}

impl CustomOp1 for Heads {
    fn name(&self) -> &'static str {
        "heads"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            Ok(output(self.apply(elements::<T>(x, layout)?, T::ONE)?, &self.shape))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let dx = self.apply(flat(&dy)?.slice::<T>()?, -T::ONE)?;
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}
