//! The gradient of CTRAP.

use candle_core::Tensor;
use vxf_core::prelude::*;

use crate::config::{CtrapConfig, Length};

/// Added to the norm before dividing by it, as in the authors' code.
const EPSILON: f64 = 1e-7;

/// `J = f(w) + lambda c(w - alpha grad h(w))`, with the simulated step taken as constant; the gradient of h is
/// divided by its norm where [`Length::Unit`] is chosen.
///
/// f is the loss on alignment data, h that on harmful data, and c the cross-entropy of one fixed token at
/// every answer position of the alignment data: a model that says nothing else has collapsed.
pub struct Ctrap {
    config: CtrapConfig,
}

impl Ctrap {
    /// CTRAP with these settings.
    pub fn new(config: CtrapConfig) -> Self {
        Self { config }
    }
}

/// The cross-entropy of `token` at every labelled position.
fn collapse(logits: &Tensor, batch: &Batch, token: u32) -> Result<Tensor> {
    let all = batch.row_targets();
    let targets = all.into_iter().map(|target| if target < 0 { target } else { i64::from(token) });
    cross_entropy(logits, &targets.collect::<Vec<_>>())
}

impl Defense for Ctrap {
    fn per_step(&self) -> bool {
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let CtrapConfig { lambda, alpha, length, token, .. } = self.config;
        let vocabulary = step.architecture().vocabulary;
        if token as usize >= vocabulary {
            let problem = format!("`token` is {token}, the model's vocabulary has {vocabulary}");
            return Err(Error::Plugin { plugin: "ctrap", source: problem.into() });
        }
        let aligned = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;
        let (loss, harmful) = step.on("harmful").loss_and_gradients()?;
        step.record("harmful_loss", loss)?;
        let moved = match length {
            Length::Gradient => harmful.scale(-alpha)?,
            Length::Unit => {
                let norm = harmful.pending_norm()?;
                let place = " on stream `harmful`";
                step.require_finite("the norm of the harmful gradient", place, &norm)?;
                let factor = norm.add(&EPSILON.into())?.rdiv(-alpha)?;
                harmful.map(|gradient| Ok(factor.scale(gradient)?))?
            }
        };
        let moved = Perturbation::Weights(moved);
        let term = |logits: &Tensor, batch: &Batch| collapse(logits, batch, token);
        let objective =
            Objective { cross_entropy: 0.0, logits: Some(&term), ..Objective::default() };
        let trap = step.on_main().role(Role::Probe).perturbed(&moved).minimising(objective);
        let (loss, trap) = trap.loss_and_gradients()?;
        step.record("collapse_loss", loss)?;
        aligned.add_scaled(&trap, lambda)
    }
}
