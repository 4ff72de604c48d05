//! A checkpoint as a model to compare with.

use candle_core::{Device, Tensor};

use vxf_core::numeric::trained_in;
use vxf_core::{Lineage, Result};

use super::Checkpoint;

impl Lineage for Checkpoint {
    /// Read when it is asked for, with everything merged that was trained on it.
    fn weight(&self, module: &str) -> Result<Tensor> {
        let name = format!("{module}.weight");
        let shape = self.shape(&name).ok_or_else(|| {
            let problem = "has no such tensor; modules are named as in its files, such as \
                           `model.layers.0.self_attn.q_proj`";
            self.error(format!("`{name}`: the model {problem}"))
        })?;
        self.tensor(&name, &shape, trained_in(self.storage_dtype()), &Device::Cpu)
    }
}
