//! The `Perturber` trait: the inner player of the min-max problem.

use candle_core::Tensor;

use vxf_tensor::autograd;

use crate::defense::State;
use crate::site::{Hidden, Site};
use crate::step::Step;
use crate::{Params, Result};

/// A perturbation by the inner player.
#[derive(Clone, Debug, Default)]
pub enum Perturbation {
    /// Nothing.
    #[default]
    None,
    /// A constant at hidden embeddings, shaped as they are.
    Hidden(Hidden),
    /// A constant on trainable weights; passed as the weights of a pass, so that nothing must be
    /// undone.
    Weights(Params),
}

/// The hidden embedding at `site` plus its perturbation.
pub(crate) fn perturbed(site: Site, hidden: &Tensor, added: Option<&Hidden>) -> Result<Tensor> {
    match added.and_then(|added| added.get(&site)) {
        Some(added) => Ok(autograd::add(hidden, &added.to_dtype(hidden.dtype())?)?),
        None => Ok(hidden.clone()),
    }
}

/// The inner maximiser: proposes a perturbation within its radius.
///
/// It may ask `step` for gradients at sites or with respect to the weights, as often as it wants. A
/// perturbation must be zero on padding and change only the configured sites. At radius 0 the outer
/// step must equal plain fine-tuning to the bit. `vxf-testkit` checks these laws.
pub trait Perturber: Send {
    /// Proposes a perturbation for the present micro-batch of the main stream; for the whole step
    /// if the defence makes its gradient once per step.
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation>;

    /// The state that the next proposal depends on, for a checkpoint.
    fn state(&self) -> Result<State> {
        Ok(State::default())
    }

    /// Restores what [`Perturber::state`] returned.
    ///
    /// # Errors
    /// When the state is not this method's.
    fn restore(&mut self, state: State) -> Result<()> {
        state.must_be_empty("this perturber")
    }
}
