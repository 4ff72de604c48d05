//! Questions about a stream, and the verbs that answer them.

use candle_core::Tensor;

use super::{Role, Step};
use crate::backbone::{Pass, Tap};
use crate::engine::{Evaluation, Objective, Outcome};
use crate::perturber::Perturbation;
use crate::site::{Hidden, Site};
use vxf_tensor::Key;
use vxf_tensor::Scalar;
use vxf_tensor::numeric;

use crate::{Error, Gradients, Result};

/// A question about a stream, put together word by word and ended by a verb.
#[must_use = "end the query with a verb such as `gradients`"]
pub struct Query<'s, 'a> {
    pub(super) step: &'s mut Step<'a>,
    pub(super) stream: String,
    pub(super) perturbation: Perturbation,
    pub(super) objective: Objective<'s>,
    pub(super) role: Role,
}

impl<'s> Query<'s, '_> {
    /// At this perturbation.
    pub fn perturbed(mut self, perturbation: &Perturbation) -> Self {
        self.perturbation = perturbation.clone();
        self
    }

    /// Of this objective instead of the plain cross-entropy.
    pub fn minimising(mut self, objective: Objective<'s>) -> Self {
        self.objective = objective;
        self
    }

    /// As a pass of this role, which decides the dropout masks.
    pub fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }

    /// The gradient with respect to the weights.
    pub fn gradients(self) -> Result<Gradients> {
        Ok(self.loss_and_gradients()?.1)
    }

    /// The mean loss of this micro-batch, and the gradient with respect to the weights.
    ///
    /// The loop weighs what a defence returns by the main stream's share of labelled tokens.
    /// Gradients of other streams are scaled here so that their sum over micro-batches is the
    /// gradient of their own large batch.
    pub fn loss_and_gradients(self) -> Result<(Scalar, Gradients)> {
        let main = self.step.main();
        let balance = match self.stream == main {
            true => 1.0,
            false => self.step.share(&self.stream)? / self.step.share(&main)?,
        };
        let outcome = self.run(&[], true)?;
        Ok((outcome.loss, outcome.gradients.scale(balance)?))
    }

    /// The loss alone; waits for the device.
    pub fn loss(self) -> Result<f64> {
        Ok(self.run(&[], false)?.loss.value()?)
    }

    /// Gradients at sites; takes none of the weights.
    ///
    /// Of this micro-batch's contribution to the step's loss: the mean over *its* labelled tokens
    /// times its share of the step's. Returns the mean loss of the micro-batch beside them.
    pub fn site_gradients(self, sites: &[Site]) -> Result<(Scalar, Hidden)> {
        let share = self.step.share(&self.stream)?;
        let mut outcome = self.run(sites, false)?;
        if share != 1.0 {
            for gradient in outcome.at_sites.values_mut() {
                *gradient = (&*gradient * share)?;
            }
        }
        Ok((outcome.loss, outcome.at_sites))
    }

    /// The hidden embeddings at sites, cut off from any graph.
    pub fn hidden(self, sites: &[Site]) -> Result<Hidden> {
        let seen = std::cell::RefCell::new(Hidden::new());
        let reader = Reader { sites, seen: &seen };
        self.forward(&reader)?;
        reader.all_seen()?;
        Ok(seen.take())
    }

    /// The logits `[batch, sequence, vocabulary]` in `f32` or wider, cut off from any graph.
    pub fn logits(self) -> Result<Tensor> {
        self.forward(&crate::backbone::Untouched)
    }

    fn dropout(&self) -> Option<Key> {
        let key = self.step.key("dropout").child(&self.stream);
        match self.role {
            Role::Outer => Some(key.child("outer")),
            Role::Probe => Some(key.child("probe")),
            Role::Evaluation => None,
        }
    }

    fn forward(self, tap: &dyn Tap) -> Result<Tensor> {
        let batch = self.step.batch(&self.stream)?;
        let dropout = self.dropout();
        let backbone = self.step.backbone;
        let weights = self.step.weights.detach();
        let pass = Pass::new(&weights).with_padding_of(&batch).with_dropout(dropout.as_ref());
        let tapped = pass.with_tap(tap);
        let mut hidden = backbone.embed(&batch.tokens, &tapped)?;
        for layer in 0..backbone.architecture().layers {
            hidden = backbone.block(layer, &hidden, &tapped)?;
        }
        Ok(numeric::widened(&backbone.head(&hidden, &pass)?.detach())?)
    }

    fn run(self, sites: &[Site], weight_gradients: bool) -> Result<Outcome> {
        let batch = self.step.batch(&self.stream)?;
        if batch.labelled() == 0 {
            return Err(Error::NothingLabelled { stream: self.stream });
        }
        let dropout = self.dropout();
        let (perturbation, moved) = match &self.perturbation {
            Perturbation::None => (None, None),
            Perturbation::Hidden(hidden) => (Some(hidden), None),
            Perturbation::Weights(change) => {
                (None, Some(self.step.weights.add_scaled(change, 1.0)?))
            }
        };
        let outcome = Evaluation {
            backbone: self.step.backbone,
            weights: moved.as_ref().unwrap_or(&self.step.weights),
            batch: &batch,
            perturbation,
            objective: self.objective,
            sites,
            weight_gradients,
            dropout: dropout.as_ref(),
            recompute: self.step.session.recompute,
        }
        .run()?;
        let place = format!(" on stream `{}`", self.stream);
        self.step.watch("the loss", &place, &outcome.loss)?;
        Ok(outcome)
    }
}

/// Remembers hidden embeddings on their way.
pub(crate) struct Reader<'a> {
    pub(crate) sites: &'a [Site],
    pub(crate) seen: &'a std::cell::RefCell<Hidden>,
}

impl Reader<'_> {
    /// Fails when the backbone never came by one of the sites.
    pub(crate) fn all_seen(&self) -> Result<()> {
        let seen = self.seen.borrow();
        let Some(site) = self.sites.iter().find(|site| !seen.contains_key(site)) else {
            return Ok(());
        };
        Err(Error::UnknownSite { site: site.to_string(), known: "other sites".into() })
    }
}

impl Tap for Reader<'_> {
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        if self.sites.contains(&site) {
            self.seen.borrow_mut().insert(site, hidden.detach());
        }
        Ok(hidden.clone())
    }
}
