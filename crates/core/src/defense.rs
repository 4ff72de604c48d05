//! The `Defense` trait: the outer player, a published method.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::perturber::Perturber;
use crate::step::Step;
use crate::{Error, Gradients, Params, Result};

/// The stages of a model's life that a method may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The provider's, before any user comes.
    Alignment,
    /// The user's, which is also where an attack happens.
    FineTuning,
    /// After the user's: weights only, or a short repair.
    PostTuning,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alignment => "alignment",
            Self::FineTuning => "fine_tuning",
            Self::PostTuning => "post_tuning",
        })
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.replace('-', "_").as_str() {
            "alignment" => Ok(Self::Alignment),
            "fine_tuning" => Ok(Self::FineTuning),
            "post_tuning" => Ok(Self::PostTuning),
            _ => Err(format!("`{text}` is no stage; write alignment, fine_tuning or post_tuning")),
        }
    }
}

/// What a method carries from step to step, for a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Named tensors.
    pub tensors: Params,
    /// Everything else.
    pub values: serde_json::Value,
}

impl State {
    /// For those who carry nothing.
    pub(crate) fn must_be_empty(&self, who: &str) -> Result<()> {
        match self.tensors.is_empty() && self.values.is_null() {
            true => Ok(()),
            false => Err(Error::State(format!("{who} keeps none, yet some was saved"))),
        }
    }
}

/// The outer player: a published defence, in the stage it belongs to.
///
/// The default [`Defense::gradients`] is the min-max step, so that a defence whose inner player is
/// a [`Perturber`] needs no code of its own. A defence that does something else asks
/// [`Step`] for what it needs and combines it.
pub trait Defense: Send {
    /// Runs once before the first step, with one micro-batch: Fisher information, snapshots.
    fn prepare(&mut self, _step: &mut Step<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether it makes its gradient once per optimiser step rather than once per micro-batch.
    ///
    /// With one micro-batch per step there is no difference. With several, a gradient that is linear
    /// in the batch's is the same either way, up to rounding. One that is not (scaled by its norm,
    /// projected, the end of a simulated run) is made of the large batch only if this is true. Then
    /// every query of the step is [`whole`](crate::step::Query::whole), and what belongs to one
    /// micro-batch, such as a perturbation of hidden embeddings, has to be asked for within
    /// [`Step::accumulate`].
    fn per_step(&self) -> bool {
        false
    }

    /// The gradient to descend along, of one micro-batch or, if it is [`Defense::per_step`], of the
    /// step. By default the min-max step: let the inner player find its perturbation, then
    /// differentiate the loss at it.
    ///
    /// What a defence makes of micro-batches is summed, each weighted by its share of the main
    /// stream's labelled tokens. A weight that is left out of the gradient is frozen in this step: its
    /// moments and its decay rest too.
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        step.gradients(&perturbation)
    }

    /// Changes the gradient that another member of a composition made: a projection, weights that
    /// are left out.
    fn adjust(&mut self, gradients: Gradients, _step: &mut Step<'_>) -> Result<Gradients> {
        Ok(gradients)
    }

    /// Runs once after each optimiser step, with the new weights and the whole step.
    fn after_step(&mut self, _step: &mut Step<'_>) -> Result<()> {
        Ok(())
    }

    /// Edits the final weights, after the last step (post-tuning methods).
    ///
    /// `weights` are those that were trained: an adapter's, where one is. The step has one micro-batch.
    /// It tells [references](Step::reference) and the [merged weight](Step::merged) of a module, and
    /// keeps what is recorded.
    ///
    /// # Errors
    /// What is returned must be a whole set of the trained weights, and finite.
    fn finish(&mut self, _step: &mut Step<'_>, weights: Params) -> Result<Params> {
        Ok(weights)
    }

    /// What the next step depends on beyond weights, snapshots and streams.
    fn state(&self) -> Result<State> {
        Ok(State::default())
    }

    /// Takes back what [`Defense::state`] gave.
    ///
    /// # Errors
    /// When the state is not this method's.
    fn restore(&mut self, state: State) -> Result<()> {
        state.must_be_empty("this defence")
    }
}
