//! Causal attention.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::{CudaDevice, CudaStorage, Result, Shape, Tensor, bail};
use vxf_cuda::{Attention as Sizes, Operand, attention_back, counts, tensor, with};

use super::{Kernel, apply_three};
use crate::ops::{AttentionDims, Limits};

/// See [`crate::ops::attention`], which has checked the operands. `None` if a head is too wide for
/// the kernels, scores have a soft cap, or a query sees no key.
pub(crate) fn attention(
    [q, k, v]: [&Tensor; 3],
    dims: AttentionDims,
    lengths: &[usize],
    pitch: Option<usize>,
) -> Result<Option<Tensor>> {
    let blind = |&length: &usize| (0..dims.len).any(|t| dims.visible(t, length).is_none());
    let Limits { window, cap } = dims.limits();
    if dims.d > vxf_cuda::WIDEST || cap.is_some() || window.is_some() && lengths.iter().any(blind) {
        return Ok(None);
    }
    let AttentionDims { batch, heads, kv_heads, len, keys, d, .. } = dims;
    let scale = dims.scale();
    let op = Attention {
        sizes: Sizes { batch, heads, kv_heads, len, keys, d, window, scale },
        pitch: pitch.unwrap_or(keys * d),
        lengths: on_device(q.device().as_cuda_device()?, lengths)?,
        lse: OnceLock::new(),
    };
    // Heads are further apart only without differentiation; then nothing is copied.
    Ok(Some(match pitch {
        Some(_) => vxf_tensor::autograd::apply3([&q.contiguous()?, k, v], super::Op(op))?,
        None => apply_three([q, k, v], op)?,
    }))
}

struct Attention {
    sizes: Sizes,
    /// The stride between heads of k and v.
    pitch: usize,
    lengths: Arc<CudaStorage>,
    /// The log-sum-exp of each query's scores, from the forward pass.
    lse: OnceLock<Tensor>,
}

impl Kernel<3> for Attention {
    const NAME: &'static str = "cuda-attention";

    fn forward(&self, operands: [Operand<'_>; 3]) -> Result<(CudaStorage, Shape)> {
        let Sizes { batch, heads, len, d, .. } = self.sizes;
        let [y, lse] = vxf_cuda::attention(operands, self.pitch, &self.lengths, self.sizes)?;
        // Each operation runs forward once, so the cell was empty.
        self.lse.get_or_init(|| tensor(lse, (batch, heads, len)));
        Ok((y, Shape::from((batch, len, heads * d))))
    }

    fn backward(
        &self,
        operands: [&Tensor; 3],
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let Some(lse) = self.lse.get() else {
            bail!("attention: the backward pass ran before the forward pass");
        };
        let [q, k, v] = operands;
        let need = [q.track_op(), k.track_op() || v.track_op()];
        let [dq, dk, dv] = with(operands, |operands| {
            with([y, dy, lse], |results| {
                attention_back(operands, results, &self.lengths, self.sizes, need)
            })
        })?;
        let made = |x: &Tensor, gradient: Option<CudaStorage>| {
            gradient.filter(|_| x.track_op()).map(|gradient| tensor(gradient, x.shape()))
        };
        Ok([made(q, dq), made(k, dk), made(v, dv)])
    }
}

/// The lengths on the device. Every layer of a pass uses the same lengths, so the last ones are
/// cached.
fn on_device(device: &CudaDevice, lengths: &[usize]) -> Result<Arc<CudaStorage>> {
    type Last = Option<(CudaDevice, Vec<usize>, Arc<CudaStorage>)>;
    static LAST: Mutex<Last> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((on, of, there)) = &*last
        && on.id() == device.id()
        && of == lengths
    {
        return Ok(there.clone());
    }
    let there = Arc::new(counts(device, lengths)?);
    *last = Some((device.clone(), lengths.to_vec(), there.clone()));
    Ok(there)
}
