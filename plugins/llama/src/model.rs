//! The whole model as a backbone.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Backbone, Decoder, Parameter, Pass};
use vxf_core::checkpoint::Checkpoint;
use vxf_core::{Error, Key, Params, Result, Site, Trainable};
use vxf_nn::layers::RmsNorm;
use vxf_nn::ops;

use crate::block::{Block, Rotary};
use crate::config::LlamaConfig;
use crate::decoder::Cached;

const EMBEDDING: &str = "model.embed_tokens.weight";
const OUTPUT: &str = "lm_head.weight";

/// A Llama with frozen weights and a place for trained ones.
#[derive(Clone, Debug)]
pub struct Llama {
    architecture: Architecture,
    dtype: DType,
    device: Device,
    embedding: Tensor,
    blocks: Vec<Block>,
    norm: RmsNorm,
    /// `None` when the embedding serves as output projection.
    output: Option<Tensor>,
    rotary: Rotary,
    trainable: Trainable,
}

impl Llama {
    /// Reads a checkpoint; everything is trainable until [`Backbone::with_trainable`] says less.
    ///
    /// # Errors
    /// When the configuration is not supported, or a tensor is missing or shaped otherwise.
    pub fn load(checkpoint: &Checkpoint, dtype: DType, device: &Device) -> Result<Self> {
        let config = LlamaConfig::read(checkpoint)?;
        let (vocabulary, width) = (config.vocab_size, config.hidden_size);
        let table = |name: &str| checkpoint.tensor(name, &[vocabulary, width], dtype, device);
        let block = |layer| Block::load(layer, &config, checkpoint, dtype, device);
        let gain = checkpoint.tensor("model.norm.weight", &[width], dtype, device)?;
        Ok(Self {
            architecture: Architecture {
                family: "llama".into(),
                layers: config.num_hidden_layers,
                width,
                vocabulary,
                positions: config.max_position_embeddings,
            },
            dtype,
            device: device.clone(),
            embedding: table(EMBEDDING)?,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_>>()?,
            norm: RmsNorm::new("model.norm", gain, config.rms_norm_eps),
            output: if config.tie_word_embeddings { None } else { Some(table(OUTPUT)?) },
            rotary: Rotary::new(&config, dtype, device)?,
            trainable: Trainable::Full,
        })
    }

    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(crate) fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// The output projection `[vocabulary, width]` of a pass: the embedding where they are tied.
    fn projection<'a>(&'a self, pass: &Pass<'a>) -> &'a Tensor {
        match &self.output {
            Some(output) => pass.weight(OUTPUT).unwrap_or(output),
            None => pass.weight(EMBEDDING).unwrap_or(&self.embedding),
        }
    }

    /// All frozen weights, with whether weight decay would apply.
    fn named(&self) -> Vec<(&str, &Tensor, bool)> {
        let mut all = vec![(EMBEDDING, &self.embedding, true)];
        all.extend(self.blocks.iter().flat_map(Block::tensors));
        all.push((self.norm.weight_name(), self.norm.weight(), false));
        all.extend(self.output.as_ref().map(|output| (OUTPUT, output, true)));
        all
    }
}

impl Backbone for Llama {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let (rows, columns) = tokens.dims2()?;
        if columns > self.architecture.positions {
            return Err(Error::Checkpoint {
                path: "config.json".into(),
                problem: format!(
                    "a sequence of {columns} tokens is longer than `max_position_embeddings` ({})",
                    self.architecture.positions
                ),
            });
        }
        let table = pass.weight(EMBEDDING).unwrap_or(&self.embedding);
        let hidden = table.index_select(&tokens.flatten_all()?, 0)?;
        let hidden = hidden.reshape((rows, columns, self.architecture.width))?;
        pass.tap(Site::EMBEDDING, &hidden)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.blocks[layer].forward(hidden, &self.rotary, 0, None, pass)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        Ok(ops::linear(&self.norm.forward(hidden, pass)?, self.projection(pass))?)
    }

    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        let hidden = self.norm.forward(hidden, pass)?;
        Ok(ops::linear_cross_entropy(&hidden, self.projection(pass), targets)?)
    }

    fn decoder<'a>(&'a self, weights: &'a Params) -> Option<Box<dyn Decoder + 'a>> {
        Some(Box::new(Cached::new(self, weights)))
    }

    fn parameters(&self) -> Vec<Parameter> {
        match &self.trainable {
            Trainable::Lora(_) => self.blocks.iter().flat_map(Block::adapter_parameters).collect(),
            Trainable::Full => {
                let parameter = |(name, tensor, decay): (&str, &Tensor, bool)| Parameter {
                    name: name.to_owned(),
                    shape: tensor.dims().to_vec(),
                    decay,
                };
                self.named().into_iter().map(parameter).collect()
            }
        }
    }

    fn initial(&self, key: &Key) -> Result<Params> {
        match &self.trainable {
            Trainable::Full => self.tensors().copy(),
            Trainable::Lora(_) => {
                let mut fresh = Params::new();
                for block in &self.blocks {
                    for (name, tensor) in block.initial_adapter(key)?.into_iter().flatten() {
                        fresh.insert(name, tensor);
                    }
                }
                Ok(fresh)
            }
        }
    }

    fn with_trainable(&self, trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        let blocks = self.blocks.iter().map(|block| block.with_trainable(trainable)).collect();
        let model = Self { blocks, trainable: trainable.clone(), ..self.clone() };
        if let Trainable::Lora(config) = trainable {
            config.validate()?;
            if model.parameters().is_empty() {
                let rule = "must name linear layers of this model (such as q_proj)";
                let found = format!("{:?}", config.target_modules);
                vxf_core::ConfigError::unless(false, "target_modules", rule, found)?;
            }
        }
        Ok(Arc::new(model))
    }

    fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    fn merged(&self, weights: &Params) -> Result<Arc<dyn Backbone>> {
        let blocks =
            self.blocks.iter().map(|block| block.merged(weights)).collect::<Result<_>>()?;
        let own = |name: &str, tensor: &Tensor| -> Result<Tensor> {
            weights.get(name).map_or_else(|| Ok(tensor.clone()), |new| Ok(new.detach().copy()?))
        };
        let output = self.output.as_ref().map(|output| own(OUTPUT, output)).transpose()?;
        Ok(Arc::new(Self {
            embedding: own(EMBEDDING, &self.embedding)?,
            blocks,
            norm: self.norm.merged(weights)?,
            output,
            trainable: Trainable::Full,
            ..self.clone()
        }))
    }

    fn tensors(&self) -> Params {
        let named = self.named().into_iter();
        named.map(|(name, tensor, _)| (name.to_owned(), tensor.clone())).collect()
    }
}
