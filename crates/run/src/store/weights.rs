//! The weights of a run on disk: an adapter in PEFT's layout, or one file of full weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use vxf_core::numeric::trained_in;
use vxf_core::{Params, Trainable};
use vxf_hf::checkpoint::{Checkpoint, save_tensors};
use vxf_hf::peft;

use crate::Result;

pub(crate) const ADAPTER: &str = "adapter";
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// Writes the trained weights into the directory `place`: an adapter for the model `base` as `adapter/`,
/// or all weights as `model.safetensors`.
///
/// # Errors
/// When it cannot be written.
pub fn save(trainable: &Trainable, weights: &Params, base: &str, place: &Path) -> Result<()> {
    match trainable {
        Trainable::Lora(lora) => peft::write(&place.join(ADAPTER), lora, weights, Some(base))?,
        Trainable::Full => {
            let tensors = weights.iter().map(|(name, tensor)| (name.to_owned(), tensor.clone()));
            let tensors: HashMap<String, Tensor> = tensors.collect();
            save_tensors(&tensors, &place.join(WEIGHTS))?;
        }
    }
    Ok(())
}

/// Reads what [`save`] wrote to `place`, for a model of `dtype` on `device`.
///
/// # Errors
/// When it is missing or damaged.
pub fn load(trainable: &Trainable, place: &Path, dtype: DType, device: &Device) -> Result<Params> {
    let dtype = trained_in(dtype);
    if let Trainable::Lora(_) = trainable {
        return Ok(peft::read(&place.join(ADAPTER), dtype, device)?.1);
    }
    let weights = Checkpoint::weights(&place.join(WEIGHTS), dtype)?;
    Ok(weights.map(|weight| Ok(weight.to_device(device)?))?)
}

/// Where the directory of a run holds its weights: a directory for an adapter, or a file.
pub(crate) fn path(trainable: &Trainable, place: &Path) -> PathBuf {
    match trainable {
        Trainable::Lora(_) => place.join(ADAPTER),
        Trainable::Full => place.join(WEIGHTS),
    }
}
