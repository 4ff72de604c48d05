//! The pipelines of an experiment: the recipe's own at each point, and the baselines beside it.

use serde_json::Value;
use vxf_recipe::settings::EMBEDDED;
use vxf_recipe::{Experiment, StageRecipe, baseline, label};

use super::graph::Source;
use crate::Result;

/// The baselines: a model that is never aligned, and plain training.
pub(super) const UNDEFENDED: &str = "none";
pub(super) const BASELINE: &str = "sft";

/// A pipeline before its stages become nodes.
pub(super) struct Pipeline {
    pub(super) stages: Vec<StageRecipe>,
    /// Index of its point of the experiment.
    pub(super) point: usize,
    /// Whether it is a baseline.
    pub(super) beside: bool,
    /// Appended to its label if another pipeline has the same one.
    suffix: &'static str,
}

impl Pipeline {
    pub(super) fn label(&self, depth: usize, source: Option<&Source>) -> String {
        let stages: Vec<_> = self.stages.iter().collect();
        let own = match source {
            None => label(&stages, depth),
            Some(source) => {
                let named = stages[..=depth].iter().filter(|stage| !stage.is_plain());
                let names = named.map(|stage| stage.label());
                [source.id.label.clone()].into_iter().chain(names).collect::<Vec<_>>().join("+")
            }
        };
        own + self.suffix
    }

    fn same_as(&self, other: &Self) -> bool {
        let values = |pipeline: &Self| -> Vec<Value> {
            pipeline.stages.iter().map(|stage| Value::Object(stage.value())).collect()
        };
        self.point == other.point && values(self) == values(other)
    }
}

/// All pipelines, point by point with the baselines first, and the indices of the tested ones.
pub(super) fn pipelines(
    experiment: &Experiment,
    source: Option<&Source>,
) -> Result<(Vec<Pipeline>, Vec<usize>)> {
    let (mut all, mut tested): (Vec<Pipeline>, Vec<usize>) = (Vec::new(), Vec::new());
    for (point, each) in experiment.points.iter().enumerate() {
        let recipe = &each.recipe;
        let stages: Vec<_> = recipe.stages().cloned().collect();
        let embedded = recipe.model.path == EMBEDDED;
        let settings = &recipe.settings;
        let beside = [(settings.undefended, UNDEFENDED), (settings.baseline, BASELINE)];
        for (_, defense) in beside.into_iter().filter(|(asked, _)| *asked && source.is_none()) {
            let stages = baseline(&stages, defense, embedded)?;
            all.push(Pipeline { stages, point, beside: true, suffix: "" });
        }
        let mut own = Pipeline { stages, point, beside: false, suffix: "" };
        let same = all.iter().position(|known| known.same_as(&own));
        let index = same.unwrap_or_else(|| {
            let last = own.stages.len().saturating_sub(1);
            let taken = |known: &Pipeline| {
                known.beside
                    && known.label(known.stages.len() - 1, source) == own.label(last, source)
            };
            if all.iter().any(taken) {
                own.suffix = "-custom";
            }
            all.push(own);
            all.len() - 1
        });
        tested.push(index);
    }
    Ok((all, tested))
}
