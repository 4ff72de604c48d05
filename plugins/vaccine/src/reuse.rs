//! Reuse of the last perturbation on a batch of another shape.

use candle_core::Tensor;
use vxf_core::prelude::*;

const HIDDEN: &str = "hidden/";
const WEIGHTS: &str = "weights/";

/// `last`, cut and padded with zeros to the shape of `batch`.
///
/// Entries on padding are set to zero. No entry is added, so the norm does not grow in any scope.
pub(crate) fn fitted(last: &Perturbation, batch: &Batch) -> Result<Perturbation> {
    Ok(match last {
        Perturbation::Hidden(hidden) => {
            let fit = |(site, tensor): (&Site, &Tensor)| Ok((*site, fit(tensor, batch)?));
            Perturbation::Hidden(hidden.iter().map(fit).collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

/// A perturbation of `batch`, padded to `[samples, columns, width]` at each site.
pub(crate) fn kept(perturbation: &Perturbation, batch: &Batch) -> Result<Perturbation> {
    Ok(match perturbation {
        Perturbation::Hidden(hidden) => {
            let rows = batch.rows();
            let wide = |(site, it): (&Site, &Tensor)| Ok((*site, rows.padded(&it.detach())?));
            Perturbation::Hidden(hidden.iter().map(wide).collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

/// A tensor `[samples, columns, width]`, cut and padded to the rows of `batch`.
fn fit(tensor: &Tensor, batch: &Batch) -> Result<Tensor> {
    let rows = batch.rows();
    let (samples, columns) = (rows.samples(), rows.longest());
    let shared = (tensor.dim(0)?.min(samples), tensor.dim(1)?.min(columns));
    let padded = tensor.narrow(0, 0, shared.0)?.narrow(1, 0, shared.1)?;
    let padded = padded.pad_with_zeros(0, 0, samples - shared.0)?;
    let padded = rows.packed(&padded.pad_with_zeros(1, 0, columns - shared.1)?.contiguous()?)?;
    Ok(padded.broadcast_mul(&batch.token_mask(&padded)?)?)
}

/// The checkpoint state of a perturbation.
pub(crate) fn saved(last: &Perturbation) -> State {
    let tensors = match last {
        Perturbation::None => Params::new(),
        Perturbation::Hidden(hidden) => {
            let named =
                |(site, tensor): (&Site, &Tensor)| (format!("{HIDDEN}{site}"), tensor.clone());
            hidden.iter().map(named).collect()
        }
        Perturbation::Weights(weights) => {
            weights.iter().map(|(name, it)| (format!("{WEIGHTS}{name}"), it.clone())).collect()
        }
    };
    State { tensors, values: serde_json::Value::Null }
}

/// The perturbation in a state made by [`saved`].
///
/// # Errors
/// When the state is not of that form.
pub(crate) fn read(state: State) -> Result<Perturbation> {
    let mut hidden = Hidden::new();
    let mut weights = Params::new();
    for (name, tensor) in state.tensors {
        if let Some(site) = name.strip_prefix(HIDDEN) {
            hidden.insert(site.parse()?, tensor);
        } else if let Some(name) = name.strip_prefix(WEIGHTS) {
            weights.insert(name, tensor);
        } else {
            return Err(Error::State(format!("Vaccine does not store a tensor named `{name}`")));
        }
    }
    Ok(match (hidden.is_empty(), weights.is_empty()) {
        (true, true) => Perturbation::None,
        (false, true) => Perturbation::Hidden(hidden),
        (true, false) => Perturbation::Weights(weights),
        (false, false) => {
            return Err(Error::State("Vaccine stores one kind of perturbation, not two".into()));
        }
    })
}
