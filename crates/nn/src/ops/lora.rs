//! Frozen linear layers of the same input, with trained low-rank adapters.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use vxf_tensor::Mask;
use vxf_tensor::autograd::{apply1, apply3, cast};

use super::linear::{Sizes, Values};
use super::{
    Matrix, Weight, by_dtype, elements, flat, frozen, fused, gradient, output, same_kind, with_last,
};
use crate::compose;
use crate::kernel::{
    Kept, Real, View, dots, masked_dots, masked_spread, outer_sum, spread, transposed,
};

/// One of several linear layers of the same input.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The number of outputs.
    pub out: usize,
    /// Whether it has an adapter.
    pub adapted: bool,
    /// The dropout of the adapter's input.
    pub mask: Option<Mask>,
}

/// Applies a frozen linear layer and its low-rank adapter.
///
/// Computes `x w^T + scale ((x * mask) a^T) b^T` for `x` `[.., in]`, `w` `[out, in]`, `a` `[r, in]`
/// and `b` `[out, r]`; the result is `[.., out]`. `mask`, with as many rows as `x`, is the dropout of
/// the adapter's input. `w` and `mask` never get a gradient, even when tracked; `x`, `a` and `b` get
/// theirs if tracked. `a` and `b` may have another type than `x`: they are rounded to the type of `x`,
/// and their gradients keep their own type.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match.
pub fn lora_linear<'a>(
    x: &Tensor,
    w: impl Into<Weight<'a>>,
    a: &Tensor,
    b: &Tensor,
    scale: f64,
    mask: Option<&Mask>,
) -> Result<Tensor> {
    let w = w.into();
    let out = w.dims().first().copied().unwrap_or(0);
    let layer = Layer { out, adapted: true, mask: mask.cloned() };
    lora_linears(x, w, [a, b], &[layer], scale, Values::Read)
}

/// Applies several layers of the same input, with their adapters; the outputs are side by side.
///
/// `w` `[out, in]` is the stack of the weights of all `layers`. `a` `[r layers, in]` and `b` `[out, r]` are
/// the stacks of all adapters, in the order of the layers that have one; all have the same rank. In all else
/// this is [`lora_linear`].
///
/// # Errors
///
/// When the shapes, dtypes or devices do not fit each other.
pub fn lora_linears<'a>(
    x: &Tensor,
    w: impl Into<Weight<'a>>,
    [a, b]: [&Tensor; 2],
    layers: &[Layer],
    scale: f64,
    values: Values,
) -> Result<Tensor> {
    let w = w.into();
    let sizes = Sizes::new("lora_linear", x, w)?;
    same_kind("lora_linear", &[a, b])?;
    let Sizes { inner, out, rows } = sizes;
    let adapted = || layers.iter().filter(|layer| layer.adapted);
    let (count, adapted_out) = (adapted().count(), adapted().map(|layer| layer.out).sum::<usize>());
    let rank = match (a.dims(), b.dims()) {
        (&[ranks, a_inner], &[b_out, rank])
            if a_inner == inner
                && b_out == adapted_out
                && ranks == rank * count
                && layers.iter().map(|layer| layer.out).sum::<usize>() == out =>
        {
            rank
        }
        (a, b) => bail!(
            "lora_linear: a is {a:?} and b is {b:?}, not [r, {inner}] and [{out}, r], for x {:?}",
            x.dims()
        ),
    };
    for mask in layers.iter().filter_map(|layer| layer.mask.as_ref()) {
        if mask.dims() != [rows, inner] {
            bail!("lora_linear: the mask is {:?} but x is {:?}", mask.dims(), x.dims());
        }
    }
    #[cfg(feature = "cuda")]
    if let ([layer], true) = (layers, crate::cuda::takes(x)) {
        let shape = with_last(x, out);
        let mask = layer.mask.as_ref();
        return crate::cuda::lora_linear(x, w, [a, b], scale, mask, (sizes, shape));
    }
    let (a, b) = (&cast(a, x.dtype())?, &cast(b, x.dtype())?);
    same_kind("lora_linear", &[x, a, b])?;
    if !fused(x) {
        return compose::lora_linears(x, &w.dense(x.dtype())?, [a, b], layers, scale);
    }
    let x = x.contiguous()?;
    let base = Base {
        w: w.held()?,
        parts: Part::of(layers, rank)?,
        sizes,
        rank,
        scale,
        values,
        shape: with_last(&x, out),
    };
    if a.track_op() || b.track_op() {
        apply3([&x, &a.contiguous()?, &b.contiguous()?], Adapted { base, inner: OnceLock::new() })
    } else {
        apply1(&x, FrozenAdapted { base, a: frozen(a)?, b: frozen(b)? })
    }
}

/// The place of an adapter in the stacks.
struct Part {
    /// Its first column of the output, and the number of its columns.
    column: usize,
    out: usize,
    /// Its first row of `b`.
    row: usize,
    /// Its first row of `a`, and column of the inner activation.
    rank: usize,
    /// Its dropout: the elements of the input that are kept, u8, and their factor.
    mask: Option<(Tensor, f64)>,
}

impl Part {
    fn of(layers: &[Layer], rank: usize) -> Result<Vec<Self>> {
        let (mut column, mut row, mut parts) = (0, 0, Vec::new());
        for Layer { out, adapted, mask } in layers {
            if *adapted {
                let mask = match mask.as_ref().map(Mask::kept) {
                    None => None,
                    Some(Some((kept, factor))) => Some((kept.contiguous()?, factor)),
                    Some(None) => bail!("lora_linear: a mask of another device"),
                };
                parts.push(Self { column, out: *out, row, rank: parts.len() * rank, mask });
                row += out;
            }
            column += out;
        }
        Ok(parts)
    }

    /// Calls `work` with the mask, if there is one.
    fn masked<T: Real, R>(&self, work: impl FnOnce(Option<Kept<'_, T>>) -> R) -> Result<R> {
        let Some((kept, factor)) = &self.mask else { return Ok(work(None)) };
        let kept = flat(kept)?;
        Ok(work(Some(Kept { bytes: kept.bytes()?, factor: T::of(*factor) })))
    }
}

/// The captured operands of both forms.
struct Base {
    w: Matrix,
    parts: Vec<Part>,
    sizes: Sizes,
    /// The rank of each adapter.
    rank: usize,
    scale: f64,
    values: Values,
    shape: Shape,
}

impl Base {
    /// The number of columns of the inner activations.
    fn ranks(&self) -> usize {
        self.parts.len() * self.rank
    }

    /// The inner activation of one adapter, as a part of all.
    fn inner<'a, T: Real>(&self, u: &'a [T], part: &Part) -> View<'a, T> {
        View::strided(&u[part.rank.min(u.len())..], self.sizes.rows, self.rank, self.ranks())
    }

    /// The outputs of one layer, as a part of all.
    fn outputs<'a, T: Real>(&self, y: &'a [T], part: &Part) -> View<'a, T> {
        View::strided(&y[part.column.min(y.len())..], self.sizes.rows, part.out, self.sizes.out)
    }

    /// The rows of `b` that belong to one adapter, transposed: `[r, out]`.
    fn up<T: Real>(&self, b: &[T], part: &Part) -> Vec<T> {
        transposed(&b[part.row * self.rank..][..part.out * self.rank], self.rank)
    }

    /// Writes `[rows, r]` of one adapter, times the scale, to its columns of all.
    fn place<T: Real>(&self, all: &mut [T], own: &[T], part: &Part) {
        let scale = T::of(self.scale);
        let rows = all.chunks_exact_mut(self.ranks()).zip(own.chunks_exact(self.rank));
        for (all, own) in rows {
            for (all, &own) in all[part.rank..].iter_mut().zip(own) {
                *all = own * scale;
            }
        }
    }

    /// The layers' outputs, and the adapters' inner activations `scale x a^T`.
    fn forward<T: Real>(&self, x: &[T], a: &[T], b: &[T]) -> Result<[Vec<T>; 2]> {
        let Sizes { rows, inner, out } = self.sizes;
        let mut y = self.sizes.forward(x, &self.w, self.values)?;
        let view = View::new(x, rows, inner);
        let u = if self.parts.iter().all(|part| part.mask.is_none()) {
            let mut u = dots(view, a, self.ranks());
            let scale = T::of(self.scale);
            u.iter_mut().for_each(|u| *u *= scale);
            u
        } else {
            let mut u = vec![T::ZERO; rows * self.ranks()];
            for part in &self.parts {
                let a = &a[part.rank * inner..][..self.rank * inner];
                let own = part.masked(|mask| match mask {
                    None => dots(view, a, self.rank),
                    Some(mask) => masked_dots(view, mask, a, self.rank),
                })?;
                self.place(&mut u, &own, part);
            }
            u
        };
        if self.values == Values::Read {
            for part in &self.parts {
                let column = part.column.min(y.len());
                spread(&mut y[column..], out, self.inner(&u, part), &self.up(b, part));
            }
        }
        Ok([y, u])
    }

    /// The gradients of the adapters' unscaled inner activations, `scale dy b`.
    fn back_down<T: Real>(&self, dy: &[T], b: &[T]) -> Vec<T> {
        let mut du = vec![T::ZERO; self.sizes.rows * self.ranks()];
        for part in &self.parts {
            let own = dots(self.outputs(dy, part), &self.up(b, part), self.rank);
            self.place(&mut du, &own, part);
        }
        du
    }

    /// The gradient of `x`: `dy w + (du a) * mask`.
    fn back_x<T: Real>(&self, dy: &[T], du: &[T], a: &[T]) -> Result<Vec<T>> {
        let Sizes { rows, inner, .. } = self.sizes;
        let mut dx = self.w.read(|w| self.sizes.back_x(dy, w))?;
        if self.parts.iter().all(|part| part.mask.is_none()) {
            spread(&mut dx, inner, View::new(du, rows, self.ranks()), a);
            return Ok(dx);
        }
        for part in &self.parts {
            let a = &a[part.rank * inner..][..self.rank * inner];
            let du = self.inner(du, part);
            part.masked(|mask| match mask {
                None => spread(&mut dx, inner, du, a),
                Some(mask) => masked_spread(&mut dx, du, a, mask),
            })?;
        }
        Ok(dx)
    }

    /// The gradient of `a`: `du^T (x * mask)`.
    fn back_a<T: Real>(&self, x: &[T], du: &[T]) -> Result<Vec<T>> {
        let Sizes { rows, inner, .. } = self.sizes;
        let x = View::new(x, rows, inner);
        if self.parts.iter().all(|part| part.mask.is_none()) {
            return Ok(outer_sum(View::new(du, rows, self.ranks()), x, None));
        }
        let mut all = Vec::with_capacity(self.ranks() * inner);
        for part in &self.parts {
            let own = part.masked(|mask| outer_sum(self.inner(du, part), x, mask))?;
            all.extend(own);
        }
        Ok(all)
    }

    /// The gradient of `b`: `dy^T u`, where `u` includes the scale.
    fn back_b<T: Real>(&self, dy: &[T], u: &[T]) -> Vec<T> {
        let mut all = Vec::new();
        for part in &self.parts {
            let own = outer_sum(self.inner(u, part), self.outputs(dy, part), None);
            all.extend(transposed(&own, part.out));
        }
        all
    }
}

/// The layers with captured adapters: only the gradient of `x`.
struct FrozenAdapted {
    base: Base,
    a: Tensor,
    b: Tensor,
}

impl CustomOp1 for FrozenAdapted {
    fn name(&self) -> &'static str {
        "frozen-lora-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (a, b) = (flat(&self.a)?, flat(&self.b)?);
            let [y, _] = self.base.forward::<T>(elements(x, layout)?, a.slice()?, b.slice()?)?;
            Ok(output(y, &self.base.shape))
        })
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let (a, b, dy) = (flat(&self.a)?, flat(&self.b)?, flat(&dy)?);
            let dy = dy.slice::<T>()?;
            let du = self.base.back_down(dy, b.slice()?);
            let dx = self.base.back_x(dy, &du, a.slice()?)?;
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}

/// The layers with trained adapters.
struct Adapted {
    base: Base,
    /// The adapters' inner activations `[rows, r layers]` with their scale, kept from the forward pass.
    inner: OnceLock<Tensor>,
}

impl CustomOp3 for Adapted {
    fn name(&self) -> &'static str {
        "lora-linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => {
            let (a, b) = (elements::<T>(a, a_layout)?, elements(b, b_layout)?);
            let [y, u] = self.base.forward(elements(x, x_layout)?, a, b)?;
            let u = gradient(u, &Shape::from((self.base.sizes.rows, self.base.ranks())))?;
            // Each operation runs forward once, so the cell was empty.
            self.inner.get_or_init(|| u);
            Ok(output(y, &self.base.shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let (xs, aa, bb, dy) = (flat(x)?, flat(a)?, flat(b)?, flat(&dy)?);
            let (xs, aa, bb) = (xs.slice::<T>()?, aa.slice::<T>()?, bb.slice::<T>()?);
            let dy = dy.slice::<T>()?;
            let made = |needed: bool, values: &dyn Fn() -> Result<Vec<T>>, of: &Tensor| {
                needed.then(|| gradient(values()?, of.shape())).transpose()
            };
            let db = || match self.inner.get() {
                Some(u) => Ok(self.base.back_b(dy, flat(u)?.slice()?)),
                None => bail!("lora_linear: the backward pass ran before the forward pass"),
            };
            let db = made(b.track_op(), &db, b)?;
            let du = self.base.back_down(dy, bb);
            let da = made(a.track_op(), &|| self.base.back_a(xs, &du), a)?;
            let dx = made(x.track_op(), &|| self.base.back_x(dy, &du, aa), x)?;
            Ok((dx, da, db))
        })
    }
}
