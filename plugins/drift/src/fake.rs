//! A model whose logits are a table, for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Parameter};
use vxf_core::metric::{Generation, Judge, Probes, Text, Verdict};
use vxf_core::prelude::*;
use vxf_core::{Example, Trainable};

/// Two layers whose attention output is their input times a trainable scale.
///
/// Where padding is not hidden, the attention output of the last place of the last row (where the
/// tests have their padding) is doubled: there it depends on the mask, as in a real model.
pub(crate) struct Blocks {
    architecture: Architecture,
    embedding: Tensor,
}

impl Blocks {
    pub(crate) fn new() -> Result<Self> {
        let architecture = Architecture {
            family: "blocks".into(),
            layers: 2,
            width: 2,
            vocabulary: 4,
            positions: 8,
        };
        let rows: [[f32; 2]; 4] = [[0.0, 1.0], [3.0, 4.0], [0.0, 2.0], [1.0, 0.0]];
        Ok(Self { architecture, embedding: Tensor::new(&rows, &Device::Cpu)? })
    }

    /// Weights with this scale in each layer.
    pub(crate) fn scales(scales: [f32; 2]) -> Result<Params> {
        let named = |(layer, scale): (usize, &f32)| {
            Ok((layer.to_string(), Tensor::new(&[*scale], &Device::Cpu)?))
        };
        scales.iter().enumerate().map(named).collect()
    }
}

impl Backbone for Blocks {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn dtype(&self) -> DType {
        DType::F32
    }

    fn embed(&self, tokens: &Tensor, _pass: &Pass<'_>) -> Result<Tensor> {
        let (rows, columns) = tokens.dims2()?;
        let hidden = self.embedding.index_select(&tokens.flatten_all()?, 0)?;
        Ok(hidden.reshape((rows, columns, 2))?)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let name = layer.to_string();
        let scale = pass.weight(&name).ok_or(Error::ParameterMismatch { name })?;
        let mut attention = hidden.broadcast_mul(scale)?;
        if pass.lengths().is_none() {
            attention = attention.broadcast_mul(&doubled_at_padding(hidden)?)?;
        }
        let attention = pass.tap(Site::attention_output(layer), &attention)?;
        pass.tap(Site::block_output(layer), &(hidden + attention)?)
    }

    fn head(&self, hidden: &Tensor, _pass: &Pass<'_>) -> Result<Tensor> {
        Ok(hidden.clone())
    }

    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    fn initial(&self, _key: &Key) -> Result<Params> {
        Ok(Params::new())
    }

    fn with_trainable(&self, _trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        Ok(Arc::new(Self::new()?))
    }

    fn trainable(&self) -> &Trainable {
        &Trainable::Full
    }

    fn merged(&self, _weights: &Params) -> Result<Arc<dyn Backbone>> {
        Ok(Arc::new(Self::new()?))
    }

    fn tensors(&self) -> Params {
        Params::new()
    }
}

/// 2 in the last place of the last row, else 1: `[batch, sequence, 1]`.
fn doubled_at_padding(hidden: &Tensor) -> Result<Tensor> {
    let (rows, columns, _) = hidden.dims3()?;
    let mut factors = vec![1.0f32; rows * columns];
    if let Some(last) = factors.last_mut() {
        *last = 2.0;
    }
    Ok(Tensor::from_vec(factors, (rows, columns, 1), hidden.device())?)
}

/// Neither text nor judge: drift needs none.
struct Mute;

impl Text for Mute {
    fn decode(&self, _tokens: &[u32]) -> Result<String> {
        Ok(String::new())
    }

    fn end(&self) -> u32 {
        0
    }

    fn opening(&self, _word: &str) -> Option<u32> {
        None
    }
}

impl Judge for Mute {
    fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>> {
        Ok(vec![Verdict::Other; generations.len()])
    }
}

/// Probes with these samples, in batches of `batch_size`.
pub(crate) fn probes(examples: BTreeMap<String, Vec<Example>>, batch_size: usize) -> Probes {
    Probes {
        examples,
        prompts: BTreeMap::new(),
        text: Box::new(Mute),
        judge: Box::new(Mute),
        batch_size,
        max_new_tokens: 1,
    }
}
