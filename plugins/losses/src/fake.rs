//! A model whose logits are a table, for the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Parameter};
use vxf_core::metric::{Generation, Judge, Probes, Text, Verdict};
use vxf_core::prelude::*;
use vxf_core::{Example, Trainable};

/// Has no layer: what follows a token depends on that token alone.
pub(crate) struct Table {
    architecture: Architecture,
    logits: Tensor,
}

impl Table {
    /// Logits after each token.
    pub(crate) const ROWS: [[f32; 3]; 3] = [[0.5, -1.0, 2.0], [0.0, 1.0, -0.5], [1.5, 0.25, 0.0]];

    pub(crate) fn new() -> Result<Self> {
        let architecture = Architecture {
            family: "table".into(),
            layers: 0,
            width: 3,
            vocabulary: 3,
            positions: 8,
        };
        Ok(Self { architecture, logits: Tensor::new(&Self::ROWS, &Device::Cpu)? })
    }
}

impl Backbone for Table {
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
        let logits = self.logits.index_select(&tokens.flatten_all()?, 0)?;
        Ok(logits.reshape((rows, columns, 3))?)
    }

    fn block(&self, _layer: usize, hidden: &Tensor, _pass: &Pass<'_>) -> Result<Tensor> {
        Ok(hidden.clone())
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

/// Neither text nor judge: losses need none.
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
