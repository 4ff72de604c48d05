//! One layer: attention and gated MLP, each after a norm and beside a residual.

use candle_core::{DType, Device, Tensor};
use vxf_core::backbone::{Parameter, Pass};
use vxf_core::checkpoint::Checkpoint;
use vxf_core::{Key, Params, Result, Site, Trainable};
use vxf_nn::layers::{Linear, RmsNorm};
use vxf_nn::ops;

use crate::config::LlamaConfig;

/// Cosines and sines of all positions, `[positions, head / 2]` each.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

impl Rotary {
    pub(crate) fn new(config: &LlamaConfig, dtype: DType, device: &Device) -> Result<Self> {
        let half = config.head_width() / 2;
        let theta = config.theta();
        // Hugging Face computes frequencies and angles in f32; so do we, to the same bits.
        let angle = |position: usize, pair: usize| {
            let exponent = (2 * pair) as f32 / (2 * half) as f32;
            position as f32 * (1.0 / (theta as f32).powf(exponent))
        };
        let positions = config.max_position_embeddings;
        let angles = || (0..positions).flat_map(move |p| (0..half).map(move |i| angle(p, i)));
        let table = |values: Vec<f32>| -> Result<Tensor> {
            let table = Tensor::from_vec(values, (positions, half), &Device::Cpu)?;
            Ok(table.to_dtype(dtype)?.to_device(device)?)
        };
        Ok(Self {
            cos: table(angles().map(f32::cos).collect())?,
            sin: table(angles().map(f32::sin).collect())?,
        })
    }
}

/// Keys and values of earlier positions, `[batch, kv heads, positions, head]` each.
pub(crate) type Cache = Option<(Tensor, Tensor)>;

/// The weights of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    layer: usize,
    heads: usize,
    kv_heads: usize,
    input_norm: RmsNorm,
    post_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    pub(crate) fn load(
        layer: usize,
        config: &LlamaConfig,
        checkpoint: &Checkpoint,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let width = config.hidden_size;
        let prefix = format!("model.layers.{layer}");
        let linear = |name: &str, out: usize, input: usize| -> Result<Linear> {
            let name = format!("{prefix}.{name}");
            let weight =
                checkpoint.tensor(&format!("{name}.weight"), &[out, input], dtype, device)?;
            Ok(Linear::new(&name, weight))
        };
        let norm = |name: &str| -> Result<RmsNorm> {
            let name = format!("{prefix}.{name}");
            let gain = checkpoint.tensor(&format!("{name}.weight"), &[width], dtype, device)?;
            Ok(RmsNorm::new(&name, gain, config.rms_norm_eps))
        };
        let (heads, kv_heads) = (config.num_attention_heads, config.kv_heads());
        let (inner, head) = (config.intermediate_size, config.head_width());
        Ok(Self {
            layer,
            heads,
            kv_heads,
            input_norm: norm("input_layernorm")?,
            post_norm: norm("post_attention_layernorm")?,
            query: linear("self_attn.q_proj", heads * head, width)?,
            key: linear("self_attn.k_proj", kv_heads * head, width)?,
            value: linear("self_attn.v_proj", kv_heads * head, width)?,
            output: linear("self_attn.o_proj", width, heads * head)?,
            gate: linear("mlp.gate_proj", inner, width)?,
            up: linear("mlp.up_proj", inner, width)?,
            down: linear("mlp.down_proj", width, inner)?,
        })
    }

    /// The layer's output for `hidden` `[batch, sequence, width]` that starts at position `offset`.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        rotary: &Rotary,
        offset: usize,
        cache: Option<&mut Cache>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let attended = self.attend(hidden, rotary, offset, cache, pass)?;
        let attended = pass.tap(Site::attention_output(self.layer), &attended)?;
        let hidden = (hidden + attended)?;

        let normed = self.post_norm.forward(&hidden, pass)?;
        let gated =
            ops::swiglu(&self.gate.forward(&normed, pass)?, &self.up.forward(&normed, pass)?)?;
        let fed = pass.tap(Site::mlp_output(self.layer), &self.down.forward(&gated, pass)?)?;
        pass.tap(Site::block_output(self.layer), &(hidden + fed)?)
    }

    fn attend(
        &self,
        hidden: &Tensor,
        rotary: &Rotary,
        offset: usize,
        cache: Option<&mut Cache>,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let normed = self.input_norm.forward(hidden, pass)?;
        let turn = |x: &Tensor, heads| ops::rotary(x, heads, &rotary.cos, &rotary.sin, offset);
        let query = turn(&self.query.forward(&normed, pass)?, self.heads)?;
        let mut key = turn(&self.key.forward(&normed, pass)?, self.kv_heads)?;
        let mut value = ops::split_heads(&self.value.forward(&normed, pass)?, self.kv_heads)?;
        if let Some(cache) = cache {
            if let Some((keys, values)) = cache {
                key = Tensor::cat(&[&*keys, &key], 2)?;
                value = Tensor::cat(&[&*values, &value], 2)?;
            }
            *cache = Some((key.clone(), value.clone()));
        }
        self.output.forward(&ops::attention(&query, &key, &value, pass.lengths())?, pass)
    }

    fn linears(&self) -> [&Linear; 7] {
        [&self.query, &self.key, &self.value, &self.output, &self.gate, &self.up, &self.down]
    }

    fn linears_mut(&mut self) -> [&mut Linear; 7] {
        let Self { query, key, value, output, gate, up, down, .. } = self;
        [query, key, value, output, gate, up, down]
    }

    /// Frozen weights by name, with whether weight decay would apply to them.
    pub(crate) fn tensors(&self) -> Vec<(&str, &Tensor, bool)> {
        let linears = self.linears().map(|linear| (linear.weight_name(), linear.weight(), true));
        let norms = [&self.input_norm, &self.post_norm]
            .map(|norm| (norm.weight_name(), norm.weight(), false));
        linears.into_iter().chain(norms).collect()
    }

    pub(crate) fn with_trainable(&self, trainable: &Trainable) -> Self {
        let mut block = self.clone();
        for linear in block.linears_mut() {
            *linear = linear.with_trainable(trainable);
        }
        block
    }

    pub(crate) fn merged(&self, weights: &Params) -> Result<Self> {
        let mut block = self.clone();
        for linear in block.linears_mut() {
            *linear = linear.merged(weights)?;
        }
        block.input_norm = block.input_norm.merged(weights)?;
        block.post_norm = block.post_norm.merged(weights)?;
        Ok(block)
    }

    pub(crate) fn adapter_parameters(&self) -> Vec<Parameter> {
        self.linears().iter().flat_map(|linear| linear.adapter_parameters()).collect()
    }

    pub(crate) fn initial_adapter(&self, key: &Key) -> Result<Vec<Params>> {
        self.linears().iter().map(|linear| linear.initial_adapter(key)).collect()
    }
}
