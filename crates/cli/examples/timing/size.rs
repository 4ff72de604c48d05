//! The random models and their batches.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use vxf_core::quantized::Scheme;
use vxf_core::{Backbone, Example, Lineage, Params, Result};
use vxf_hf::checkpoint::Checkpoint;
use vxf_hf::load_backbone;
use vxf_testkit::checkpoint::LlamaShape;

use crate::{Args, Train, on};

/// A shape with its batch.
pub(crate) struct Size {
    pub(crate) shape: LlamaShape,
    pub(crate) batch: usize,
    pub(crate) seq: usize,
    /// Of each sample; all of `seq` tokens without labels to spare where there are none.
    pub(crate) lengths: Option<Vec<usize>>,
}

/// Lengths of samples that leave as much padding as those of GSM8K do.
const LENGTHS: &str = include_str!("../../../../tools/lengths.txt");

/// Batches of a set. Some methods draw from groups of its samples, which must be larger than a batch.
const BATCHES: usize = 32;

/// The lengths that `--real` asks for.
fn lengths(args: &Args) -> Result<Option<Vec<usize>>, String> {
    if !args.real {
        return Ok(None);
    }
    let text = match &args.lengths {
        None => LENGTHS.to_owned(),
        Some(file) => std::fs::read_to_string(file).map_err(|error| error.to_string())?,
    };
    let lengths = text.split_whitespace().map(str::parse).collect::<Result<Vec<usize>, _>>();
    match lengths {
        Ok(lengths) if !lengths.is_empty() && !lengths.contains(&0) => Ok(Some(lengths)),
        _ => Err("--lengths: expected positive whole numbers".to_owned()),
    }
}

impl Size {
    pub(crate) fn of(args: &Args) -> Result<Self, String> {
        let (hidden, layers, heads, intermediate, vocabulary, seq, batch) = match &*args.shape {
            "nano" => (64, 4, 4, 176, 408, 32, 8),
            "S" => (256, 6, 8, 688, 4096, 128, 8),
            "M" => (768, 12, 12, 2048, 32_000, 256, 4),
            "135M" => (576, 30, 9, 1536, 49_152, 256, 8),
            "7B" => (4096, 32, 32, 11_008, 32_000, 200, 5),
            other => return Err(format!("--shape {other}: must be nano, S, M, 135M or 7B")),
        };
        let small = args.shape == "135M";
        let lengths = lengths(args)?;
        let seq = match &lengths {
            Some(lengths) => lengths.iter().copied().max().unwrap_or(seq),
            None => args.seq.unwrap_or(seq),
        };
        let shape = LlamaShape {
            hidden,
            layers: args.layers.unwrap_or(layers),
            heads,
            kv_heads: if small { 3 } else { heads },
            intermediate,
            vocabulary,
            tied: small,
            positions: seq.max(512),
            ..LlamaShape::default()
        };
        Ok(Self { shape, batch: args.batch.unwrap_or(batch), seq, lengths })
    }

    /// Positions of one batch, on average.
    pub(crate) fn positions(&self) -> f64 {
        let mean = match &self.lengths {
            None => self.seq as f64,
            Some(lengths) => lengths.iter().sum::<usize>() as f64 / lengths.len() as f64,
        };
        self.batch as f64 * mean
    }

    /// Operations of one step, as counted in `bench_torch.py`: those that PyTorch needs, without
    /// recomputed blocks.
    pub(crate) fn operations(&self, train: Train, passes: f64) -> f64 {
        let LlamaShape { hidden, layers, intermediate, vocabulary, .. } = self.shape;
        let (h, i) = (hidden as f64, intermediate as f64);
        let rows = self.positions();
        let kv = (self.shape.kv_heads * hidden / self.shape.heads) as f64;
        let linear = layers as f64 * (2.0 * h * (h + kv) + 3.0 * h * i) + h * vocabulary as f64;
        let attention = layers as f64 * 2.0 * rows / self.batch as f64 * h;
        let forward = 2.0 * rows * (linear + attention);
        let weights = if train == Train::Full { 2.0 * rows * linear } else { 0.0 };
        passes * (2.0 * forward + weights)
    }

    /// A model of this shape: the one that the arguments name, or one with random weights under `seed`.
    pub(crate) fn model(&self, args: &Args, seed: u64) -> Result<Model> {
        let dtype = match &*args.dtype {
            "bf16" => DType::BF16,
            _ => DType::F32,
        };
        let checkpoint = match &args.checkpoint {
            Some(directory) => Checkpoint::open(directory)?,
            None => self.shape.checkpoint(seed)?,
        };
        let checkpoint = match args.quantize.as_str() {
            "nf4" => checkpoint.quantized_by(Scheme::Nf4)?,
            "int8" => checkpoint.quantized_by(Scheme::Int8)?,
            _ => checkpoint,
        };
        Ok(Model { checkpoint, dtype, device: on(args)? })
    }

    /// Samples of these lengths. Each set has tokens of its own, since methods compare sets.
    pub(crate) fn examples(&self, set: u32) -> Arc<Vec<Example>> {
        let vocabulary = self.shape.vocabulary as u32;
        let first = 7 + 211 * set;
        let token =
            |row: usize, at: usize| (row as u32 * 1009 + at as u32 * 31 + first) % vocabulary;
        let tokens = |row, length| (0..length).map(|at| token(row, at)).collect();
        let example = |(row, length): (usize, usize)| {
            let prompt = if self.lengths.is_some() { length * 2 / 5 } else { 0 };
            Example { tokens: tokens(row, length), prompt, ..Example::default() }
        };
        let lengths = self.lengths.clone().unwrap_or_else(|| vec![self.seq; BATCHES * self.batch]);
        // Whole batches only.
        let whole = lengths.len() / self.batch * self.batch;
        Arc::new(lengths.into_iter().take(whole).enumerate().map(example).collect())
    }
}

/// A model that can be loaded, more than once.
#[derive(Clone)]
pub(crate) struct Model {
    checkpoint: Checkpoint,
    dtype: DType,
    device: Device,
}

impl Model {
    pub(crate) fn load(&self) -> Result<Arc<dyn Backbone>> {
        load_backbone(&self.checkpoint, self.dtype, &self.device)
    }
}

/// The model itself, to be compared with.
impl Lineage for Model {
    fn weight(&self, module: &str) -> Result<Tensor> {
        self.checkpoint.weight(module)
    }

    fn model(&self) -> Result<(Arc<dyn Backbone>, Params)> {
        Ok((self.load()?, Params::new()))
    }
}
