//! A model with two blocks, for the tests.

use candle_core::{Device, Tensor};
use vxf_core::prelude::*;
use vxf_testkit::metric::Table;

/// Two layers whose attention output is the input times a scale, which is a weight.
///
/// Without a padding mask the attention output at the last position of the last row, the padding in
/// the tests, is doubled. So it depends on the mask, as in a real model.
pub(crate) fn blocks() -> Result<Table> {
    let rows =
        [[0.0, 1.0, 0.0, 0.0], [3.0, 4.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]];
    Ok(Table::new(&rows)?.with_blocks(2, block))
}

/// Weights of [`blocks`] with these scales.
pub(crate) fn scales(scales: [f32; 2]) -> Result<Params> {
    let named = |(layer, scale): (usize, &f32)| {
        Ok((layer.to_string(), Tensor::new(&[*scale], &Device::Cpu)?))
    };
    scales.iter().enumerate().map(named).collect()
}

fn block(layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
    let name = layer.to_string();
    let scale = pass.weight(&name).ok_or(Error::ParameterMismatch { name })?;
    let mut attention = hidden.broadcast_mul(scale)?;
    let rows = pass.rows();
    if rows.is_rectangle() && rows.seen().iter().all(|&seen| seen == rows.longest()) {
        attention = attention.broadcast_mul(&doubled_at_the_end(hidden)?)?;
    }
    let attention = pass.tap(Site::attention_output(layer), &attention)?;
    pass.tap(Site::block_output(layer), &(hidden + attention)?)
}

/// 2 in the last row, else 1: `[positions, 1]`.
fn doubled_at_the_end(hidden: &Tensor) -> Result<Tensor> {
    let mut factors = vec![1.0f32; hidden.dim(0)?];
    if let Some(last) = factors.last_mut() {
        *last = 2.0;
    }
    Ok(Tensor::from_vec(factors, (hidden.dim(0)?, 1), hidden.device())?)
}
