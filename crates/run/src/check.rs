//! Rules that tie the parts of a recipe together, checked before anything is trained.

use vxf_core::config::Outline;
use vxf_core::registry::ConfigError;
use vxf_core::{Error as CoreError, Stage};

use crate::data_settings::Part;
use crate::layer::Place;
use crate::plan::Plan;
use crate::recipe::{Data, Method, Recipe};
use crate::{Error, Result};

/// Whether there are files for everything that the recipe's stages and metrics need.
///
/// # Errors
/// Names the key that is missing and who needs it.
pub(crate) fn parts(recipe: &Recipe, plan: &Plan) -> Result<()> {
    let Data::Files(files) = &recipe.data else { return Ok(()) };
    let need = |part: Part, who: String| match files.source(part) {
        Some(_) => Ok(()),
        None => Err(Error::MissingPart { part: part.key(), who }),
    };
    if plan.aligns && plan.alignments.iter().any(|each| each.method.defense.config.build().trains())
    {
        need(Part::Alignment, "the alignment stage".into())?;
    }
    for alignment in plan.alignments.iter().filter(|_| plan.aligns) {
        if let Some(who) = reader(&alignment.method, "harmful") {
            need(Part::Simulated, who)?;
        }
    }
    if recipe.settings.stages.include(Stage::FineTuning) {
        for ratio in &recipe.settings.harmful_ratios {
            if *ratio > 0.0 {
                need(Part::Harmful, format!("the harmful ratio {ratio}"))?;
            }
            if *ratio < 1.0 {
                need(Part::User, format!("the harmful ratio {ratio}"))?;
            }
        }
        if let Some(who) = reader(&recipe.fine_tuning_method, "alignment") {
            need(Part::Alignment, who)?;
        }
    }
    for metric in &recipe.metrics {
        let part = match metric.name {
            "harmful-score" => Part::HarmfulTest,
            "accuracy" => Part::TaskTest,
            "helpfulness" => Part::BenignTest,
            "alignment-loss" | "drift" => Part::Alignment,
            "perplexity" => Part::Fluency,
            _ => continue,
        };
        need(part, format!("the metric `{}`", metric.name))?;
    }
    Ok(())
}

/// Which part of the method declares that it reads `stream`, if one does.
fn reader(method: &Method, stream: &str) -> Option<String> {
    let Method { defense, perturber } = method;
    if defense.config.build().streams().contains(&stream) {
        return Some(format!("the defence `{}`", defense.name));
    }
    let reads = perturber.config.build().streams().contains(&stream);
    reads.then(|| format!("the perturber `{}`", perturber.name))
}

/// Whether the model has the sites that perturbers ask for and the layers that adapters are put on.
///
/// # Errors
/// Names the site that it has not, or the setting of the adapter.
pub(crate) fn model(recipe: &Recipe, plan: &Plan, outline: &Outline) -> Result<()> {
    let methods = plan.arms.iter().map(|arm| &arm.fine_tuning);
    for method in methods.chain([&recipe.alignment_method]) {
        if let Some(sites) = method.perturber.config.sites() {
            sites.resolve(outline.architecture.layers)?;
        }
    }
    let trains = plan.alignments.iter().any(|each| each.method.defense.config.build().trains());
    let (alignment, user) = (&recipe.alignment, &recipe.fine_tuning);
    for (section, settings, trained) in [
        ("alignment", alignment, plan.aligns && trains),
        ("fine_tuning", user, !plan.arms.is_empty() && !user.continue_adapter),
    ] {
        if !trained {
            continue;
        }
        outline.parameters(&settings.trainable).map_err(|error| match error {
            CoreError::Config(problem) => {
                let key = format!("{section}.trainable.{}", problem.key);
                let problem = Box::new(ConfigError { key, ..problem });
                Error::Setting { place: Place::Default, problem }
            }
            other => Error::Core(other),
        })?;
    }
    Ok(())
}
