//! The simulated attack that finds the groups, and the step.

use rand::Rng;
use rand::seq::index;
use vxf_core::loss::per_sample;
use vxf_core::numeric::widened;
use vxf_core::optimizer::{AdamW, AdamWConfig};
use vxf_core::prelude::*;

use crate::config::VaaConfig;
use crate::groups::Groups;

/// Samples that a pass reads together when losses are measured.
const TOGETHER: usize = 8;
/// Keeps the division defined at a gradient of zero, as in the authors' code.
const EPSILON: f64 = 1e-7;

/// A step on a batch of one group, drawn with a probability that grows with the group's loss; with a
/// probability that grows with the steps, its gradient is taken at `w + rho g / ||g||`.
///
/// The vulnerable group is what a simulated attack makes a simulated plain alignment forget.
pub struct Vaa {
    config: VaaConfig,
    groups: Groups,
}

impl Vaa {
    /// VAA with these settings.
    pub fn new(config: VaaConfig) -> Self {
        Self { config, groups: Groups::default() }
    }

    /// Simulated steps on random batches of a stream.
    fn simulate(
        &self,
        step: &mut Step<'_>,
        stream: &str,
        steps: usize,
        weights: &mut Params,
    ) -> Result<()> {
        let (size, all) = (step.batch_size(&step.main())?, step.samples_of(stream)?);
        let parameters = step.parameters().to_vec();
        let mut optimizer = AdamW::new(AdamWConfig::default(), &parameters, weights)?;
        for number in 0..steps {
            let mut rng = step.key("simulated").child(stream).index(number as u64).rng();
            let drawn = index::sample(&mut rng, all, size.min(all)).into_vec();
            let batch = step.pick(stream, &drawn)?;
            if batch.labelled() == 0 {
                continue;
            }
            let (_, gradients) = step.with_weights(weights, |step| {
                step.on(stream).reading(&batch).role(Role::Evaluation).loss_and_gradients()
            })?;
            optimizer.step(weights, &gradients, 1.0, self.config.rate)?;
        }
        Ok(())
    }

    /// The loss of each sample of the main stream.
    fn losses(step: &mut Step<'_>, weights: &Params) -> Result<Vec<f64>> {
        let main = step.main();
        let all: Vec<usize> = (0..step.samples_of(&main)?).collect();
        let mut losses = Vec::new();
        for samples in all.chunks(TOGETHER) {
            let batch = step.pick(&main, samples)?;
            if batch.labelled() == 0 {
                losses.extend(vec![0.0; samples.len()]);
                continue;
            }
            let logits = step.with_weights(weights, |step| {
                step.on(&main).reading(&batch).role(Role::Evaluation).logits()
            })?;
            let own = widened(&per_sample(&logits, &batch)?)?;
            losses.extend(own.to_dtype(candle_core::DType::F64)?.to_vec1::<f64>()?);
        }
        Ok(losses)
    }
}

impl Defense for Vaa {
    fn per_step(&self) -> bool {
        true
    }

    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        let VaaConfig { align_steps, attack_steps, vulnerable, .. } = self.config;
        let main = step.main();
        let mut weights = step.weights().copy()?;
        self.simulate(step, &main, align_steps, &mut weights)?;
        let before = Self::losses(step, &weights)?;
        self.simulate(step, "harmful", attack_steps, &mut weights)?;
        let after = Self::losses(step, &weights)?;
        let rises: Vec<f64> =
            after.iter().zip(&before).map(|(after, before)| after - before).collect();
        step.require_finite(
            "a loss after the simulated attack",
            "",
            &rises.iter().sum::<f64>().into(),
        )?;
        if rises.len() < 2 {
            let few = "VAA needs two alignment samples or more: one of them is in the other group";
            return Err(Error::Unsuitable(few.to_owned()));
        }
        self.groups = Groups::of(&rises, vulnerable);
        Ok(())
    }

    fn gradients(&mut self, _inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let VaaConfig { rho, ascent, group_rate, .. } = self.config;
        let mut rng = step.key("group").rng();
        let vulnerable = rng.random::<f64>() < self.groups.probability;
        let changed =
            rng.random::<f64>() > 1.0 - ascent * step.index() as f64 / step.total() as f64;
        let size = step.batch_size(&step.main())? * step.micro_batches();
        let drawn = self.groups.next(vulnerable, size, &step.key("order"));
        let batch = step.pick(&step.main(), &drawn)?;
        let (mut loss, mut gradients) = step.on_main().reading(&batch).loss_and_gradients()?;
        if changed {
            let norm = gradients.pending_norm()?;
            let factor = norm.add(&EPSILON.into())?.rdiv(rho)?;
            let ascent = gradients.map(|gradient| Ok(factor.scale(gradient)?))?;
            let moved = Perturbation::Weights(ascent);
            let query = step.on_main().reading(&batch).perturbed(&moved);
            (loss, gradients) = query.loss_and_gradients()?;
        }
        step.record("vulnerable", f64::from(u8::from(vulnerable)))?;
        step.record("changed", f64::from(u8::from(changed)))?;
        step.record("probability", self.groups.probability)?;
        self.groups.learn(vulnerable, loss.value()?, group_rate);
        Ok(gradients)
    }

    fn state(&self) -> Result<State> {
        let values =
            serde_json::to_value(&self.groups).map_err(|it| Error::State(it.to_string()))?;
        Ok(State { values, ..State::default() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        let bad = |error: serde_json::Error| Error::State(format!("groups of samples: {error}"));
        self.groups = serde_json::from_value(state.values).map_err(bad)?;
        Ok(())
    }
}
