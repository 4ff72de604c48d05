//! The sizes of an attention, and the keys that its queries see.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

/// What limits the scores of an attention.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    /// The number of last keys that a query sees, its own included; none is no limit.
    pub window: Option<usize>,
    /// The soft cap: a scaled score `s` becomes `cap tanh(s / cap)`, as in Gemma 2.
    pub cap: Option<f64>,
}

impl From<Option<usize>> for Limits {
    fn from(window: Option<usize>) -> Self {
        Self { window, cap: None }
    }
}

impl Limits {
    /// Whether a window and a cap are sizes that an attention can have.
    pub(crate) fn check(&self, op: &str) -> Result<()> {
        if self.window == Some(0) {
            bail!("{op}: a window of 0 keys");
        }
        match self.cap {
            Some(cap) if !(cap.is_finite() && cap > 0.0) => bail!("{op}: a soft cap of {cap}"),
            _ => Ok(()),
        }
    }
}

/// The sizes of an attention.
#[derive(Clone, Copy)]
pub(crate) struct Dims {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) len: usize,
    pub(crate) keys: usize,
    pub(crate) d: usize,
    limits: Limits,
}

impl Dims {
    /// Reads and checks the operands' shapes.
    pub(crate) fn new(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        lengths: Option<&[usize]>,
        limits: Limits,
    ) -> Result<Self> {
        let dims = match (q.dims(), k.dims(), v.dims()) {
            (&[batch, heads, len, d], &[k_batch, kv_heads, keys, k_d], v)
                if v == k.dims()
                    && k_batch == batch
                    && k_d == d
                    && kv_heads > 0
                    && heads % kv_heads == 0
                    && keys >= len =>
            {
                Self { batch, heads, kv_heads, len, keys, d, limits }
            }
            (q, k, v) => bail!(
                "attention: q {q:?}, k {k:?}, v {v:?} are not [B, Hq, T, d] and twice \
                 [B, Hkv, S, d] with Hq a multiple of Hkv and S >= T"
            ),
        };
        if q.elem_count() == 0 {
            bail!("attention: q {:?} is empty", q.dims());
        }
        limits.check("attention")?;
        if let Some(lengths) = lengths {
            if lengths.len() != dims.batch {
                bail!("attention: {} lengths for a batch of {}", lengths.len(), dims.batch);
            }
            if let Some(length) = lengths.iter().find(|&&n| n == 0 || n > dims.keys) {
                bail!("attention: a length of {length} is not in 1..={}", dims.keys);
            }
        }
        Ok(dims)
    }

    /// The keys that query `t` sees in a batch row with `length` real keys; `None` if there are
    /// none.
    pub(crate) fn visible(&self, t: usize, length: usize) -> Option<Range<usize>> {
        let Self { len, keys, .. } = *self;
        Sight { len, keys, length, window: self.limits.window }.visible(t)
    }

    /// What limits the scores.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    /// The factor on scores.
    pub(crate) fn scale(&self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }
}

/// The keys that the queries of one sample see.
#[derive(Clone, Copy)]
pub(crate) struct Sight {
    /// The number of queries; the last one is at the last key.
    pub(crate) len: usize,
    /// The number of keys.
    pub(crate) keys: usize,
    /// The number of keys that are not hidden.
    pub(crate) length: usize,
    /// The number of last keys that a query sees.
    pub(crate) window: Option<usize>,
}

impl Sight {
    /// The keys that query `t` sees; `None` where that is no key at all.
    pub(crate) fn visible(&self, t: usize) -> Option<Range<usize>> {
        let end = self.keys - self.len + t + 1;
        let start = self.window.map_or(0, |window| end.saturating_sub(window));
        let shown = start..end.min(self.length);
        (!shown.is_empty()).then_some(shown)
    }

    /// The keys that one of the queries `first..first + rows` has a score for.
    pub(super) fn seen(&self, first: usize, rows: usize) -> Range<usize> {
        // Both ends move on with the query, and a query that sees nothing stands after all that
        // see something.
        match (self.visible(first), self.visible(first + rows - 1)) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => 0..self.keys,
        }
    }
}
