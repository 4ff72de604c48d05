//! The backward pass: recomputes scores, a tile at a time.

use rayon::prelude::*;
use vxf_tensor::vectorised;

use super::tile::{Attention, Sample, Scratch, TILE, Tile, padded_transpose, pitch, product};
use crate::kernel::{Real, View, dot, worth_sharing};

/// A key head of the backward pass: its sample, its index and its parts of dq, dk and dv.
pub(super) struct Task<'a, T> {
    pub(super) sample: usize,
    pub(super) kv_head: usize,
    /// Of all query heads of its group, `[group, len, d]`.
    pub(super) dq: Option<&'a mut [T]>,
    pub(super) dk: Option<&'a mut [T]>,
    pub(super) dv: Option<&'a mut [T]>,
}

impl Attention {
    /// Adds the gradients of q, k and v to the parts in `tasks`.
    ///
    /// One task owns a key head with all its query heads, so that dk and dv are summed in a fixed order,
    /// whatever the threads do.
    pub(super) fn backward<T: Real>(
        &self,
        (q, k, v): (&[T], &[T], &[T]),
        dy: &[T],
        tasks: Vec<Task<'_, T>>,
    ) {
        let Self { heads, kv_heads, d, .. } = *self;
        let group = heads / kv_heads;
        let scratch = || {
            let scratch = Scratch::new(self);
            let slopes = scratch.scores.clone();
            let capped = if self.cap.is_some() { slopes.clone() } else { Vec::new() };
            (scratch, slopes, capped)
        };
        let run = |(scratch, slopes, capped): &mut (Scratch<T>, Vec<T>, Vec<T>),
                   task: Task<'_, T>| {
            let Scratch { scores, transposed: scratch } = scratch;
            let Task { sample, kv_head, mut dq, mut dk, mut dv } = task;
            let Sample { sight, row, .. } = self.samples[sample];
            let (len, first_head) = (sight.len, kv_head * group);
            for (member, first) in
                (0..group).flat_map(|g| (0..len).step_by(TILE).map(move |t| (g, t)))
            {
                let rows = TILE.min(len - first);
                let tile = Tile { sample, head: first_head + member, first, rows };
                let seen = self.seen(tile);
                let (width, keys) = (seen.len(), seen.start * d..seen.end * d);
                let pitch = pitch(width);
                let (scores, slopes) = (&mut scores[..rows * pitch], &mut slopes[..rows * pitch]);
                self.probabilities(
                    tile,
                    (&mut *scores, &mut *scratch),
                    (q, k),
                    capped.get_mut(..rows * pitch),
                    #[inline(always)]
                    |_, scores, sum| {
                        let factor = T::ONE / sum;
                        scores.iter_mut().for_each(|p| *p *= factor);
                    },
                );
                let scores = View::strided(scores, rows, width, pitch);
                let at = ((row + first) * heads + tile.head) * d;
                let dy = View::strided(&dy[at..], rows, d, heads * d);
                if let Some(dv) = &mut dv {
                    product(&mut dv[keys.clone()], true, scores.t(), dy);
                }
                if dq.is_none() && dk.is_none() {
                    continue;
                }
                product(slopes, false, dy, padded_transpose(scratch, self.values(v, tile)));
                self.through_softmax(scores.data(), slopes, pitch);
                for (slope, capped) in slopes.iter_mut().zip(capped.iter()) {
                    *slope *= *capped;
                }
                let slopes = View::strided(slopes, rows, width, pitch);
                if let Some(dq) = &mut dq {
                    let dq = &mut dq[(member * len + first) * d..][..rows * d];
                    product(dq, false, slopes, self.keys(k, tile));
                }
                if let Some(dk) = &mut dk {
                    product(&mut dk[keys], true, slopes.t(), self.queries(q, tile));
                }
            }
        };
        if worth_sharing(self.scores()) {
            tasks.into_par_iter().for_each_init(scratch, run);
        } else {
            let mut scratch = scratch();
            tasks.into_iter().for_each(|task| run(&mut scratch, task));
        }
    }

    /// Turns the gradients of the probabilities `p` into those of the unscaled scores, before a soft cap.
    fn through_softmax<T: Real>(&self, p: &[T], slopes: &mut [T], width: usize) {
        let scale = T::of(self.scale());
        vectorised!({
            for (p, slopes) in p.chunks_exact(width).zip(slopes.chunks_exact_mut(width)) {
                let mean = dot(p, slopes);
                for (slope, &p) in slopes.iter_mut().zip(p) {
                    *slope = p * (*slope - mean) * scale;
                }
            }
        });
    }
}
