//! Frozen matrices in few bits.

use std::sync::Arc;

use candle_core::{DType, Device};

use vxf_core::{Params, Result};
use vxf_tensor::Quantized;
use vxf_tensor::quantized::Scheme;

use super::{Checkpoint, bitsandbytes};

/// The tensors of a model as it computes with them.
pub struct Frozen {
    /// The tensors in the type of the model.
    pub dense: Params,
    /// The matrices of linear layers in few bits.
    pub quantized: Vec<(String, Quantized)>,
}

impl Checkpoint {
    /// This checkpoint with the matrices of its linear layers held as `scheme` says, without the embeddings and
    /// the output. Training leaves them as they are.
    ///
    /// Adapters that are merged later lie on top of the codes: nothing is quantised twice, and the model that
    /// goes on is the one that was trained.
    ///
    /// # Errors
    /// When no registered family reads the configuration.
    pub fn quantized_by(&self, scheme: Scheme) -> Result<Self> {
        let names = self.outline()?.linears.iter().map(|name| format!("{name}.weight")).collect();
        Ok(Self { quantized: Some((scheme, Arc::new(names))), ..self.clone() })
    }

    /// What the user should know about a base that is stored in few bits already: matrices that are quantised
    /// here although they are stored in another way. Empty where all or none are stored so.
    pub fn quantized_again(&self) -> Vec<String> {
        let Some((scheme, names)) = &self.quantized else { return Vec::new() };
        let stored = |name: &String| {
            let (shard, stored) = self.base.find(name)?;
            bitsandbytes::scheme(shard, &stored)
        };
        let (few, dense): (Vec<_>, Vec<_>) =
            names.iter().map(|name| (name, stored(name))).partition(|(_, found)| found.is_some());
        if few.is_empty() {
            return Vec::new();
        }
        let mut remarks = Vec::new();
        let others = few.iter().filter(|(_, found)| found.as_ref() != Some(scheme)).count();
        if others > 0 {
            remarks.push(format!(
                "{others} matrices are stored in few bits of another kind than `model.quantize` says, and are \
                 quantised again: these are other numbers than the stored ones"
            ));
        }
        if let Some((first, _)) = dense.first() {
            remarks.push(format!(
                "{} matrices, such as {first}, are stored in 16 bits or more beside quantised ones, and are quantised \
                 here too; without `model.quantize` the model is the stored one",
                dense.len(),
            ));
        }
        remarks
    }

    /// How the matrices of its linear layers are held, if in few bits.
    pub fn scheme(&self) -> Option<Scheme> {
        self.quantized.as_ref().map(|(scheme, _)| *scheme)
    }

    /// Reads these tensors by name; all are checked to exist before any is read.
    ///
    /// # Errors
    /// As [`Checkpoint::tensor`].
    pub fn frozen(
        &self,
        wanted: &[(String, Vec<usize>)],
        dtype: DType,
        device: &Device,
    ) -> Result<Frozen> {
        wanted.iter().try_for_each(|(name, shape)| self.check(name, shape))?;
        let (mut dense, mut quantized) = (Params::new(), Vec::new());
        for (name, shape) in wanted {
            match self.matrix(name)? {
                Some(matrix) => quantized.push((name.clone(), matrix.to_device(device)?)),
                None => dense.insert(name.clone(), self.tensor(name, shape, dtype, device)?),
            }
        }
        Ok(Frozen { dense, quantized })
    }

    /// The matrix called `name`, on the CPU; nothing if it is held as a tensor.
    pub(super) fn matrix(&self, name: &str) -> Result<Option<Quantized>> {
        let Some((scheme, names)) = &self.quantized else { return Ok(None) };
        let Some(module) = name.strip_suffix(".weight").filter(|_| names.contains(name)) else {
            return Ok(None);
        };
        // The product of an adapter stays beside the codes. What is no such product is quantised with them.
        let folded = self.changes.iter().rposition(|change| {
            change.replacement(name).is_some()
                || change.update(module).is_some_and(|update| update.magnitude.is_some())
        });
        let first = folded.map_or(0, |at| at + 1);
        let stored = match first {
            0 => self.base.quantized(name)?.filter(|matrix| matrix.scheme() == *scheme),
            _ => None,
        };
        let mut matrix = match stored {
            Some(matrix) => matrix,
            None => Quantized::new(&self.finite(name, first)?, *scheme)?,
        };
        for update in self.changes[first..].iter().filter_map(|change| change.update(module)) {
            matrix = matrix.updated(&update.a, &update.b, update.scale)?;
        }
        Ok(Some(matrix))
    }
}
