//! A checkpoint as a reference model.

use candle_core::{Device, Tensor};

use vxf_core::numeric::trained_in;
use vxf_core::{Lineage, Result};

use super::Checkpoint;

impl Lineage for Checkpoint {
    /// Read on demand, with all trained changes merged.
    fn weight(&self, module: &str) -> Result<Tensor> {
        let name = format!("{module}.weight");
        let shape = self.shape(&name).ok_or_else(|| {
            let problem = "has no such tensor; modules are named as in its files, such as \
                           `model.layers.0.self_attn.q_proj`";
            self.error(format!("`{name}`: the model {problem}"))
        })?;
        let dtype = trained_in(self.storage_dtype());
        match self.matrix(&name)? {
            Some(matrix) => Ok(matrix.dense(dtype)?),
            None => self.tensor(&name, &shape, dtype, &Device::Cpu),
        }
    }
}
