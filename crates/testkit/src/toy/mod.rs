//! A tiny language model in plain candle operations, as a third-party backbone may be.
//!
//! It has no fused operations and no decoder and does not save memory: candle differentiates it. It works
//! on rectangles `[batch, sequence, width]` and is wrapped in [`Rectangular`]. A sample's tokens are mixed by
//! fixed, decaying weights over the past.

mod layer;
mod projection;

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use vxf_core::backbone::{Architecture, Location, Parameter, Part};
use vxf_core::rectangular::Rectangular;
use vxf_core::{Backbone, ConfigError, Key, Params, Pass, Result, Site, Trainable};

use layer::Layer;
use projection::linear;

const EMBEDDING: &str = "embedding.weight";
const GAIN: &str = "norm.weight";
const OUTPUT: &str = "output.weight";

/// The dimensions of a toy.
#[derive(Clone, Debug)]
pub struct ToyShape {
    /// Number of layers.
    pub layers: usize,
    /// Width of the hidden embeddings.
    pub width: usize,
    /// Width inside the feed-forward block.
    pub inner: usize,
    /// Number of tokens.
    pub vocabulary: usize,
    /// Dropout on the mixer's output.
    pub dropout: f64,
}

impl Default for ToyShape {
    /// Two layers of width 8, without dropout.
    fn default() -> Self {
        Self { layers: 2, width: 8, inner: 12, vocabulary: 13, dropout: 0.0 }
    }
}

/// A tiny language model in plain candle operations.
#[derive(Clone)]
pub struct Toy {
    wrapped: Rectangular,
}

impl Toy {
    /// A toy with random weights, the same values in every type.
    pub fn new(shape: &ToyShape, dtype: DType, seed: u64) -> Result<Self> {
        Ok(Self { wrapped: Rectangular::new(Wide::new(shape, dtype, seed)?) })
    }
}

impl Backbone for Toy {
    describe_as!(wrapped);

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.wrapped.embed(tokens, pass)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.wrapped.block(layer, hidden, pass)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.wrapped.head(hidden, pass)
    }

    fn last_norm(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.wrapped.last_norm(hidden, pass)
    }

    fn first_token_attention(
        &self,
        layer: usize,
        input: &Tensor,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        self.wrapped.first_token_attention(layer, input, pass)
    }
}

/// The same on rectangles.
#[derive(Clone, Debug)]
struct Wide {
    architecture: Architecture,
    dtype: DType,
    embedding: Tensor,
    layers: Vec<Layer>,
    gain: Tensor,
    output: Tensor,
    trainable: Trainable,
}

impl Wide {
    fn new(shape: &ToyShape, dtype: DType, seed: u64) -> Result<Self> {
        let &ToyShape { layers, width, inner, vocabulary, dropout } = shape;
        let key = Key::root(seed).child("toy");
        let table = |name: &str, scale: f64| -> Result<Tensor> {
            let drawn = key.child(name).normal(&[vocabulary, width], dtype, crate::device())?;
            Ok((drawn * scale)?)
        };
        let layer = |layer| Layer::random(layer, width, inner, dropout, dtype, &key);
        Ok(Self {
            architecture: Architecture {
                family: "toy".into(),
                layers,
                width,
                vocabulary,
                positions: 64,
                labels: None,
            },
            dtype,
            embedding: table(EMBEDDING, 0.7)?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            gain: Tensor::ones(width, dtype, crate::device())?,
            output: table(OUTPUT, 1.0)?,
            trainable: Trainable::Full,
        })
    }

    fn named(&self) -> Vec<(&str, &Tensor)> {
        let mut all =
            vec![(EMBEDDING, &self.embedding), (GAIN, &self.gain), (OUTPUT, &self.output)];
        all.extend(self.layers.iter().flat_map(Layer::tensors));
        all
    }
}

impl Backbone for Wide {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn device(&self) -> &Device {
        crate::device()
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let (rows, columns) = tokens.dims2()?;
        let table = pass.weight(EMBEDDING).unwrap_or(&self.embedding);
        let hidden = table.index_select(&tokens.flatten_all()?, 0)?;
        pass.tap(Site::EMBEDDING, &hidden.reshape((rows, columns, self.architecture.width))?)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.layers[layer].forward(hidden, pass)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let normed = self.last_norm(hidden, pass)?;
        linear(&normed, pass.weight(OUTPUT).unwrap_or(&self.output))
    }

    fn last_norm(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let gain = pass.weight(GAIN).unwrap_or(&self.gain);
        let root = (hidden.sqr()?.mean_keepdim(D::Minus1)? + 1e-5)?.sqrt()?;
        Ok(hidden.broadcast_div(&root)?.broadcast_mul(gain)?)
    }

    fn first_token_attention(
        &self,
        layer: usize,
        input: &Tensor,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        self.layers[layer].first_token_attention(input, pass)
    }

    fn parameters(&self) -> Vec<Parameter> {
        match &self.trainable {
            Trainable::Lora(_) => self.layers.iter().flat_map(Layer::adapters).collect(),
            Trainable::Full => {
                let parameter = |(name, tensor, part): (&str, &Tensor, Part)| {
                    let location = Location { layer: None, part };
                    let decay = tensor.rank() > 1;
                    Parameter::new(name, tensor.dims().to_vec(), decay).at(location)
                };
                let outside = [
                    (EMBEDDING, &self.embedding, Part::Embedding),
                    (GAIN, &self.gain, Part::Norm),
                    (OUTPUT, &self.output, Part::Head),
                ];
                let layers = self.layers.iter().flat_map(Layer::parameters);
                outside.into_iter().map(parameter).chain(layers).collect()
            }
        }
    }

    fn initial(&self, key: &Key) -> Result<Params> {
        if self.trainable == Trainable::Full {
            return self.tensors().copy();
        }
        let mut fresh = Params::new();
        for layer in &self.layers {
            layer.initial(key, &mut fresh)?;
        }
        Ok(fresh)
    }

    fn with_trainable(&self, trainable: &Trainable) -> Result<Arc<dyn Backbone>> {
        let layers = self.layers.iter().map(|layer| layer.with_trainable(trainable)).collect();
        let toy = Self { layers, trainable: trainable.clone(), ..self.clone() };
        let rule = "must name projections of this model (such as v_proj)";
        ConfigError::unless(!toy.parameters().is_empty(), "target_modules", rule, "others")?;
        Ok(Arc::new(toy))
    }

    fn trainable(&self) -> &Trainable {
        &self.trainable
    }

    fn tensors(&self) -> Params {
        let named = self.named().into_iter();
        named.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect()
    }
}
