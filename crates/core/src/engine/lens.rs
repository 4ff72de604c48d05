//! Reads hidden embeddings by the model's own parts: its output projection, its attention.

use candle_core::Tensor;

use crate::Result;
use crate::backbone::{Backbone, Pass};

/// The model's head, for hidden embeddings of any layer (the *logit lens*, nostalgebraist 2020).
///
/// Gradients flow to the embeddings, and to the head's weights where these are trained.
pub struct Lens<'a> {
    backbone: &'a dyn Backbone,
    pass: &'a Pass<'a>,
}

impl<'a> Lens<'a> {
    pub(super) fn new(backbone: &'a dyn Backbone, pass: &'a Pass<'a>) -> Self {
        Self { backbone, pass }
    }

    /// The logits `[positions, vocabulary]` of hidden embeddings `[positions, width]`, through the last
    /// norm and the output projection.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.backbone.head(hidden, self.pass)
    }

    /// The mean cross-entropy over the rows whose target is not negative, without keeping the logits.
    pub fn loss(&self, hidden: &Tensor, targets: &[i64]) -> Result<Tensor> {
        self.backbone.head_loss(hidden, targets, self.pass)
    }

    /// The last norm of hidden embeddings `[positions, width]`: of the last layer's output it is what the
    /// output projection reads.
    ///
    /// # Errors
    /// When the backbone does not say what its last norm is.
    pub fn normed(&self, hidden: &Tensor) -> Result<Tensor> {
        self.backbone.last_norm(hidden, self.pass)
    }

    /// The attention that each row pays to its sample's first token in `layer`, `[positions, heads]`, from
    /// the hidden embeddings at the layer's [`AttentionInput`](crate::site::SiteKind::AttentionInput).
    ///
    /// # Errors
    /// When the backbone does not give it.
    pub fn first_token_attention(&self, layer: usize, input: &Tensor) -> Result<Tensor> {
        self.backbone.first_token_attention(layer, input, self.pass)
    }
}
