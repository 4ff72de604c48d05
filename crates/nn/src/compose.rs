//! The operations of [`crate::ops`], composed of candle's differentiable operations.
//!
//! They run on every device and in every floating-point type; sums over many elements of half types
//! are computed in `f32`. They keep every intermediate result and compute gradients for operands
//! that need none; [`crate::ops`] avoids both. They check less: if a shape is wrong, the error is
//! candle's.

use candle_core::{D, DType, Result, Tensor};

use vxf_tensor::{Mask, Rows};

use crate::ops::{AttentionDims, Heads, Layer, Limits, labelled_rows};

pub use crate::ops::split_heads;

/// The type in which elements of `x` are summed.
fn wide(x: &Tensor) -> DType {
    match x.dtype() {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// Applies a linear layer without bias: `x w^T`.
///
/// `x` is `[.., in]`, `w` is `[out, in]`, the result `[.., out]`.
///
/// # Errors
///
/// When candle rejects the shapes, dtypes or devices.
pub fn linear(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (out, inner) = w.dims2()?;
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = out;
    }
    x.reshape(((), inner))?.matmul(&w.t()?)?.reshape(shape)
}

/// Applies a linear layer and its low-rank adapter.
///
/// Computes `x w^T + scale ((x * mask) a^T) b^T`; see [`crate::ops::lora_linear`].
///
/// # Errors
///
/// When candle rejects the shapes, dtypes or devices.
pub fn lora_linear(
    x: &Tensor,
    w: &Tensor,
    a: &Tensor,
    b: &Tensor,
    scale: f64,
    mask: Option<&Mask>,
) -> Result<Tensor> {
    let adapter = match mask {
        Some(mask) => {
            let factors = mask.factors(x.dtype())?.to_device(x.device())?;
            linear(&x.mul(&factors.reshape(x.shape())?)?, a)?
        }
        None => linear(x, a)?,
    };
    linear(x, w)?.add(&linear(&adapter, b)?.affine(scale, 0.0)?)
}

/// Applies several layers of the same input, with their adapters; see [`crate::ops::lora_linears`].
///
/// # Errors
///
/// When candle refuses the shapes, dtypes or devices.
pub fn lora_linears(
    x: &Tensor,
    w: &Tensor,
    [a, b]: [&Tensor; 2],
    layers: &[Layer],
    scale: f64,
) -> Result<Tensor> {
    let rank = b.dim(1)?;
    let (mut column, mut row, mut first) = (0, 0, 0);
    let mut outputs = Vec::with_capacity(layers.len());
    for Layer { out, adapted, mask } in layers {
        let w = w.narrow(0, column, *out)?;
        column += out;
        if !adapted {
            outputs.push(linear(x, &w)?);
            continue;
        }
        let (a, b) = (a.narrow(0, first, rank)?, b.narrow(0, row, *out)?);
        outputs.push(lora_linear(x, &w, &a, &b, scale, mask.as_ref())?);
        (row, first) = (row + out, first + rank);
    }
    Tensor::cat(&outputs, D::Minus1)
}

/// Looks up rows of a table `[V, H]` by indices `[..]`, the result `[.., H]`; see
/// [`crate::ops::embedding`].
///
/// # Errors
///
/// When candle rejects the shapes, dtypes or devices, or an index exceeds the table.
pub fn embedding(table: &Tensor, indices: &Tensor, ignored: Option<u32>) -> Result<Tensor> {
    let list = indices.flatten_all()?;
    let mut rows = table.index_select(&list, 0)?;
    if let Some(index) = ignored.filter(|_| table.track_op()) {
        let ignored = list.eq(index)?.unsqueeze(1)?.broadcast_as(rows.shape())?;
        rows = ignored.where_cond(&rows.detach(), &rows)?;
    }
    rows.reshape([indices.dims(), &[table.dim(1)?]].concat())
}

/// Normalises rows by their root mean square and multiplies them by a gain.
///
/// `x` is `[.., H]`, `gain` is `[H]`, the result has the shape of `x`.
///
/// # Errors
///
/// When candle rejects the shapes, dtypes or devices.
pub fn rms_norm(x: &Tensor, gain: &Tensor, eps: f64) -> Result<Tensor> {
    let shape = x.shape();
    let x = x.reshape(((), gain.dim(0)?))?;
    let wide_x = x.to_dtype(wide(&x))?;
    let root = wide_x.sqr()?.mean_keepdim(D::Minus1)?.affine(1.0, eps)?.sqrt()?;
    let normed = wide_x.broadcast_div(&root)?.to_dtype(x.dtype())?;
    normed.broadcast_mul(gain)?.reshape(shape)
}

/// Normalises rows to mean zero and variance one, multiplies by a gain and adds a bias.
///
/// `x` is `[.., H]`, `gain` and `bias` are `[H]`, the result has the shape of `x`.
///
/// # Errors
///
/// When candle rejects the shapes, dtypes or devices.
pub fn layer_norm(x: &Tensor, gain: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let wide_x = x.to_dtype(wide(x))?;
    let centred = wide_x.broadcast_sub(&wide_x.mean_keepdim(D::Minus1)?)?;
    let root = centred.sqr()?.mean_keepdim(D::Minus1)?.affine(1.0, eps)?.sqrt()?;
    let normed = centred.broadcast_div(&root)?.to_dtype(x.dtype())?;
    normed.broadcast_mul(gain)?.broadcast_add(bias)
}

/// Adds a bias `[H]` to every row of `x` `[.., H]`.
///
/// # Errors
///
/// When candle rejects the shapes, dtypes or devices.
pub fn add_bias(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    x.broadcast_add(bias)
}

/// Replaces negative elements by zero.
///
/// # Errors
///
/// When candle rejects the dtype.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    // Candle's own `relu` has gradient one at zero.
    x.le(0.0)?.where_cond(&x.zeros_like()?.detach(), x)
}

/// Splits into heads and rotates each by its position.
///
/// `x` is `[B, T, heads d]`, `cos` and `sin` are `[T_max, half]`, the result `[B, heads, T, d]`;
/// see [`crate::ops::rotary`].
///
/// # Errors
///
/// When candle rejects the shapes, dtypes or devices.
pub fn rotary(
    x: &Tensor,
    heads: usize,
    cos: &Tensor,
    sin: &Tensor,
    offset: usize,
) -> Result<Tensor> {
    let x = split_heads(x, heads)?;
    let (_, _, len, d) = x.dims4()?;
    let (cos, sin) = (cos.narrow(0, offset, len)?, sin.narrow(0, offset, len)?);
    let half = cos.dim(1)?;
    let (left, right) = (x.narrow(3, 0, half)?, x.narrow(3, half, half)?);
    let new_left = left.broadcast_mul(&cos)?.sub(&right.broadcast_mul(&sin)?)?;
    let new_right = right.broadcast_mul(&cos)?.add(&left.broadcast_mul(&sin)?)?;
    match d - 2 * half {
        0 => Tensor::cat(&[new_left, new_right], 3),
        kept => Tensor::cat(&[new_left, new_right, x.narrow(3, 2 * half, kept)?], 3),
    }
}

/// Squeezes elements softly into `-cap..cap`: `cap tanh(x / cap)`, or `x` without a cap.
///
/// # Errors
///
/// When candle rejects the dtype.
pub fn capped(x: &Tensor, cap: Option<f64>) -> Result<Tensor> {
    match cap {
        None => Ok(x.clone()),
        Some(cap) => x.affine(1.0 / cap, 0.0)?.tanh()?.affine(cap, 0.0),
    }
}

/// Attends causally from queries to keys and joins the heads.
///
/// `q` is `[B, Hq, T, d]`, `k` and `v` are `[B, Hkv, S, d]`, the result `[B, T, Hq d]`; see
/// [`crate::ops::attention`].
///
/// # Errors
///
/// When the shapes, dtypes, devices or lengths do not match.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    lengths: Option<&[usize]>,
    limits: impl Into<Limits>,
) -> Result<Tensor> {
    let limits = limits.into();
    let dims = AttentionDims::new(q, k, v, lengths, limits)?;
    let AttentionDims { batch, heads, kv_heads, len, keys, d, .. } = dims;
    let group = heads / kv_heads;
    let repeated = |x: &Tensor| {
        x.unsqueeze(2)?
            .broadcast_as((batch, kv_heads, group, keys, d))?
            .contiguous()?
            .reshape((batch, heads, keys, d))
    };

    // Finite, so that a query whose keys are all hidden weights them equally.
    let mut hidden = vec![f32::MIN; batch * len * keys];
    for (row, hidden) in hidden.chunks_exact_mut(keys).enumerate() {
        let length = lengths.map_or(keys, |lengths| lengths[row / len]);
        if let Some(shown) = dims.visible(row % len, length) {
            hidden[shown].fill(0.0);
        }
    }
    let hidden = Tensor::from_vec(hidden, (batch, 1, len, keys), q.device())?;

    let scores = q.contiguous()?.matmul(&repeated(k)?.t()?)?.to_dtype(wide(q))?;
    let scores = capped(&scores.affine(dims.scale(), 0.0)?, limits.cap)?;
    let scores = scores.broadcast_add(&hidden.to_dtype(wide(q))?)?;
    let top = scores.detach().max_keepdim(D::Minus1)?;
    let exps = scores.broadcast_sub(&top)?.exp()?;
    let sums = exps.sum_keepdim(D::Minus1)?;
    let probabilities = exps.broadcast_div(&sums)?.to_dtype(q.dtype())?;
    let mixed = probabilities.matmul(&repeated(v)?)?;
    mixed.transpose(1, 2)?.reshape((batch, len, heads * d))
}

/// Multiplies `up` by the sigmoid-weighted `gate`: `gate sigmoid(gate) up`.
///
/// # Errors
///
/// When the shapes, dtypes or devices differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    gate.silu()?.mul(up)
}

/// The same for one tensor with `gate` and `up` side by side.
///
/// # Errors
///
/// When candle refuses the shape or dtype.
pub fn swiglu_joint(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)? / 2;
    swiglu(&x.narrow(D::Minus1, 0, width)?, &x.narrow(D::Minus1, width, width)?)
}

/// Attends within each sample of dense rows; see [`crate::ops::attend`].
///
/// # Errors
///
/// When candle refuses the shapes, dtypes or devices.
pub fn attend(x: &[&Tensor], heads: &Heads, rows: &Rows) -> Result<Tensor> {
    let Heads { queries, keys, rotation, limits } = heads;
    let parts: Vec<Tensor> = match *x {
        [x] => {
            let d = x.dim(1)? / (queries + 2 * keys);
            let part = |first: usize, count: usize| x.narrow(1, first * d, count * d);
            vec![part(0, *queries)?, part(*queries, *keys)?, part(queries + keys, *keys)?]
        }
        _ => x.iter().map(|&x| x.clone()).collect(),
    };
    let mut samples = Vec::with_capacity(rows.samples());
    for (range, &seen) in rows.ranges().zip(rows.seen()).filter(|(range, _)| !range.is_empty()) {
        let turned = |index: usize, count: usize| {
            let x = parts[index].narrow(0, range.start, range.len())?.unsqueeze(0)?;
            match rotation {
                Some([cos, sin]) if index < 2 => rotary(&x, count, cos, sin, 0),
                _ => split_heads(&x, count),
            }
        };
        let (q, k, v) = (turned(0, *queries)?, turned(1, *keys)?, turned(2, *keys)?);
        samples.push(attention(&q, &k, &v, Some(&[seen]), *limits)?.squeeze(0)?);
    }
    Tensor::cat(&samples, 0)
}

/// Multiplies `up` by the GELU of `gate` in its tanh form.
///
/// # Errors
///
/// When the shapes, dtypes or devices differ.
pub fn geglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    // candle's own GELU has a backward of seven digits.
    let cube = (gate.sqr()?.mul(gate)? * 0.044_715)?;
    let inner = ((gate + cube)? * (2.0 / std::f64::consts::PI).sqrt())?;
    (inner.tanh()? + 1.0)?.mul(&(gate * 0.5)?)?.mul(up)
}

/// Averages the cross-entropy of the logits `h w^T` over the labelled rows.
///
/// `h` is `[.., H]`, `w` is `[V, H]`, `targets` has one class for each row of `h`, negative for an
/// ignored row; `cap` squeezes the logits first; the result is a scalar. Holds the logits of all labelled
/// rows.
///
/// # Errors
///
/// When the shapes, dtypes or devices do not match, a target is not below `V`, or every target is
/// negative.
pub fn linear_cross_entropy(
    h: &Tensor,
    w: &Tensor,
    targets: &[i64],
    cap: Option<f64>,
) -> Result<Tensor> {
    let labelled = labelled_rows(h, w, targets)?;
    let rows: Vec<u32> = labelled.iter().map(|&(row, _)| row as u32).collect();
    let classes: Vec<u32> = labelled.iter().map(|&(_, class)| class as u32).collect();
    let count = labelled.len();
    let rows = Tensor::from_vec(rows, count, h.device())?;
    let classes = Tensor::from_vec(classes, (count, 1), h.device())?;

    let width = w.dim(1)?;
    let picked = h.reshape(((), width))?.index_select(&rows, 0)?;
    let logits = capped(&linear(&picked, w)?.to_dtype(wide(h))?, cap)?;
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    let sums = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    sums.sub(&shifted.gather(&classes, 1)?)?.mean_all()
}
