//! Llamas of all shapes keep the laws of a backbone, trained in full and by adapter.

use std::sync::Arc;

use candle_core::{DType, Device};
use vxf_core::{Backbone, Lora, Trainable};
use vxf_llama::Llama;
use vxf_testkit::backbone_laws;
use vxf_testkit::checkpoint::LlamaShape;

fn llama(dtype: DType, shape: &LlamaShape, trainable: &Trainable) -> Arc<dyn Backbone> {
    let checkpoint = shape.checkpoint(5).expect("random tensors");
    let llama = Llama::load(&checkpoint, dtype, &Device::Cpu).expect("a whole checkpoint");
    llama.with_trainable(trainable).expect("its own layers")
}

/// Seven adapters with dropout, scaled by the root of the rank.
fn adapters() -> Trainable {
    Trainable::Lora(Lora { rank: 3, dropout: 0.2, use_rslora: true, ..Lora::default() })
}

fn multi_head() -> LlamaShape {
    LlamaShape::default()
}

fn grouped() -> LlamaShape {
    LlamaShape { kv_heads: 2, tied: true, rope_theta: 500_000.0, ..LlamaShape::default() }
}

fn one_kv_head() -> LlamaShape {
    LlamaShape { kv_heads: 1, layers: 1, vocabulary: 11, epsilon: 1e-3, ..LlamaShape::default() }
}

fn wide_heads() -> LlamaShape {
    LlamaShape { hidden: 12, heads: 3, kv_heads: 3, head_dim: Some(6), ..LlamaShape::default() }
}

backbone_laws!(multi_head_full, |dtype| llama(dtype, &multi_head(), &Trainable::Full));
backbone_laws!(multi_head_adapters, |dtype| llama(dtype, &multi_head(), &adapters()));
backbone_laws!(grouped_tied_full, |dtype| llama(dtype, &grouped(), &Trainable::Full));
backbone_laws!(grouped_tied_adapters, |dtype| llama(dtype, &grouped(), &adapters()));
backbone_laws!(one_kv_head_adapters, |dtype| llama(dtype, &one_kv_head(), &adapters()));
backbone_laws!(wide_heads_full, |dtype| llama(dtype, &wide_heads(), &Trainable::Full));
backbone_laws!(wide_heads_adapters, |dtype| llama(dtype, &wide_heads(), &adapters()));
