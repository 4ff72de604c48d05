//! The `Backbone` trait: a causal language model cut at its hidden-embedding sites.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::adapter::Trainable;
use crate::site::Site;
use crate::{Params, Result};
use vxf_tensor::autograd::cast;
use vxf_tensor::{Key, Mask, Rows};

/// The hook at a site: reads or changes the hidden embedding there.
///
/// A tap must be a pure function of site and tensor, because recompute visits every site twice.
pub trait Tap {
    /// Takes the hidden embedding at `site` and returns the one that the model continues with.
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor>;
}

/// The tap that changes nothing.
pub struct Untouched;

impl Tap for Untouched {
    fn tap(&self, _site: Site, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.clone())
    }
}

/// The context of a forward pass: weights, the index of rows, tap, dropout.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    weights: &'a Params,
    rows: &'a Rows,
    tap: &'a dyn Tap,
    output_unread: bool,
    dropout: Option<&'a Key>,
}

impl<'a> Pass<'a> {
    /// A pass with these trainable weights over these rows, without taps or dropout.
    pub fn new(weights: &'a Params, rows: &'a Rows) -> Self {
        Self { weights, rows, tap: &Untouched, output_unread: false, dropout: None }
    }

    /// Sets the tap.
    pub fn with_tap(self, tap: &'a dyn Tap) -> Self {
        Self { tap, ..self }
    }

    /// Sets the rows.
    pub fn with_rows(self, rows: &'a Rows) -> Self {
        Self { rows, ..self }
    }

    /// Declares that the output of a block is not used.
    pub fn with_output_unread(self, output_unread: bool) -> Self {
        Self { output_unread, ..self }
    }

    /// Draws dropout masks under `key`; `None` is evaluation mode.
    pub fn with_dropout(self, key: Option<&'a Key>) -> Self {
        Self { dropout: key, ..self }
    }

    /// The trainable weight called `name`; `None` means that the backbone uses its own frozen
    /// weight.
    ///
    /// A backbone reads trainable weights from here alone. So the same backbone runs with detached,
    /// perturbed or snapshot weights, and recompute sees the weights of its forward pass.
    pub fn weight(&self, name: &str) -> Option<&'a Tensor> {
        self.weights.get(name)
    }

    /// The trainable weight, rounded to the type of `frozen`; `frozen` itself if there is none.
    pub fn weight_or(&self, name: &str, frozen: &Tensor) -> Result<Tensor> {
        match self.weight(name) {
            Some(trained) => Ok(cast(trained, frozen.dtype())?),
            None => Ok(frozen.clone()),
        }
    }

    /// Passes the tensor of `site` to the tap and returns the one to continue with.
    pub fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        self.tap.tap(site, hidden)
    }

    /// The tap itself.
    pub(crate) fn taps(&self) -> &'a dyn Tap {
        self.tap
    }

    /// The sample and the position of each row of a hidden embedding.
    pub fn rows(&self) -> &'a Rows {
        self.rows
    }

    /// Whether a block is recomputed for its gradients alone. Its output values are not used, and a
    /// backbone may skip whatever only they need.
    ///
    /// A tap after the last value that a gradient needs then gets other values than in the forward
    /// pass.
    pub fn output_unread(&self) -> bool {
        self.output_unread
    }

    /// The inverted-dropout mask of probability `p` for the layer called `name`, `[positions, width]`;
    /// `None` in evaluation mode or at `p = 0`.
    ///
    /// A draw depends on sample, position and column, not on the layout of the rows.
    pub fn mask(&self, name: &str, p: f64, width: usize, like: &Tensor) -> Result<Option<Mask>> {
        match self.dropout {
            Some(key) if p > 0.0 => {
                let (dtype, device) = (like.dtype(), like.device());
                Ok(Some(key.child(name).mask(p, self.rows, width, dtype, device)?))
            }
            _ => Ok(None),
        }
    }

    /// The same mask as a tensor of factors, shaped like `like`: `[.., width]` with as many rows.
    pub fn dropout(&self, name: &str, p: f64, like: &Tensor) -> Result<Option<Tensor>> {
        let mask = self.mask(name, p, like.dim(D::Minus1)?, like)?;
        let shaped = |mask: Mask| Ok(mask.factors(like.dtype())?.reshape(like.shape())?);
        mask.map(shaped).transpose()
    }
}

/// The dimensions of a backbone.
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
    /// The longest sequence that the model supports.
    pub positions: usize,
    /// The labels of a sequence classifier, whose head gives logits `[positions, labels]`;
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
    /// The token and position embeddings. A table that is tied to the output projection belongs
    /// here.
    Embedding,
    /// The output projection, and layers between it and the last norm.
    Head,
    /// Something else, or unknown.
    #[default]
    Other,
}

/// The place of a parameter in a model.
///
/// The gradient of a [subset](crate::step::Query::of) is propagated down to its lowest parameter
/// only, so this must be right. The test kit's law `a_subset_has_the_gradients_of_all` checks it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The layer, from 0; none outside the layers. A norm outside the layers comes after the last
    /// one.
    pub layer: Option<usize>,
    /// The part.
    pub part: Part,
}

impl Location {
    /// The lowest layer that the backward pass must reach for this parameter; `usize::MAX` if it
    /// stops at the head.
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
    /// A parameter without a location.
    pub fn new(name: impl Into<String>, shape: Vec<usize>, decay: bool) -> Self {
        Self { name: name.into(), shape, decay, layer: None, part: Part::Other }
    }

    /// Sets the location.
    #[must_use]
    pub fn at(self, Location { layer, part }: Location) -> Self {
        Self { layer, part, ..self }
    }

    /// Its location.
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

/// A causal language model that runs layer by layer.
///
/// Written once per model family, without knowledge of defences. In each layer it passes the hidden
/// embeddings to [`Pass::tap`] and continues with the result. Operations may be plain candle
/// operations or fused ones with a backward; the test kit's contract finds an operation that cuts
/// its gradient. Cheap to share: implementations keep frozen weights behind an [`Arc`].
///
/// Tensors have one row for each position, sample after sample; [`Pass::rows`] is the index. A model
/// written on `[batch, sequence, width]` is wrapped in
/// [`Rectangular`](crate::rectangular::Rectangular).
pub trait Backbone: Send + Sync {
    /// The dimensions of this model.
    fn architecture(&self) -> &Architecture;

    /// Where the frozen weights live.
    fn device(&self) -> &Device;

    /// The type it computes in.
    fn dtype(&self) -> DType;

    /// Maps token ids, u32 `[positions]`, to hidden embeddings `[positions, width]`.
    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor>;

    /// Applies layer `layer`; `[positions, width]` in and out.
    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor>;

    /// Maps the last layer's output to logits `[positions, vocabulary]`; to `[positions, labels]` in a
    /// classifier. Each row is independent, and callers may pass only some of the rows.
    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor>;

    /// Maps the last layer's output to the mean cross-entropy over labelled positions.
    ///
    /// The default computes the logits with [`Backbone::head`]; a family that can should avoid
    /// storing them.
    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        crate::loss::cross_entropy(&self.head(hidden, pass)?, targets)
    }

    /// The norm between the last layer and the output projection, `[positions, width]` in and out; the
    /// same tensor if there is none. Methods that read the last hidden state need it.
    ///
    /// # Errors
    /// The default says that this backbone does not have it.
    fn last_norm(&self, _hidden: &Tensor, _pass: &Pass<'_>) -> Result<Tensor> {
        let family = &self.architecture().family;
        let problem = format!("the backbone `{family}` does not give its last norm (`last_norm`)");
        Err(crate::Error::Unsuitable(problem))
    }

    /// The attention that each row pays to its sample's first token in `layer`, `[positions, heads]`, from
    /// the input of the layer's query and key projections ([`AttentionInput`]). Gradients flow to the input
    /// and to the projections.
    ///
    /// # Errors
    /// The default says that this backbone does not have it.
    ///
    /// [`AttentionInput`]: crate::site::SiteKind::AttentionInput
    fn first_token_attention(
        &self,
        _layer: usize,
        _input: &Tensor,
        _pass: &Pass<'_>,
    ) -> Result<Tensor> {
        let family = &self.architecture().family;
        let problem = format!(
            "the backbone `{family}` does not give its attention (`first_token_attention`)"
        );
        Err(crate::Error::Unsuitable(problem))
    }

    /// A decoder with a key-value cache. It is a separate type, so that a gradient pass never sees
    /// a cache.
    fn decoder<'a>(&'a self, _weights: &'a Params) -> Option<Box<dyn Decoder + 'a>> {
        None
    }

    /// The parameters that the present [`Trainable`] trains.
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

    /// The frozen weight called `name`.
    fn tensor(&self, name: &str) -> Result<Option<Tensor>> {
        Ok(self.tensors().get(name).cloned())
    }
}

/// The last layer's output `[positions, width]` for token ids, u32 `[positions]`: what the head reads.
pub(crate) fn run_layers(
    backbone: &dyn Backbone,
    tokens: &Tensor,
    pass: &Pass<'_>,
) -> Result<Tensor> {
    let mut hidden = backbone.embed(tokens, pass)?;
    for layer in 0..backbone.architecture().layers {
        hidden = backbone.block(layer, &hidden, pass)?;
    }
    Ok(hidden)
}

/// Incremental decoding with a key-value cache.
pub trait Decoder {
    /// Appends tokens `[positions]`, for each sample those that `rows` says, and returns the logits
    /// `[samples, vocabulary]` after the last token of each. All calls have the same samples, less
    /// those that [`Self::keep`] has forgotten.
    fn advance(&mut self, tokens: &Tensor, rows: &Rows) -> Result<Tensor>;

    /// Whether samples may have different numbers of tokens.
    fn takes_any_lengths(&self) -> bool {
        false
    }

    /// Forgets all samples but these, in ascending order, and says whether it did: later calls have only
    /// them. Answers that have ended need no further tokens.
    fn keep(&mut self, samples: &[usize]) -> Result<bool> {
        let _ = samples;
        Ok(false)
    }
}
