//! A linear map with an optional adapter, in plain candle operations.

use candle_core::{DType, Tensor};
use vxf_core::backbone::Parameter;
use vxf_core::{Key, Lora, Params, Pass, Result, Trainable};

/// A linear map without bias.
#[derive(Clone, Debug)]
pub(super) struct Projection {
    name: String,
    weight_name: String,
    weight: Tensor,
    adapter: Option<Lora>,
}

impl Projection {
    pub(super) fn random(
        name: &str,
        out: usize,
        input: usize,
        dtype: DType,
        key: &Key,
    ) -> Result<Self> {
        let drawn = key.child(name).normal(&[out, input], dtype, crate::device())?;
        Ok(Self {
            name: name.to_owned(),
            weight_name: format!("{name}.weight"),
            weight: (drawn * (1.0 / (input as f64).sqrt()))?,
            adapter: None,
        })
    }

    pub(super) fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let y = linear(x, pass.weight(&self.weight_name).unwrap_or(&self.weight))?;
        let Some(lora) = &self.adapter else { return Ok(y) };
        let (a_name, b_name) = self.adapter_names();
        let (Some(a), Some(b)) = (pass.weight(&a_name), pass.weight(&b_name)) else {
            return Ok(y);
        };
        let input = match pass.dropout(&a_name, lora.dropout, x)? {
            Some(mask) => (x * mask)?,
            None => x.clone(),
        };
        Ok((y + (linear(&linear(&input, a)?, b)? * lora.scale())?)?)
    }

    fn adapter_names(&self) -> (String, String) {
        (format!("{}.lora_A", self.name), format!("{}.lora_B", self.name))
    }

    pub(super) fn named(&self) -> (&str, &Tensor) {
        (&self.weight_name, &self.weight)
    }

    pub(super) fn parameter(&self) -> Parameter {
        Parameter::new(&self.weight_name, self.weight.dims().to_vec(), true)
    }

    pub(super) fn adapter(&self) -> Vec<Parameter> {
        let Some(lora) = &self.adapter else { return Vec::new() };
        let (a, b) = self.adapter_names();
        let dims = self.weight.dims();
        let parameter = |name, shape| Parameter::new(name, shape, true);
        vec![parameter(a, vec![lora.rank, dims[1]]), parameter(b, vec![dims[0], lora.rank])]
    }

    pub(super) fn initial(&self, key: &Key, fresh: &mut Params) -> Result<()> {
        if let [a, b] = &self.adapter()[..] {
            let (dtype, bound) = (self.weight.dtype(), 1.0 / (a.shape[1] as f64).sqrt());
            let drawn = key.child(&a.name).uniform(bound, &a.shape, dtype, crate::device())?;
            fresh.insert(&a.name, drawn);
            fresh.insert(&b.name, Tensor::zeros(b.shape.as_slice(), dtype, crate::device())?);
        }
        Ok(())
    }

    pub(super) fn with_trainable(&self, trainable: &Trainable) -> Self {
        let adapter = match trainable {
            Trainable::Lora(lora) if lora.targets(&self.name) => Some(lora.clone()),
            _ => None,
        };
        Self { adapter, ..self.clone() }
    }
}

/// `x w^T` for `x` `[batch, sequence, in]`.
pub(super) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (rows, columns, input) = x.dims3()?;
    let flat = x.reshape((rows * columns, input))?.matmul(&weight.t()?)?;
    Ok(flat.reshape((rows, columns, weight.dim(0)?))?)
}
