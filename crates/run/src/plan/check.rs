//! Checks that the parts of a recipe fit together, before anything is loaded or trained.

use vxf_core::config::DefenseConfig;
use vxf_core::needs::StreamNeed;
use vxf_core::registry::ConfigError;
use vxf_core::{Error as CoreError, Trainable};
use vxf_data::{DataConfig, Purpose};
use vxf_hf::Outline;
use vxf_recipe::settings::Quantize;
use vxf_recipe::{Chosen, Experiment, Place, Recipe, StageRecipe, UsualStage};

use super::graph::{Graph, RunSpec};
use crate::{Error, Result};

/// Checks that the data has every set that stages and metrics need.
///
/// # Errors
/// Names the missing set, who needs it, and what to write.
pub(crate) fn sets(experiment: &Experiment, graph: &Graph) -> Result<()> {
    for run in &graph.runs {
        let recipe = &experiment.points[run.point].recipe;
        stage(&run.stage, recipe, run.id.ratio)?;
    }
    let metrics = experiment
        .points
        .iter()
        .flat_map(|point| point.recipe.metrics.iter().map(|metric| (&point.recipe.data, metric)));
    for (data, metric) in metrics {
        let data = &*data.config;
        let (needs, who) = (metric.config.needs(), format!("the metric `{}`", metric.name));
        for name in &needs.samples {
            need(data, Purpose::Samples, name, &who)?;
        }
        for name in &needs.prompts {
            need(data, Purpose::Prompts, name, &who)?;
        }
    }
    Ok(())
}

fn stage(stage: &StageRecipe, recipe: &Recipe, ratio: Option<f64>) -> Result<()> {
    let data = &*recipe.data.config;
    if stage.trains() {
        let who = match ratio.filter(|_| stage.is_user()) {
            Some(ratio) => format!("the harmful ratio {ratio}"),
            None => format!("the {} stage", stage.kind.to_string().replace('_', "-")),
        };
        match (stage.set.as_str(), ratio) {
            ("user", Some(ratio)) => {
                let missing = data.has_user(ratio);
                missing.map_err(|hint| Error::MissingSet { who, hint })?;
            }
            (set, _) => need(data, Purpose::Stream, set, &who)?,
        }
    }
    let members = stage
        .methods
        .iter()
        .map(|method| (format!("the defence `{}`", method.name), method.config.needs()));
    let inner =
        (format!("the perturber `{}`", stage.perturber.name), stage.perturber.config.needs());
    for (who, needs) in members.chain([inner]) {
        for stream in needs.streams.iter().filter(|stream| !stream.optional) {
            need(data, Purpose::Stream, stream.set(), &who)?;
        }
    }
    Ok(())
}

fn need(data: &dyn DataConfig, purpose: Purpose, name: &str, who: &str) -> Result<()> {
    match data.has(purpose, name) {
        true => Ok(()),
        false => {
            let hint = data.hint(purpose, name);
            Err(Error::MissingSet { who: who.to_owned(), hint })
        }
    }
}

/// Checks that the model has the sites of perturbers and the layers of adapters, and that methods that
/// need a single adapter get one.
///
/// # Errors
/// Names the missing site, or the invalid adapter setting.
pub(crate) fn model(graph: &Graph, outline: &Outline, quantize: Quantize) -> Result<()> {
    for run in &graph.runs {
        let stage = &run.stage;
        if let Some(sites) = stage.perturber.config.sites() {
            sites.resolve(outline.architecture.layers)?;
        }
        trainable(run, quantize)?;
        streams(stage)?;
        if !stage.trains() || stage.training.continue_adapter {
            continue;
        }
        outline.parameters(&stage.training.trainable).map_err(|error| match error {
            CoreError::Config(problem) => {
                let section = UsualStage::of(stage.kind).training;
                let key = format!("{section}.trainable.{}", problem.key);
                setting(ConfigError { key, ..problem })
            }
            other => Error::Core(other),
        })?;
    }
    Ok(())
}

/// Checks that what a stage trains suits its methods and the base.
fn trainable(run: &RunSpec, quantize: Quantize) -> Result<()> {
    let RunSpec { stage, parent, .. } = run;
    let training = &stage.training;
    let full = training.trainable == Trainable::Full;
    if training.continue_adapter && full && stage.trains() {
        let key = format!("{}.continue_adapter", UsualStage::of(stage.kind).training);
        let rule = "must be false where all weights were trained before: there is no adapter to train further";
        return Err(setting(ConfigError { key, rule: rule.to_owned(), found: "true".to_owned() }));
    }
    let own = || serde_json::to_string(&training.trainable).unwrap_or_default();
    let wrong = |rule: String, found: String| {
        let key = format!("{}.trainable", UsualStage::of(stage.kind).training);
        Err(setting(ConfigError { key, rule, found }))
    };
    let one = matches!(training.trainable, Trainable::Lora(_))
        && (parent.is_none() || training.continue_adapter);
    let single = stage.methods.iter().find(|method| method.config.needs_single_adapter());
    if let Some(method) = single.filter(|_| !one) {
        let rule = format!(
            "must train one adapter through all stages for `{}`: `trainable = \"lora\"`, and \
             `continue_adapter = true` in later stages",
            method.name
        );
        return wrong(rule, own());
    }
    let whole = stage.methods.iter().find(|method| method.config.needs_full_weights());
    if let Some(method) = whole.filter(|_| training.trainable != Trainable::Full) {
        let further = match training.continue_adapter {
            true => "; with `continue_adapter` it is the adapter of the stage before",
            false => "",
        };
        let name = method.name;
        let rule = format!("must be \"full\" for `{name}`: an adapter cannot carry it{further}");
        return wrong(rule, own());
    }
    if quantize != Quantize::None && full && (stage.trains() || whole.is_some()) {
        let rule =
            "must be \"lora\": with `model.quantize` the matrices of few bits stay as they are";
        return wrong(rule.to_owned(), "full".to_owned());
    }
    Ok(())
}

/// Checks that methods which read one stream mean the same samples and batches by it.
fn streams(stage: &StageRecipe) -> Result<()> {
    let of = |method: &Chosen<dyn DefenseConfig>| (method.name, method.config.needs());
    let inner = (stage.perturber.name, stage.perturber.config.needs());
    let needs: Vec<_> = stage.methods.iter().map(of).chain([inner]).collect();
    // Who names no size takes any: filters read single samples.
    let alike = |one: &StreamNeed, other: &StreamNeed| {
        let sizes = one.batch_size.zip(other.batch_size);
        (one.set(), one.first) == (other.set(), other.first) && sizes.is_none_or(|(a, b)| a == b)
    };
    for (index, (method, own)) in needs.iter().enumerate() {
        for (earlier, others) in &needs[..index] {
            let differs = |need: &&StreamNeed| {
                let mut others = others.streams.iter();
                others.any(|other| other.name == need.name && !alike(other, need))
            };
            if let Some(need) = own.streams.iter().find(differs) {
                let rule = format!(
                    "must be methods that go together: `{earlier}` and `{method}` need different samples, or batches \
                     of different sizes, from the stream `{}`",
                    need.name
                );
                let key = UsualStage::of(stage.kind).defense.to_owned();
                return Err(setting(ConfigError { key, rule, found: stage.label() }));
            }
        }
    }
    Ok(())
}

fn setting(problem: ConfigError) -> Error {
    let problem = Box::new(problem);
    vxf_recipe::Error::Setting { place: Place::Default, problem }.into()
}
