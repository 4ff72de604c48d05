//! The verbs of a forward pass alone, and their taps.

use std::cell::RefCell;

use candle_core::Tensor;

use super::Query;
use crate::backbone::{Pass, Tap, Untouched, run_layers};
use crate::perturber::perturbed;
use crate::site::{Hidden, Site};
use crate::{Error, Result, numeric};

impl Query<'_, '_> {
    /// The hidden embeddings at sites, detached from any graph.
    ///
    /// They include the perturbation at their site.
    pub fn hidden(self, sites: &[Site]) -> Result<Hidden> {
        let seen = RefCell::new(Hidden::new());
        let reader = Reader { sites, seen: &seen };
        self.forward("hidden", &reader)?;
        reader.all_seen()?;
        Ok(seen.take())
    }

    /// The logits `[positions, vocabulary]` in `f32` or wider, detached from any graph.
    pub fn logits(self) -> Result<Tensor> {
        self.forward("logits", &Untouched)
    }

    /// One forward pass through `tap`; returns the logits.
    fn forward(mut self, verb: &'static str, tap: &dyn Tap) -> Result<Tensor> {
        if self.objective.is_some() {
            let problem = "does not minimise anything; leave out `minimising(..)`".to_owned();
            return Err(Error::Query { verb, problem });
        }
        self.takes_no_subset(verb)?;
        let micro = self.one_micro_batch(verb)?;
        let weights = self.moved_weights()?.detach();
        let batch = self.batch(micro)?;
        let rows = batch.rows();
        let dropout = self.dropout(micro)?;
        let backbone = self.step.backbone;
        let layers = backbone.architecture().layers;
        let added = self.hidden_perturbation(micro)?;
        let added = added.as_ref();
        if let Some(site) = added.into_iter().flat_map(Hidden::keys).find(|it| it.layer >= layers) {
            return Err(Error::UnknownSite {
                site: site.to_string(),
                known: format!("{layers} layers"),
            });
        }
        let tap = Perturbed { added, tap };
        let pass = Pass::new(&weights, &rows).with_dropout(dropout.as_ref());
        let tapped = pass.with_tap(&tap);
        let hidden = run_layers(backbone, &batch.row_tokens()?, &tapped)?;
        Ok(numeric::widened(&backbone.head(&hidden, &pass)?.detach())?)
    }
}

/// A tap that adds a perturbation before another tap.
struct Perturbed<'a> {
    added: Option<&'a Hidden>,
    tap: &'a dyn Tap,
}

impl Tap for Perturbed<'_> {
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        self.tap.tap(site, &perturbed(site, hidden, self.added)?)
    }
}

/// A tap that stores hidden embeddings.
pub(crate) struct Reader<'a> {
    pub(crate) sites: &'a [Site],
    pub(crate) seen: &'a RefCell<Hidden>,
}

impl Reader<'_> {
    /// Fails if the backbone did not visit one of the sites.
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
