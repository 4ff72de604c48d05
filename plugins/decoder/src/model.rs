//! The whole model as a backbone.

use std::sync::Arc;

use crate::layers::{Linear, Norm};
use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Backbone, Decoder, Parameter, Pass};
use vxf_core::numeric::trained_in;
use vxf_core::{Key, Lora, Params, Result, Rows, Site, Trainable};
use vxf_hf::Outline;
use vxf_hf::checkpoint::Checkpoint;
use vxf_nn::ops;

use crate::attention::Positions;
use crate::block::Block;
use crate::cached::Cached;
use crate::design::{Design, Position};
use crate::embedding::Embedding;
use crate::parts::{self, Parts};
use crate::rope::{Rope, Rotary};

/// A decoder with frozen weights; trained ones come from the pass.
#[derive(Clone, Debug)]
pub struct Transformer {
    outline: Arc<Outline>,
    dtype: DType,
    device: Device,
    /// All frozen weights by name; the layers share them.
    tensors: Params,
    embedding: Embedding,
    rotary: Option<Rotary>,
    /// The rotation of layers with a window, where it is another one.
    local_rotary: Option<Rotary>,
    blocks: Vec<Block>,
    norm: Option<Norm>,
    /// The projection back to the width of the token embeddings.
    project: Option<Linear>,
    output: Tensor,
    output_name: String,
    trainable: Trainable,
}

impl Transformer {
    /// Reads the weights of a design; all are trainable unless [`Backbone::with_trainable`] selects
    /// fewer.
    ///
    /// # Errors
    /// When a tensor is missing, damaged or of another shape.
    pub fn load(
        design: &Design,
        checkpoint: &Checkpoint,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let outline = design.outline();
        let tensors = checkpoint.tensors(&outline.tensors, dtype, device)?;
        let (tensors, joined) = parts::joined(design, tensors)?;
        let parts = Parts { design, tensors: &tensors, joined: &joined, dtype, device };
        let output_name = design.output_name();
        let (width, positions) = (design.head_width, design.positions);
        let rotary = |rope: &Rope| Rotary::new(rope, width, positions, dtype, device);
        Ok(Self {
            embedding: Embedding::new(&parts)?,
            rotary: match &design.position {
                Position::Learned { .. } => None,
                Position::Rotary(rope) => Some(rotary(rope)),
            },
            local_rotary: design.local_rope.as_ref().map(rotary),
            blocks: (0..outline.architecture.layers)
                .map(|layer| Block::new(layer, &parts))
                .collect::<Result<_>>()?,
            norm: match design.final_norm {
                true => Some(parts.norm(&design.name(design.names.final_norm))?),
                false => None,
            },
            project: match design.projects() {
                true => Some(parts.linear(&design.name("project_out"))?),
                false => None,
            },
            output: parts.tensor(&output_name)?,
            output_name,
            trainable: Trainable::Full,
            outline: Arc::new(outline),
            dtype,
            device: device.clone(),
            tensors,
        })
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether the fused CPU operations compute it.
    pub(crate) fn has_own_kernels(&self) -> bool {
        ops::joins(&self.output)
    }

    /// The rotation tables of the positions in `rows`.
    pub(crate) fn positions(&self, rows: &Rows) -> Result<Positions> {
        let tables = |rotary: &Option<Rotary>| {
            rotary.as_ref().map(|rotary| rotary.tables(rows.furthest())).transpose()
        };
        Ok(Positions { rotary: tables(&self.rotary)?, local: tables(&self.local_rotary)? })
    }

    /// The input of the output projection.
    fn last(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let hidden = match &self.norm {
            Some(norm) => norm.forward(hidden, pass)?,
            None => hidden.clone(),
        };
        match &self.project {
            Some(project) => project.forward(&hidden, pass),
            None => Ok(hidden),
        }
    }

    fn projection(&self, pass: &Pass<'_>) -> Result<Tensor> {
        pass.weight_or(&self.output_name, &self.output)
    }
}

impl Backbone for Transformer {
    fn architecture(&self) -> &Architecture {
        &self.outline.architecture
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        pass.tap(Site::EMBEDDING, &self.embedding.forward(tokens, pass)?)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let positions = self.positions(pass.rows())?;
        self.blocks[layer].forward(hidden, &positions, None, pass)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        Ok(ops::linear(&self.last(hidden, pass)?, &self.projection(pass)?)?)
    }

    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        let last = self.last(hidden, pass)?;
        Ok(ops::linear_cross_entropy(&last, &self.projection(pass)?, targets)?)
    }

    fn decoder<'a>(&'a self, weights: &'a Params) -> Option<Box<dyn Decoder + 'a>> {
        Some(Box::new(Cached::new(self, weights)))
    }

    fn parameters(&self) -> Vec<Parameter> {
        // Checked in `with_trainable`.
        self.outline.parameters(&self.trainable).unwrap_or_default()
    }

    fn initial(&self, key: &Key) -> Result<Params> {
        let dtype = trained_in(self.dtype);
        match &self.trainable {
            Trainable::Full => {
                self.tensors.map(|tensor| Ok(tensor.force_contiguous()?.to_dtype(dtype)?))
            }
            Trainable::Lora(_) => Lora::fresh(&self.parameters(), key, dtype, &self.device),
        }
    }

    fn with_trainable(&self, trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        self.outline.parameters(trainable)?;
        Ok(Arc::new(Self {
            embedding: self.embedding.with_trainable(trainable),
            blocks: self.blocks.iter().map(|block| block.with_trainable(trainable)).collect(),
            project: self.project.as_ref().map(|project| project.with_trainable(trainable)),
            trainable: trainable.clone(),
            ..self.clone()
        }))
    }

    fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    fn tensors(&self) -> Params {
        self.tensors.clone()
    }
}
