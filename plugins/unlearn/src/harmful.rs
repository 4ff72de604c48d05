//! The harmful loss as every layer sees it.

use candle_core::Tensor;
use vxf_core::prelude::*;

/// The sites that [`seen_by_all_layers`] reads in a model of `layers` layers.
pub(crate) fn sites(layers: usize) -> Vec<Site> {
    let outputs = (0..layers).map(Site::block_output);
    [Site::EMBEDDING].into_iter().chain(outputs).collect()
}

/// `1 + (CE + sum_l CE_l) / (L + 1)`: the cross-entropy of the model, and those of its L + 1 hidden states
/// read by the last norm and the output projection.
///
/// The states are those of transformers: the embeddings, the outputs of all layers but the last, and the
/// normed output of the last one, which is therefore normed twice.
pub(crate) fn seen_by_all_layers(
    hidden: &Hidden,
    lens: &Lens<'_>,
    targets: &[i64],
    layers: usize,
) -> Result<Tensor> {
    let last = &hidden[&Site::block_output(layers - 1)];
    let mut sum = lens.loss(last, targets)?;
    for site in &sites(layers)[..layers] {
        sum = (sum + lens.loss(&hidden[site], targets)?)?;
    }
    sum = (sum + lens.loss(&lens.normed(last)?, targets)?)?;
    Ok(((sum / (layers + 1) as f64)? + 1.0)?)
}
