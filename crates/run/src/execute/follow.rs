//! Measuring a user's model while it trains, for curves over the steps.

use serde_json::json;
use vxf_core::config::{BuildContext, MetricConfig};
use vxf_core::metric::{Model, Probes};
use vxf_core::minmax::Training;
use vxf_recipe::Chosen;

use super::run::Executor;
use super::stage::StagePlan;
use super::start::Aligned;
use crate::Result;
use crate::measure::metrics::{self, Measured, Pair};
use crate::store::step_log::{self, StepLog};

/// What is measured while a stage trains, and how often.
pub(super) struct Following<'a> {
    /// Steps between two measurements; 0 for none at all.
    every: u64,
    metrics: &'a [Chosen<dyn MetricConfig>],
    probes: &'a Probes,
    /// The first prompts of each set, where answers are followed too.
    few: Option<Probes>,
    aligned: &'a Aligned<'a>,
    /// Samples of a step.
    batch: usize,
    context: &'a BuildContext<'a>,
}

impl Following<'_> {
    /// Whether to measure after `step` of `total` steps.
    pub(super) fn is_due(&self, step: u64, total: u64) -> bool {
        match step {
            // Nothing has moved yet, but the curve of the answers begins here.
            0 => self.few.is_some() && total > 0,
            step => self.every > 0 && (step.is_multiple_of(self.every) || step == total),
        }
    }
}

impl Executor<'_> {
    /// What is followed in a run: nothing but in the user's stage.
    pub(super) fn following<'b>(
        &'b self,
        run: usize,
        plan: &StagePlan<'_>,
        aligned: &'b Aligned<'b>,
        probes: &'b Probes,
        context: &'b BuildContext<'b>,
    ) -> Following<'b> {
        let recipe = self.prepared.recipe(run);
        let every = if plan.stage.is_user() { recipe.settings.eval_every } else { 0 };
        let prompts = if every > 0 { recipe.settings.eval_prompts } else { 0 };
        let few = (prompts > 0).then(|| {
            let data = self.prepared.data(run);
            data.few_probes(&self.prepared.base, &self.prepared.judges, prompts)
        });
        Following {
            every,
            metrics: &recipe.metrics,
            probes,
            few,
            aligned,
            batch: plan.stage.training.batch_size * plan.stage.training.accumulation,
            context,
        }
    }

    /// Measures the model between two steps and writes its figures into the log.
    pub(super) fn follow(
        &self,
        run: usize,
        following: &Following<'_>,
        training: &Training<'_>,
        log: &mut StepLog<'_>,
    ) -> Result<()> {
        let Following { metrics, probes, few, aligned, batch, context, .. } = following;
        let model = Model { backbone: training.backbone, weights: &training.weights };
        let pair = Pair { model, aligned: aligned.model()? };
        let step = training.next;
        let mut measured = match step {
            // Nothing has moved from the aligned model yet.
            0 if !aligned.is_apart() => Measured::default(),
            _ => metrics::followed(pair, probes, metrics, context)?,
        };
        if let Some(few) = few {
            let Measured { rows, failures, .. } = metrics::answered(pair, few, metrics, context)?;
            measured.rows.extend(rows);
            measured.failures.extend(failures);
        }
        let samples = step_log::samples(step, training.samples()?, *batch);
        for row in measured.rows {
            log.push(&json!({
                "kind": "measurement", "step": step, "samples": samples, "row": row,
            }))?;
        }
        self.report(&self.spec(run).id, &measured.failures);
        Ok(())
    }
}
