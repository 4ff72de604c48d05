//! Attention over dense rows, fused with the split into heads and their rotation.

use std::sync::OnceLock;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;
use vxf_tensor::autograd::{apply1, apply3};
use vxf_tensor::{Rows, vectorised};

use super::backward::Task;
use super::dims::{Limits, Sight};
use super::tile::{Attention, Sample};
use crate::kernel::{Real, filled, worth_sharing};
use crate::ops::rotary::Tables;
use crate::ops::{by_dtype, elements, flat, frozen, fused, gradient, output, same_kind};
use crate::ops::{rotary, split_heads};

/// The heads of an attention, their rotation and window.
#[derive(Clone, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads, of which `queries` is a multiple.
    pub keys: usize,
    /// Cosines and sines, `[positions, half]`, by which the first `2 half` elements of each head of the
    /// queries and keys are rotated; see [`rotary`](fn@crate::ops::rotary).
    pub rotation: Option<[Tensor; 2]>,
    /// What limits the scores.
    pub limits: Limits,
}

/// Attends causally within each sample and joins the heads: `[positions, queries d]`.
///
/// `x` is one tensor `[positions, (queries + 2 keys) d]` with queries, keys and values side by side, or
/// three tensors `[positions, heads d]`. The first row of a sample is at position 0. Keys from `rows.seen()`
/// on are hidden. In all else this is [`attention`](fn@crate::ops::attention).
///
/// # Errors
///
/// When the shapes, dtypes or devices do not fit each other, or the tables are too short.
pub fn attend(x: &[&Tensor], heads: &Heads, rows: &Rows) -> Result<Tensor> {
    same_kind("attend", x)?;
    let sizes = Sizes::new(x, heads, rows)?;
    if rows.past().iter().any(|&past| past > 0) {
        bail!("attend: rows behind earlier positions, whose keys are not here");
    }
    #[cfg(feature = "cuda")]
    if crate::cuda::takes(x[0]) {
        if let Some([cos, sin]) = &heads.rotation {
            same_kind("attend", &[x[0], cos, sin])?;
        }
        let [q, k, v] = &parts(x, sizes)?;
        if let Some(y) = crate::cuda::attend([q, k, v], heads, sizes.d, rows)? {
            return Ok(y);
        }
    }
    let (Some(first), true) = (x.first(), x.iter().all(|x| fused(x))) else {
        return around(x, heads, rows, sizes);
    };
    if let Some([cos, sin]) = &heads.rotation {
        same_kind("attend", &[*first, cos, sin])?;
    }
    let op = Dense::new(sizes, heads, rows)?;
    match x {
        [x] => apply1(&x.contiguous()?, op),
        [q, k, v] => apply3([&q.contiguous()?, &k.contiguous()?, &v.contiguous()?], op),
        _ => unreachable!("one operand or three"),
    }
}

/// Queries, keys and values in tensors of their own.
fn parts(x: &[&Tensor], sizes: Sizes) -> Result<[Tensor; 3]> {
    let counts = sizes.counts();
    let part = |index: usize| match x {
        [x] => x.narrow(1, sizes.columns[index], counts[index] * sizes.d)?.contiguous(),
        x => Ok(x[index].clone()),
    };
    Ok([part(0)?, part(1)?, part(2)?])
}

/// Computes it in the rectangle around the samples.
fn around(x: &[&Tensor], heads: &Heads, rows: &Rows, sizes: Sizes) -> Result<Tensor> {
    let [q, k, v] = parts(x, sizes)?;
    let turned = |x: &Tensor, count: usize| {
        let x = rows.padded(x)?;
        match &heads.rotation {
            Some([cos, sin]) => rotary(&x, count, cos, sin, 0),
            None => split_heads(&x, count),
        }
    };
    let (q, k) = (turned(&q, heads.queries)?, turned(&k, heads.keys)?);
    let v = split_heads(&rows.padded(&v)?, heads.keys)?;
    // A sample without rows has no keys, and its output is not used.
    let seen: Vec<usize> = rows.seen().iter().map(|&seen| seen.max(1)).collect();
    rows.packed(&super::attention(&q, &k, &v, Some(&seen), heads.limits)?)
}

/// The sizes of the operands.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) d: usize,
    /// The first column of queries, keys and values in their operand, and the length of its rows.
    columns: [usize; 3],
    pitches: [usize; 3],
}

impl Sizes {
    pub(super) fn new(x: &[&Tensor], of: &Heads, rows: &Rows) -> Result<Self> {
        let Heads { queries: heads, keys: kv_heads, .. } = *of;
        let shapes: Vec<_> = x.iter().map(|x| x.dims()).collect();
        let wrong = || {
            candle_core::Error::Msg(format!(
                "attend: {shapes:?} for {} rows, {heads} query and {kv_heads} key heads",
                rows.count()
            ))
        };
        let all = heads + 2 * kv_heads;
        if kv_heads == 0 || heads % kv_heads != 0 {
            return Err(wrong());
        }
        of.limits.check("attend")?;
        let (d, columns, pitches) = match *shapes {
            [&[_, width]] if width > 0 && width % all == 0 => {
                let d = width / all;
                (d, [0, heads * d, (heads + kv_heads) * d], [width; 3])
            }
            [&[_, q], &[_, k], &[_, v]] if q > 0 && q % heads == 0 => {
                let d = q / heads;
                if k != kv_heads * d || v != k {
                    return Err(wrong());
                }
                (d, [0; 3], [q, k, v])
            }
            _ => return Err(wrong()),
        };
        if shapes.iter().any(|shape| shape[0] != rows.count()) || rows.count() == 0 {
            return Err(wrong());
        }
        if let Some([cos, sin]) = &of.rotation {
            let fits = |table: &Tensor| match *table.dims() {
                [positions, half] => positions >= rows.furthest() && (1..=d / 2).contains(&half),
                _ => false,
            };
            if !fits(cos) || cos.dims()[1..] != sin.dims()[1..] || !fits(sin) {
                let (cos, sin) = (cos.dims(), sin.dims());
                let positions = rows.furthest();
                bail!(
                    "attend: cos {cos:?} and sin {sin:?} for heads of width {d}, {positions} positions"
                );
            }
        }
        Ok(Self { heads, kv_heads, d, columns, pitches })
    }

    /// Heads of queries, keys and values.
    fn counts(&self) -> [usize; 3] {
        [self.heads, self.kv_heads, self.kv_heads]
    }

    /// All heads.
    pub(super) fn all(&self) -> usize {
        self.heads + 2 * self.kv_heads
    }
}

/// The operation. Between its steps, a sample is contiguous: `[queries + 2 keys, len, d]`.
pub(super) struct Dense {
    sizes: Sizes,
    rows: Rows,
    rotation: Option<(Tensor, Tensor)>,
    pub(super) attention: Attention,
    /// The split heads of all samples, kept from the forward pass.
    split: OnceLock<Tensor>,
}

impl Dense {
    pub(super) fn new(sizes: Sizes, heads: &Heads, rows: &Rows) -> Result<Self> {
        let Sizes { heads: queries, kv_heads, d, .. } = sizes;
        let mut samples = Vec::new();
        let of = rows.ranges().zip(rows.seen()).zip(rows.past());
        for ((range, &length), &past) in of.filter(|((range, _), _)| !range.is_empty()) {
            let (start, len) = (range.start * sizes.all() * d, range.len());
            samples.push(Sample {
                sight: Sight { len, keys: past + len, length, window: heads.limits.window },
                row: range.start,
                q: start,
                k: start + queries * len * d,
                v: start + (queries + kv_heads) * len * d,
                pitch: len * d,
            });
        }
        let rotation = match &heads.rotation {
            Some([cos, sin]) => Some((frozen(cos)?, frozen(sin)?)),
            None => None,
        };
        let attention = Attention { heads: queries, kv_heads, d, cap: heads.limits.cap, samples };
        Ok(Self { sizes, rows: rows.clone(), rotation, attention, split: OnceLock::new() })
    }

    /// Calls `work` with the tables, if there are any.
    fn with_tables<T: Real, R>(&self, work: impl FnOnce(Option<Tables<'_, T>>) -> R) -> Result<R> {
        match &self.rotation {
            None => Ok(work(None)),
            Some((cos, sin)) => {
                let half = cos.dim(1)?;
                let (cos, sin) = (flat(cos)?, flat(sin)?);
                Ok(work(Some(Tables { cos: cos.slice()?, sin: sin.slice()?, half })))
            }
        }
    }

    /// Splits the operands into heads, sample by sample, and rotates queries and keys.
    pub(super) fn split<T: Real>(&self, x: [&[T]; 3]) -> Result<Vec<T>> {
        let Sizes { d, columns, pitches, .. } = self.sizes;
        let counts = self.sizes.counts();
        let mut out = vec![T::ZERO; self.rows.count() * self.sizes.all() * d];
        let (mut tasks, mut rest) = (Vec::new(), &mut out[..]);
        for Sample { sight, row, .. } in &self.attention.samples {
            for part in 0..3 {
                for head in 0..counts[part] {
                    let (own, others) = rest.split_at_mut(sight.len * d);
                    rest = others;
                    let past = sight.keys - sight.len;
                    tasks.push((part, columns[part] + head * d, (*row, past), own));
                }
            }
        }
        self.with_tables(|tables| {
            let run =
                |(part, column, (first, past), out): (usize, usize, (usize, usize), &mut [T])| {
                    let tables = tables.filter(|_| part < 2);
                    vectorised!({
                        for (t, out) in out.chunks_exact_mut(d).enumerate() {
                            let x = &x[part][(first + t) * pitches[part] + column..][..d];
                            turn(out, x, tables, past + t, T::ONE);
                        }
                    });
                };
            match worth_sharing(self.rows.count() * self.sizes.all() * d) {
                true => tasks.into_par_iter().for_each(run),
                false => tasks.into_iter().for_each(run),
            }
        })?;
        Ok(out)
    }

    /// The transpose of [`Dense::split`] for the parts `parts` of an operand `pitch` wide.
    fn joined<T: Real>(&self, split: &[T], parts: &[usize], pitch: usize) -> Result<Vec<T>> {
        let Sizes { d, columns, .. } = self.sizes;
        let counts = self.sizes.counts();
        // The sample and position of each row.
        let samples = &self.attention.samples;
        let positions: Vec<(usize, usize)> = samples
            .iter()
            .enumerate()
            .flat_map(|(index, sample)| (0..sample.sight.len).map(move |t| (index, t)))
            .collect();
        self.with_tables(|tables| {
            filled(
                self.rows.count() * pitch,
                pitch,
                #[inline(always)]
                |first, out| {
                    let rows = out.chunks_exact_mut(pitch).zip(&positions[first..]);
                    for (out, &(sample, t)) in rows {
                        let Sample { sight, q, k, v, .. } = samples[sample];
                        for &part in parts {
                            let start = [q, k, v][part];
                            for head in 0..counts[part] {
                                let x = &split[start + (head * sight.len + t) * d..][..d];
                                let out = &mut out[columns[part] + head * d..][..d];
                                turn(out, x, tables.filter(|_| part < 2), t, -T::ONE);
                            }
                        }
                    }
                },
            )
        })
    }

    fn forward<T: Real>(&self, x: [&[T]; 3]) -> Result<(CpuStorage, Shape)> {
        let split = self.split(x)?;
        let y = self.attention.forward(&split, &split, &split);
        let kept =
            gradient(split, &Shape::from((self.rows.count(), self.sizes.all() * self.sizes.d)))?;
        // Each operation runs forward once, so the cell was empty.
        self.split.get_or_init(|| kept);
        Ok(output(y, &Shape::from((self.rows.count(), self.sizes.heads * self.sizes.d))))
    }

    /// The gradients of the split heads; zero for parts that are not needed.
    fn backward<T: Real>(&self, dy: &[T], need: [bool; 3]) -> Result<Vec<T>> {
        let Some(split) = self.split.get() else {
            bail!("attend: the backward pass ran before the forward pass");
        };
        let split = flat(split)?;
        let split = split.slice::<T>()?;
        let Sizes { heads, kv_heads, d, .. } = self.sizes;
        let mut slopes = vec![T::ZERO; split.len()];
        let (mut tasks, mut rest) = (Vec::new(), &mut slopes[..]);
        for (sample, of) in self.attention.samples.iter().enumerate() {
            let len = of.sight.len;
            let mut take = |count: usize| {
                let (own, others) = std::mem::take(&mut rest).split_at_mut(count * len * d);
                rest = others;
                own
            };
            let (dq, dk, dv) = (take(heads), take(kv_heads), take(kv_heads));
            let (mut dq, mut dk, mut dv) = (
                dq.chunks_mut(heads / kv_heads * len * d),
                dk.chunks_mut(len * d),
                dv.chunks_mut(len * d),
            );
            for kv_head in 0..kv_heads {
                let [dq, dk, dv] = [dq.next(), dk.next(), dv.next()];
                tasks.push(Task {
                    sample,
                    kv_head,
                    dq: dq.filter(|_| need[0]),
                    dk: dk.filter(|_| need[1]),
                    dv: dv.filter(|_| need[2]),
                });
            }
        }
        self.attention.backward((split, split, split), dy, tasks);
        Ok(slopes)
    }
}

/// Copies one head at one position, rotated by its angle; backwards if `direction` is -1.
#[inline(always)]
fn turn<T: Real>(out: &mut [T], x: &[T], tables: Option<Tables<'_, T>>, t: usize, direction: T) {
    match tables {
        None => out.copy_from_slice(x),
        Some(tables) => tables.rotate(out, x, t, direction),
    }
}

impl CustomOp1 for Dense {
    fn name(&self) -> &'static str {
        "attend-joint"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        by_dtype!(x.dtype(), T => self.forward::<T>([elements(x, layout)?; 3]))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let dy = frozen(dy)?;
        by_dtype!(x.dtype(), T => {
            let slopes = self.backward::<T>(flat(&dy)?.slice()?, [true; 3])?;
            let dx = self.joined(&slopes, &[0, 1, 2], self.sizes.pitches[0])?;
            Ok(Some(gradient(dx, x.shape())?))
        })
    }
}

impl CustomOp3 for Dense {
    fn name(&self) -> &'static str {
        "attend"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        by_dtype!(q.dtype(), T => {
            self.forward::<T>([elements(q, q_layout)?, elements(k, k_layout)?, elements(v, v_layout)?])
        })
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = frozen(dy)?;
        let operands = [q, k, v];
        let need = operands.map(Tensor::track_op);
        by_dtype!(q.dtype(), T => {
            let slopes = self.backward::<T>(flat(&dy)?.slice()?, need)?;
            let made = |part: usize| -> Result<Option<Tensor>> {
                if !need[part] {
                    return Ok(None);
                }
                let dx = self.joined(&slopes, &[part], self.sizes.pitches[part])?;
                gradient(dx, operands[part].shape()).map(Some)
            };
            Ok((made(0)?, made(1)?, made(2)?))
        })
    }
}
