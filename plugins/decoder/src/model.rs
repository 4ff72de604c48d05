//! The whole model as a backbone.

use std::sync::Arc;

use crate::layers::{Linear, Norm};
use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Backbone, Decoder, Parameter, Pass};
use vxf_core::numeric::trained_in;
use vxf_core::{ConfigError, Key, Lora, Params, Result, Rows, Site, Trainable};
use vxf_hf::Outline;
use vxf_hf::checkpoint::Checkpoint;
use vxf_nn::ops;
use vxf_tensor::Quantized;

use crate::attention::Positions;
use crate::block::Block;
use crate::cached::Cached;
use crate::design::{Design, Position};
use crate::embedding::Embedding;
use crate::parts::{self, InFewBits, Parts};
use crate::rope::{Rope, Rotary};

/// A decoder with frozen weights; trained ones come from the pass.
#[derive(Clone, Debug)]
pub struct Transformer {
    outline: Arc<Outline>,
    dtype: DType,
    device: Device,
    /// All frozen weights by name; the layers share them.
    tensors: Params,
    /// Those that are no tensors.
    quantized: Arc<InFewBits>,
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
    /// The soft cap of the logits.
    logit_cap: Option<f64>,
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
        let frozen = checkpoint.frozen(&outline.tensors, dtype, device)?;
        let quantized: InFewBits = frozen.quantized.into_iter().collect();
        let (tensors, joined) = parts::joined(design, frozen.dense, &quantized)?;
        let quantized = Arc::new(quantized);
        let parts = Parts {
            design,
            tensors: &tensors,
            quantized: &quantized,
            joined: &joined,
            dtype,
            device,
        };
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
            logit_cap: design.logit_cap,
            trainable: Trainable::Full,
            outline: Arc::new(outline),
            dtype,
            device: device.clone(),
            tensors,
            quantized,
        })
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Whether the fused CPU operations compute it.
    pub(crate) fn has_own_kernels(&self) -> bool {
        ops::joins(&self.output)
    }

    /// Whether texts of some lengths are rotated otherwise.
    pub(crate) fn rotates_by_length(&self) -> bool {
        self.rotaries().any(|rotary| rotary.rope.depends_on_length())
    }

    /// The same for texts of all lengths that are rotated alike.
    pub(crate) fn rotation_of(&self, length: usize) -> Vec<usize> {
        self.rotaries().map(|rotary| rotary.rope.regime(length)).collect()
    }

    fn rotaries(&self) -> impl Iterator<Item = &Rotary> {
        self.rotary.iter().chain(&self.local_rotary)
    }

    /// The rotation tables of the positions in `rows`.
    ///
    /// Where the frequencies depend on the length, the longest sample decides for all, as in
    /// transformers. Generation computes samples of other frequencies apart.
    pub(crate) fn positions(&self, rows: &Rows) -> Result<Positions> {
        let tables = |rotary: &Option<Rotary>| {
            rotary.as_ref().map(|rotary| rotary.tables(rows.furthest())).transpose()
        };
        Ok(Positions { rotary: tables(&self.rotary)?, local: tables(&self.local_rotary)? })
    }

    /// The input of the output projection.
    fn last(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let hidden = self.last_norm(hidden, pass)?;
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
        let logits = ops::linear(&self.last(hidden, pass)?, &self.projection(pass)?)?;
        Ok(ops::capped(&logits, self.logit_cap)?)
    }

    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        let last = self.last(hidden, pass)?;
        let projection = self.projection(pass)?;
        Ok(ops::linear_cross_entropy(&last, &projection, targets, self.logit_cap)?)
    }

    fn last_norm(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        match &self.norm {
            Some(norm) => norm.forward(hidden, pass),
            None => Ok(hidden.clone()),
        }
    }

    fn first_token_attention(
        &self,
        layer: usize,
        input: &Tensor,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let positions = self.positions(pass.rows())?;
        self.blocks[layer].first_token(input, &positions, pass)
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
        if matches!(trainable, Trainable::Full) && !self.quantized.is_empty() {
            let rule = "must be lora: matrices of few bits (`model.quantize`) are not trained";
            let found = "full".to_owned();
            let error = ConfigError { key: "trainable".to_owned(), rule: rule.to_owned(), found };
            return Err(error.into());
        }
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
        let dense = |(name, matrix): (&String, &Quantized)| {
            // Filling memory that was just allocated cannot fail; on a device it may be full.
            matrix.dense(self.dtype).ok().map(|tensor| (name.clone(), tensor))
        };
        let mut all = self.tensors.clone();
        for (name, tensor) in self.quantized.iter().filter_map(dense) {
            all.insert(name, tensor);
        }
        all
    }

    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        match self.quantized.get(name) {
            Some(matrix) => Ok(Some(matrix.dense(self.dtype)?)),
            None => Ok(self.tensors.get(name).cloned()),
        }
    }
}
