//! Losses made of plain candle operations.

use candle_core::{D, Device, Tensor};

use crate::{Batch, Result};
use vxf_tensor::numeric::widened;

/// `log(softmax(logits))` over `axis`, from operations that have a gradient.
pub fn log_softmax(logits: &Tensor, axis: impl candle_core::shape::Dim) -> Result<Tensor> {
    let axis = axis.to_index(logits.shape(), "log_softmax")?;
    let shifted = logits.broadcast_sub(&logits.max_keepdim(axis)?.detach())?;
    Ok(shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(axis)?.log()?)?)
}

/// The mean cross-entropy of each sample of a batch, `[samples]`, from logits `[positions, vocabulary]`; 0
/// for a sample without labels.
///
/// # Errors
/// When the logits are not those of the batch's rows, or no row is labelled.
pub fn per_sample(logits: &Tensor, batch: &Batch) -> Result<Tensor> {
    let (rows, targets) = (batch.rows(), batch.row_targets());
    let labelled = |sample: usize| {
        let range = rows.range(sample);
        range.filter(|row| targets[*row] >= 0).collect::<Vec<_>>()
    };
    let labelled: Vec<Vec<usize>> = (0..rows.samples()).map(labelled).collect();
    let all: Vec<u32> = labelled.iter().flatten().map(|row| *row as u32).collect();
    let classes: Vec<u32> = all.iter().map(|row| targets[*row as usize] as u32).collect();
    if all.is_empty() {
        return Err(candle_core::Error::Msg("no labelled position in the batch".into()).into());
    }
    let count = all.len();
    let mut shares = vec![0.0f64; rows.samples() * count];
    let mut first = 0;
    for (sample, own) in labelled.iter().enumerate() {
        let start = sample * count + first;
        shares[start..start + own.len()].fill(1.0 / own.len() as f64);
        first += own.len();
    }
    let device = logits.device();
    let logits = widened(&logits.index_select(&Tensor::new(all, device)?, 0)?)?;
    let classes = Tensor::from_vec(classes, (count, 1), device)?;
    let losses = log_softmax(&logits, D::Minus1)?.gather(&classes, 1)?.neg()?;
    let shares = Tensor::from_vec(shares, (rows.samples(), count), &Device::Cpu)?;
    let shares = shares.to_dtype(losses.dtype())?.to_device(device)?;
    Ok(shares.matmul(&losses)?.squeeze(1)?)
}

/// The mean cross-entropy of logits `[.., vocabulary]` over the rows whose target is not negative.
///
/// `targets` has one target for each row: those of a batch are
/// [`Batch::row_targets`](crate::Batch::row_targets).
///
/// # Errors
/// When there is another number of targets, or no row is labelled.
pub fn cross_entropy(logits: &Tensor, targets: &[i64]) -> Result<Tensor> {
    let vocabulary = logits.dim(D::Minus1)?;
    let rows = logits.elem_count().checked_div(vocabulary).unwrap_or(0);
    if targets.len() != rows {
        let problem = format!("{} targets for {rows} rows of logits", targets.len());
        return Err(candle_core::Error::Msg(problem).into());
    }
    let labelled: Vec<(u32, u32)> = targets
        .iter()
        .enumerate()
        .filter(|(_, target)| **target >= 0)
        .map(|(row, target)| (row as u32, *target as u32))
        .collect();
    if labelled.is_empty() {
        return Err(candle_core::Error::Msg("no labelled position in the batch".into()).into());
    }
    let count = labelled.len();
    let (positions, classes): (Vec<u32>, Vec<u32>) = labelled.into_iter().unzip();
    let positions = Tensor::from_vec(positions, count, logits.device())?;
    let classes = Tensor::from_vec(classes, (count, 1), logits.device())?;
    let logits = logits.reshape(((), vocabulary))?.index_select(&positions, 0)?;
    let picked = log_softmax(&widened(&logits)?, D::Minus1)?.gather(&classes, 1)?;
    Ok(picked.mean_all()?.neg()?)
}
