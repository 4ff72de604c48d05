//! The `Perturber` trait: the inner player of the min-max problem.

use candle_core::Tensor;

use vxf_tensor::autograd;

use crate::defense::State;
use crate::site::{Hidden, Site};
use crate::step::Step;
use crate::{Params, Result};

/// What the inner player adds.
#[derive(Clone, Debug, Default)]
pub enum Perturbation {
    /// Nothing.
    #[default]
    None,
    /// A constant at hidden embeddings, shaped as they are.
    Hidden(Hidden),
    /// A constant on trainable weights; handed on as the weights of a pass, so that there is
    /// nothing to undo.
    Weights(Params),
}

/// The hidden embedding at `site` with what is added to it there.
pub(crate) fn perturbed(site: Site, hidden: &Tensor, added: Option<&Hidden>) -> Result<Tensor> {
    match added.and_then(|added| added.get(&site)) {
        Some(added) => Ok(autograd::add(hidden, &added.to_dtype(hidden.dtype())?)?),
        None => Ok(hidden.clone()),
    }
}

/// The inner maximiser: proposes a perturbation within its radius.
///
/// It may ask `step` for gradients at sites or with respect to the weights, as often as it wants.
/// A perturbation must be zero on padding and touch the sites it was configured for alone; at
/// radius 0 the outer step must equal plain fine-tuning to the bit. `vxf-testkit` checks these laws.
pub trait Perturber: Send {
    /// Proposes a perturbation for the present micro-batch of the main stream; for the whole step
    /// where the defence makes its gradient once per step.
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation>;

    /// What the next proposal depends on beyond the step, for a checkpoint.
    fn state(&self) -> Result<State> {
        Ok(State::default())
    }

    /// Takes back what [`Perturber::state`] gave.
    ///
    /// # Errors
    /// When the state is not this method's.
    fn restore(&mut self, state: State) -> Result<()> {
        state.must_be_empty("this perturber")
    }
}
