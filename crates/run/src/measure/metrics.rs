//! Measures one model with all metrics of a recipe.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use vxf_core::config::{BuildContext, MetricConfig};
use vxf_core::generate::{AnswerCache, answers};
use vxf_core::metric::{Generation, Model, Probes, View};
use vxf_core::{Error, Result};

use vxf_recipe::{Chosen, Recipe, digest};
use vxf_report::{Answer, Row};

use super::data::SeedData;
use vxf_access::file_digest;

/// A model to measure, and the aligned model it came from.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The model.
    pub model: Model<'a>,
    /// The aligned model; `None` if the measured model is the aligned one.
    pub aligned: Option<Model<'a>>,
}

impl<'a> Pair<'a> {
    fn view(self, probes: &'a Probes) -> View<'a> {
        let view = View::new(self.model, probes);
        match self.aligned {
            Some(aligned) => view.with_reference(ALIGNED, aligned),
            None => view,
        }
    }
}

const ALIGNED: &str = "aligned";

/// The result of measuring.
#[derive(Debug, Default)]
pub struct Measured {
    /// All figures.
    pub rows: Vec<Row>,
    /// All answers, generated or stored.
    pub answers: Vec<Answer>,
    /// Failures with the reason: metrics by name, and sample answers by set.
    pub failures: Vec<(String, String)>,
    /// Metrics skipped because they compare with the aligned model, which is the measured one.
    pub not_for_aligned: Vec<String>,
}

/// All figures of a model, and the answers behind them. A failed metric costs only its own figures.
///
/// At least one prompt of each set is answered, for the sample answers of a report. Answers in
/// `kept` are reused; new ones are passed to `cache`.
///
/// # Errors
/// When the process is asked to stop.
pub fn everything(
    pair: Pair<'_>,
    probes: &Probes,
    metrics: &[&Chosen<dyn MetricConfig>],
    kept: BTreeMap<String, Vec<Generation>>,
    cache: &dyn AnswerCache,
    context: &BuildContext<'_>,
) -> Result<Measured> {
    let view = kept.into_iter().fold(pair.view(probes).with_cache(cache), |view, (name, made)| {
        view.with_generations(&name, made)
    });
    let mut measured = Measured::default();
    for metric in metrics {
        take(&view, metric, pair.aligned.is_none(), context, &mut measured)?;
    }
    let mut made = view.all_generations();
    for (probe, questions) in &probes.questions {
        if made.contains_key(probe) {
            continue;
        }
        let first = &questions.prompts[..questions.prompts.len().min(1)];
        let most = questions.max_new_tokens;
        match answers(pair.model, probe, first, most, probes, cache) {
            Ok(generations) => {
                made.insert(probe.clone(), generations);
            }
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => {
                measured.failures.push((format!("answers to `{probe}`"), error.to_string()));
            }
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
    measured.answers = answers.collect();
    Ok(measured)
}

/// The figures that are cheap enough to follow during training.
///
/// # Errors
/// When the process is asked to stop.
pub fn followed(
    pair: Pair<'_>,
    probes: &Probes,
    metrics: &[Chosen<dyn MetricConfig>],
    context: &BuildContext<'_>,
) -> Result<Measured> {
    let cheap = metrics.iter().filter(|metric| metric.config.follows_training());
    during_training(pair, probes, cheap, context)
}

/// The figures of the metrics that are made of answers, on the few prompts in `probes`.
///
/// # Errors
/// When the process is asked to stop.
pub fn answered(
    pair: Pair<'_>,
    probes: &Probes,
    metrics: &[Chosen<dyn MetricConfig>],
    context: &BuildContext<'_>,
) -> Result<Measured> {
    let of_answers = metrics.iter().filter(|metric| !metric.config.needs().prompts.is_empty());
    during_training(pair, probes, of_answers, context)
}

fn during_training<'a>(
    pair: Pair<'_>,
    probes: &Probes,
    metrics: impl Iterator<Item = &'a Chosen<dyn MetricConfig>>,
    context: &BuildContext<'_>,
) -> Result<Measured> {
    let (view, mut measured) = (pair.view(probes), Measured::default());
    for metric in metrics {
        take(&view, metric, false, context, &mut measured)?;
    }
    Ok(measured)
}

/// Adds the figures of one metric, or why there are none. `of_aligned` says that the measured model is the
/// aligned one.
fn take(
    view: &View<'_>,
    metric: &Chosen<dyn MetricConfig>,
    of_aligned: bool,
    context: &BuildContext<'_>,
    measured: &mut Measured,
) -> Result<()> {
    let built = metric.config.build(context);
    match built.and_then(|built| built.measure(view)) {
        Ok(figures) => {
            let row = |figure| Row { metric: metric.name.to_owned(), figure };
            measured.rows.extend(figures.into_iter().map(row));
        }
        Err(Error::Stopped) => return Err(Error::Stopped),
        // An aligned model cannot be compared with itself.
        Err(Error::MissingReference { name, .. }) if of_aligned && name == ALIGNED => {
            measured.not_for_aligned.push(metric.name.to_owned());
        }
        Err(error) => measured.failures.push((metric.name.to_owned(), error.to_string())),
    }
    Ok(())
}

/// The metrics of `recipe`, each with a digest of everything besides the model that its figures depend
/// on: its settings, the judges, and the test data.
pub(crate) fn wanted(recipe: &Recipe, data: &SeedData) -> BTreeMap<String, String> {
    let judges: Vec<_> = recipe.judges.iter().map(|judge| by_content(judge.value())).collect();
    let each = |metric: &Chosen<dyn MetricConfig>| {
        let on = data.measured_on(&metric.config.needs());
        (metric.name.to_owned(), digest(&json!([metric.value(), judges, on])))
    };
    recipe.metrics.iter().map(each).collect()
}

/// Replaces each file path in `settings` by the digest of its content.
fn by_content(settings: Value) -> Value {
    match settings {
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (key, by_content(value))).collect())
        }
        Value::String(text) if Path::new(&text).is_absolute() && Path::new(&text).is_file() => {
            // The judge that reads the file reports an unreadable one.
            file_digest(Path::new(&text)).map_or(Value::String(text), Value::String)
        }
        // The file does not exist yet. When it does, the figures are out of date, wherever the file is.
        Value::String(text) if Path::new(&text).is_absolute() && !Path::new(&text).exists() => {
            Value::Null
        }
        other => other,
    }
}
