//! SEAM.

use vxf_core::prelude::*;

use crate::config::SeamConfig;
use crate::harmful::{seen_by_all_layers, sites};

/// Added to the product of two norms before dividing by it, as in the authors' code.
const EPSILON: f64 = 1e-8;

/// `g = grad L_ul + alpha grad f + beta grad c`.
///
/// L_ul is minus the logarithm of the harmful loss as all layers see it (RepNoise), f the loss on alignment data, c the
/// cosine of a, the gradient of the harmful loss, and b, the gradient of the benign loss. The gradient of c is
/// estimated without second derivatives, from the gradients after two short steps of length epsilon:
/// `(a(w + epsilon (b^ - c a^)) - a) / (epsilon |a|) + (b(w + epsilon (a^ - c b^)) - b) / (epsilon |b|)`,
/// where a^ and b^ have length 1.
pub struct Seam {
    config: SeamConfig,
}

impl Seam {
    /// SEAM with these settings.
    pub fn new(config: SeamConfig) -> Self {
        Self { config }
    }

    /// The gradient of minus the logarithm of the harmful loss as every layer sees it, of the whole step.
    fn unlearning(step: &mut Step<'_>) -> Result<Gradients> {
        step.accumulate(|step| {
            let batch = step.batch("harmful")?;
            let layers = step.architecture().layers;
            let (read, targets) = (sites(layers), batch.row_targets());
            let term = |hidden: &Hidden, lens: &Lens<'_>| {
                Ok((seen_by_all_layers(hidden, lens, &targets, layers)?.log()? * -1.0)?)
            };
            let hidden: Option<(&[Site], vxf_core::engine::HiddenLoss<'_>)> = Some((&read, &term));
            let objective = Objective { cross_entropy: 0.0, hidden, ..Objective::default() };
            step.on("harmful").minimising(objective).gradients()
        })
    }
}

impl Defense for Seam {
    fn per_step(&self) -> bool {
        // Cosine and norms are of the whole step.
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let SeamConfig { alpha, beta, epsilon, .. } = self.config;
        let aligned = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;
        let unlearned = Self::unlearning(step)?;

        let benign = self.config.benign.clone();
        // Both gradients of a stream have the same dropout masks, so that they differ by the step alone.
        let (harmful_loss, a) = step.on("harmful").loss_and_gradients()?;
        let (benign_loss, b) = step.on(&benign).loss_and_gradients()?;
        let (length_a, length_b) = (a.norm()?, b.norm()?);
        let cosine = a.dot(&b)? / (length_a * length_b + EPSILON);
        step.record("harmful_loss", harmful_loss)?;
        step.record("gradient_cosine", cosine)?;

        if beta == 0.0 || length_a == 0.0 || length_b == 0.0 {
            // A gradient of zero has no direction that could be opposed.
            return unlearned.add_scaled(&aligned, alpha);
        }
        let towards = |to: &Gradients, along: &Gradients, lengths: (f64, f64)| -> Result<Params> {
            to.scale(epsilon / lengths.0)?.add_scaled(along, -epsilon * cosine / lengths.1)
        };
        let moved = Perturbation::Weights(towards(&b, &a, (length_b, length_a))?);
        let (_, a_there) = step.on("harmful").perturbed(&moved).loss_and_gradients()?;
        let moved = Perturbation::Weights(towards(&a, &b, (length_a, length_b))?);
        let (_, b_there) = step.on(&benign).perturbed(&moved).loss_and_gradients()?;
        if benign == step.main() {
            // Not the loss after the short step.
            step.record("loss", benign_loss)?;
        }

        let (of_a, of_b) = (beta / (epsilon * length_a), beta / (epsilon * length_b));
        unlearned
            .add_scaled(&aligned, alpha)?
            .add_scaled(&a_there, of_a)?
            .add_scaled(&a, -of_a)?
            .add_scaled(&b_there, of_b)?
            .add_scaled(&b, -of_b)
    }
}
