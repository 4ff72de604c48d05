//! EWC: a quadratic penalty weighted by Fisher information.

use vxf_core::prelude::*;

use crate::config::{EwcConfig, Form};

const ALIGNED: &str = "aligned";
const LEAK: &str = "leak.";
const FISHER: &str = "fisher.";

/// `J = CE_user + lambda * sum_k F_k (w_k - w_aligned_k)^2`.
///
/// F is the sum over alignment batches of the squared gradient of the batch's mean loss, at the
/// aligned weights. As in the reference it is neither averaged nor halved, so lambda means the same.
pub struct Ewc {
    config: EwcConfig,
    fisher: Params,
    leak: Option<Gradients>,
}

impl Ewc {
    /// EWC with these settings.
    pub fn new(config: EwcConfig) -> Self {
        Self { config, fisher: Params::new(), leak: None }
    }

    /// The Fisher information; empty before `prepare`.
    pub fn fisher(&self) -> &Params {
        &self.fisher
    }
}

impl Defense for Ewc {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(ALIGNED)?;
        let role = match self.config.form {
            Form::Corrected => Role::Evaluation,
            Form::Reference => Role::Outer,
        };
        let batches = match self.config.fisher_batches {
            0 => step.batches_per_epoch("alignment")?,
            batches => batches,
        };
        let mut fisher = step.weights().zeros_like()?;
        for _ in 0..batches {
            let gradients = step.on("alignment").role(role).gradients()?;
            fisher = fisher.zip(&gradients, |sum, gradient| Ok((sum + gradient.sqr()?)?))?;
            step.redraw("alignment")?;
            self.leak = (self.config.form == Form::Reference).then_some(gradients);
        }
        self.fisher = fisher;
        Ok(())
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let mut gradients = step.gradients(&perturbation)?;

        let moved = step.weights().sub(step.snapshot_of(ALIGNED)?)?;
        let pull = self.fisher.zip(&moved, |fisher, moved| Ok((fisher * moved)?))?;
        step.record("loss", self.config.lambda * pull.dot(&moved)?)?;
        gradients = gradients.add_scaled(&pull, 2.0 * self.config.lambda)?;

        if step.index() > 0 {
            self.leak = None;
        }
        if let Some(leak) = &self.leak {
            gradients = gradients.add_scaled(leak, 1.0)?;
        }
        Ok(gradients)
    }

    fn state(&self) -> Result<State> {
        let leak = self.leak.iter().flat_map(Params::iter).map(|entry| (LEAK, entry));
        let fisher = self.fisher.iter().map(|entry| (FISHER, entry));
        let tensors = leak
            .chain(fisher)
            .map(|(kind, (name, tensor))| (format!("{kind}{name}"), tensor.clone()));
        Ok(State { tensors: tensors.collect(), values: serde_json::Value::Null })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.fisher = Params::new();
        let mut leak = Params::new();
        for (name, tensor) in state.tensors {
            if let Some(name) = name.strip_prefix(FISHER) {
                self.fisher.insert(name, tensor);
            } else if let Some(name) = name.strip_prefix(LEAK) {
                leak.insert(name, tensor);
            } else {
                return Err(Error::State(format!("EWC does not store a tensor named `{name}`")));
            }
        }
        self.leak = (!leak.is_empty()).then_some(leak);
        Ok(())
    }
}
