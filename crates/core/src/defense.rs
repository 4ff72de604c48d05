//! The `Defense` trait: the outer player, a published method.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::backbone::Parameter;
use crate::perturber::Perturber;
use crate::step::Step;
use crate::{Error, Gradients, Params, Result};

/// The stages that a method may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// By the provider, before any user.
    Alignment,
    /// By the user; also where an attack happens.
    FineTuning,
    /// After the user: an edit of the weights, or a short repair.
    PostTuning,
}

impl Stage {
    /// All kinds of stages, in the order of the usual pipeline.
    pub const ALL: [Self; 3] = [Self::Alignment, Self::FineTuning, Self::PostTuning];
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
            _ => {
                Err(format!("`{text}` is not a stage; write alignment, fine_tuning or post_tuning"))
            }
        }
    }
}

/// The state that a method carries from step to step, for a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Named tensors.
    pub tensors: Params,
    /// Everything else.
    pub values: serde_json::Value,
}

impl State {
    /// An error unless the state is empty, for methods without state.
    pub(crate) fn must_be_empty(&self, who: &str) -> Result<()> {
        match self.tensors.is_empty() && self.values.is_null() {
            true => Ok(()),
            false => Err(Error::State(format!("{who} has no state, but a state was saved"))),
        }
    }
}

/// The outer player: a published defence.
///
/// The default [`Defense::gradients`] is the min-max step, so that a defence whose inner player is
/// a [`Perturber`] needs no code of its own. Any other defence queries [`Step`] and combines the
/// answers.
pub trait Defense: Send {
    /// Runs once before the first step, with one micro-batch, for example to estimate Fisher
    /// information or take snapshots. Figures that it records are not kept.
    fn prepare(&mut self, _step: &mut Step<'_>) -> Result<()> {
        Ok(())
    }

    /// Whether it makes its gradient once per optimiser step rather than once per micro-batch.
    ///
    /// With one micro-batch per step there is no difference. With several, a gradient that is
    /// linear in the batch's gradient is the same either way, up to rounding. A gradient that is
    /// not linear (scaled by its norm, projected, the result of a simulated run) belongs to the
    /// large batch only if this is true. Then every query of the step is
    /// [`whole`](crate::step::Query::whole), and queries about one micro-batch, such as a
    /// perturbation of hidden embeddings, must run within [`Step::accumulate`].
    fn per_step(&self) -> bool {
        false
    }

    /// The gradient to descend along: of one micro-batch, or of the step if it is
    /// [`Defense::per_step`]. The default is the min-max step: the inner player finds its
    /// perturbation, then the loss is differentiated at it.
    ///
    /// The gradients of micro-batches are summed, each weighted by its share of the main stream's
    /// labelled tokens. A weight that is missing from the gradient is frozen in this step: its
    /// moments do not change and it does not decay.
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        step.gradients(&perturbation)
    }

    /// Changes the gradient that another member of a composition made: projects it, or leaves
    /// weights out.
    fn adjust(&mut self, gradients: Gradients, _step: &mut Step<'_>) -> Result<Gradients> {
        Ok(gradients)
    }

    /// Whether this trained weight stays as it is, throughout the stage. In a composition a weight is frozen
    /// if one member freezes it.
    ///
    /// A frozen weight's gradient is zero in every query of every member, so that no norm counts it and
    /// no direction moves it. That gradient is not computed, and the backward pass ends at the lowest
    /// weight that trains.
    fn freezes(&self, _parameter: &Parameter) -> bool {
        false
    }

    /// The indices of the main stream's samples to train on; none for all. Asked once, before the first
    /// step, after [`Defense::prepare`] or, in a training that is resumed, [`Defense::restore`].
    ///
    /// The number of steps stays as it is: what is left is read more often.
    fn keeps(&self) -> Option<Vec<usize>> {
        None
    }

    /// Runs once after each optimiser step, with the new weights and the whole step.
    fn after_step(&mut self, _step: &mut Step<'_>) -> Result<()> {
        Ok(())
    }

    /// Edits the final weights, after the last step (post-tuning methods).
    ///
    /// `weights` are the trained ones: the adapter's, if there is one. The step has one
    /// micro-batch. It gives [references](Step::reference) and the [merged weight](Step::merged) of
    /// a module, and keeps recorded figures.
    ///
    /// # Errors
    /// The returned weights must be a complete set of the trained weights, and finite.
    fn finish(&mut self, _step: &mut Step<'_>, weights: Params) -> Result<Params> {
        Ok(weights)
    }

    /// The state that the next step depends on beyond weights, snapshots and streams.
    fn state(&self) -> Result<State> {
        Ok(State::default())
    }

    /// Restores what [`Defense::state`] returned.
    ///
    /// # Errors
    /// When the state is not this method's.
    fn restore(&mut self, state: State) -> Result<()> {
        state.must_be_empty("this defence")
    }
}
