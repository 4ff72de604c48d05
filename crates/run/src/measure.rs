//! All metrics of a recipe on one model.

use std::collections::BTreeMap;

use vxf_core::config::MetricConfig;
use vxf_core::generate::{Keeper, answers};
use vxf_core::metric::{Generation, Model, Probes, View};
use vxf_core::{Error, Result};

use crate::record::{Answer, Row};
use vxf_recipe::Chosen;

/// A model to measure, and the one its user started from.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The model.
    pub model: Model<'a>,
    /// The aligned model; none if that is what is measured.
    pub aligned: Option<Model<'a>>,
}

impl<'a> Pair<'a> {
    fn view(self, probes: &'a Probes) -> View<'a> {
        let view = View::new(self.model, probes);
        match self.aligned {
            Some(aligned) => view.with_reference("aligned", aligned),
            None => view,
        }
    }
}

/// All figures of `pair`'s model, and all answers that were made for them.
///
/// At least one answer is made to each set of prompts, for the samples that a report ends with;
/// those in `kept` are judged and not made again, and what is made goes to `keeper`.
///
/// # Errors
/// Whatever a metric reports.
pub fn everything(
    pair: Pair<'_>,
    probes: &Probes,
    metrics: &[Chosen<dyn MetricConfig>],
    kept: BTreeMap<String, Vec<Generation>>,
    keeper: &dyn Keeper,
) -> Result<(Vec<Row>, Vec<Answer>)> {
    let view =
        kept.into_iter().fold(pair.view(probes).with_keeper(keeper), |view, (name, made)| {
            view.with_generations(&name, made)
        });
    let rows = take(&view, pair.aligned.is_none(), metrics.iter())?;
    let mut made = view.all_generations();
    for (probe, questions) in &probes.questions {
        if !made.contains_key(probe) {
            let first = &questions.prompts[..questions.prompts.len().min(1)];
            let most = questions.max_new_tokens;
            made.insert(probe.clone(), answers(pair.model, probe, first, most, probes, keeper)?);
        }
    }
    let answers = made.into_iter().flat_map(|(probe, generations)| {
        generations.into_iter().map(move |made| Answer {
            probe: probe.clone(),
            prompt: made.prompt.text,
            expected: made.prompt.expected,
            answer: made.answer,
        })
    });
    Ok((rows, answers.collect()))
}

/// The figures that are cheap enough to be followed during training.
///
/// # Errors
/// Whatever a metric reports.
pub fn followed(
    pair: Pair<'_>,
    probes: &Probes,
    metrics: &[Chosen<dyn MetricConfig>],
) -> Result<Vec<Row>> {
    let cheap = metrics.iter().filter(|metric| metric.config.follows_training());
    take(&pair.view(probes), false, cheap)
}

/// Nothing can be compared with an aligned model, so there a metric may lack what it needs.
fn take<'m>(
    view: &View<'_>,
    may_lack: bool,
    metrics: impl Iterator<Item = &'m Chosen<dyn MetricConfig>>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for metric in metrics {
        match metric.config.build().measure(view) {
            Ok(figures) => {
                let row = |figure| Row { metric: metric.name.to_owned(), figure };
                rows.extend(figures.into_iter().map(row));
            }
            Err(Error::MissingData { .. }) if may_lack => {}
            Err(error) => return Err(error),
        }
    }
    Ok(rows)
}
