//! The toy passes the laws of a backbone.

use std::sync::Arc;

use candle_core::DType;
use vxf_core::{Backbone, Lora, Trainable};
use vxf_testkit::{Toy, ToyShape, backbone_laws};

fn toy(dtype: DType, layers: usize, trainable: &Trainable) -> Arc<dyn Backbone> {
    let shape = ToyShape { layers, dropout: 0.25, ..ToyShape::default() };
    let toy = Toy::new(&shape, dtype, 7).expect("a toy");
    toy.with_trainable(trainable).expect("its own layers")
}

backbone_laws!(full, |dtype| toy(dtype, 3, &Trainable::Full));
backbone_laws!(adapter, |dtype| toy(
    dtype,
    2,
    &Trainable::Lora(Lora { rank: 2, ..Lora::default() })
));
