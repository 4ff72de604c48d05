//! The `Backbone` trait: a causal language model cut at its hidden-embedding sites.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::adapter::Trainable;
use crate::batch::Batch;
use crate::site::Site;
use crate::{Params, Result};
use vxf_tensor::Key;
use vxf_tensor::autograd::cast;

/// What the loop does at a site: the only hook there is.
///
/// A tap must be a pure function of site and tensor, because under recompute every site is
/// visited twice.
pub trait Tap {
    /// Takes the hidden embedding at `site` and gives what the model goes on with.
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor>;
}

/// The tap that changes nothing.
pub struct Untouched;

impl Tap for Untouched {
    fn tap(&self, _site: Site, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.clone())
    }
}

/// All that a forward pass needs beside its input: weights, padding, tap, dropout.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    weights: &'a Params,
    tap: &'a dyn Tap,
    lengths: Option<&'a [usize]>,
    padding_unread: bool,
    dropout: Option<&'a Key>,
}

impl<'a> Pass<'a> {
    /// A pass with these trainable weights, without padding mask, taps or dropout.
    pub fn new(weights: &'a Params) -> Self {
        Self { weights, tap: &Untouched, lengths: None, padding_unread: false, dropout: None }
    }

    /// The same pass through another tap.
    pub fn with_tap(self, tap: &'a dyn Tap) -> Self {
        Self { tap, ..self }
    }

    /// The same pass with the padding of `batch` hidden, if it is to be.
    pub fn with_padding_of(self, batch: &'a Batch) -> Self {
        Self { lengths: batch.mask_padding.then_some(batch.lengths.as_slice()), ..self }
    }

    /// The same pass, of which nobody reads what padded positions come to.
    pub fn with_padding_unread(self, padding_unread: bool) -> Self {
        Self { padding_unread, ..self }
    }

    /// The same pass in training mode, dropout masks drawn under `key`; `None` is evaluation mode.
    pub fn with_dropout(self, key: Option<&'a Key>) -> Self {
        Self { dropout: key, ..self }
    }

    /// The trainable weight called `name`; `None` means that the backbone's own, frozen one holds.
    ///
    /// Trainable weights come from here alone: that is how one backbone runs with detached,
    /// perturbed or snapshot weights, and how recompute sees the very weights of its forward.
    pub fn weight(&self, name: &str) -> Option<&'a Tensor> {
        self.weights.get(name)
    }

    /// The same, rounded to the type of `frozen`; without a trained one, `frozen` itself.
    pub fn weight_or(&self, name: &str, frozen: &Tensor) -> Result<Tensor> {
        match self.weight(name) {
            Some(trained) => Ok(cast(trained, frozen.dtype())?),
            None => Ok(frozen.clone()),
        }
    }

    /// Hands the tensor of `site` to whoever listens and returns what to go on with.
    pub fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        self.tap.tap(site, hidden)
    }

    /// How many real tokens each row has, if padded keys are to be hidden.
    pub fn lengths(&self) -> Option<&'a [usize]> {
        self.lengths
    }

    /// How many real tokens each row has, where a backbone need not compute the others: they are hidden
    /// from attention, and nobody reads what they come to. Any finite values will do there.
    pub fn real_rows(&self) -> Option<&'a [usize]> {
        self.lengths.filter(|_| self.padding_unread)
    }

    /// The inverted-dropout mask of probability `p` for the place called `name`, shaped as
    /// `like`; `None` in evaluation mode or at `p = 0`.
    pub fn dropout(&self, name: &str, p: f64, like: &Tensor) -> Result<Option<Tensor>> {
        match self.dropout {
            Some(key) if p > 0.0 => {
                let mask = key.child(name).dropout(p, like.dims(), like.dtype(), like.device())?;
                Ok(Some(mask))
            }
            _ => Ok(None),
        }
    }
}

/// The measures of a backbone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Architecture {
    /// The family's registered name.
    pub family: String,
    /// Number of layers.
    pub layers: usize,
    /// Width of the hidden embeddings.
    pub width: usize,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// The longest sequence the model was made for.
    pub positions: usize,
    /// The labels of a sequence classifier, whose head gives logits `[batch, sequence, labels]`;
    /// none for a language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
}

/// What a parameter belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The attention's projections.
    Attention,
    /// The MLP's projections.
    Mlp,
    /// A norm's gain or bias.
    Norm,
    /// What tokens and positions become before the first layer. A table that is the output projection
    /// as well belongs here.
    Embedding,
    /// The output projection, and what stands between it and the last norm.
    Head,
    /// Something else, or unknown.
    #[default]
    Other,
}

/// Where in a model a parameter sits.
///
/// The gradient of a [subset](crate::step::Query::of) goes down to its lowest parameter and no
/// further, so this must be right: the law `a_subset_has_the_gradients_of_all` of the test kit holds
/// a backbone to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The layer, from 0; none outside the layers. There a norm stands above the last one.
    pub layer: Option<usize>,
    /// The part.
    pub part: Part,
}

impl Location {
    /// The lowest layer that a backward walk has to reach for a parameter here, and `usize::MAX` if it
    /// need not go below the head.
    pub(crate) fn lowest_layer(self) -> usize {
        match (self.layer, self.part) {
            (Some(layer), _) => layer,
            (None, Part::Head | Part::Norm) => usize::MAX,
            (None, _) => 0,
        }
    }
}

/// A trainable tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name, as in the Hugging Face checkpoint (adapters: `<module>.lora_A`, `<module>.lora_B`).
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether weight decay applies: to all but norm gains and biases, as PyTorch trainers do.
    pub decay: bool,
    /// The layer it is in, from 0; none outside the layers.
    pub layer: Option<usize>,
    /// What it belongs to.
    pub part: Part,
}

impl Parameter {
    /// A parameter of which it is not said where it sits.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, decay: bool) -> Self {
        Self { name: name.into(), shape, decay, layer: None, part: Part::Other }
    }

    /// The same at a location.
    #[must_use]
    pub fn at(self, Location { layer, part }: Location) -> Self {
        Self { layer, part, ..self }
    }

    /// Where it sits.
    pub fn location(&self) -> Location {
        Location { layer: self.layer, part: self.part }
    }

    /// The module it belongs to: its name without `.weight`, `.bias`, `.lora_A` or `.lora_B`.
    pub fn module(&self) -> &str {
        module(&self.name)
    }
}

/// The module that the tensor called `name` belongs to.
pub fn module(name: &str) -> &str {
    let suffixes = [".weight", ".bias", ".lora_A", ".lora_B"];
    suffixes.iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// A causal language model that the loop can walk layer by layer.
///
/// Written once per model family; it knows nothing of defences. In each layer it hands the hidden
/// embeddings to [`Pass::tap`] and goes on with what comes back. Operations may be plain candle
/// operations or fused ones with a backward; the test kit's contract shows where one cuts its
/// gradient. Cheap to share: implementations keep frozen weights behind an [`Arc`].
pub trait Backbone: Send + Sync {
    /// The measures of this model.
    fn architecture(&self) -> &Architecture;

    /// Where the frozen weights live.
    fn device(&self) -> &Device;

    /// The type it computes in.
    fn dtype(&self) -> DType;

    /// Token ids `[batch, sequence]` to hidden embeddings `[batch, sequence, width]`.
    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor>;

    /// Layer `layer`: `[batch, sequence, width]` to the same.
    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor>;

    /// The last layer's output to logits `[batch, sequence, vocabulary]`, or over the labels of a
    /// classifier.
    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor>;

    /// The last layer's output to the mean cross-entropy over labelled positions.
    ///
    /// By default made from [`Backbone::head`]'s logits; families that can should not
    /// materialise them.
    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        crate::loss::cross_entropy(&self.head(hidden, pass)?, targets)
    }

    /// A decoder with a key-value cache, kept apart so that a gradient pass never meets a cache.
    fn decoder<'a>(&'a self, _weights: &'a Params) -> Option<Box<dyn Decoder + 'a>> {
        None
    }

    /// What is trained under the present [`Trainable`].
    fn parameters(&self) -> Vec<Parameter>;

    /// Starting values of all [`Backbone::parameters`]: the base weights themselves, or a fresh
    /// adapter drawn under `key`.
    fn initial(&self, key: &Key) -> Result<Params>;

    /// The same model with another trainable set.
    fn with_trainable(&self, trainable: &Trainable) -> Result<Arc<dyn Backbone>>;

    /// What is trained: everything, or an adapter.
    fn trainable(&self) -> &Trainable;

    /// The frozen weights under their Hugging Face names.
    fn tensors(&self) -> Params;
}

/// Token by token, with what has been computed kept.
pub trait Decoder {
    /// Takes further tokens `[batch, n]`, all rows at the same position, and returns the logits
    /// `[batch, vocabulary]` after the last of them.
    fn advance(&mut self, tokens: &Tensor) -> Result<Tensor>;
}
