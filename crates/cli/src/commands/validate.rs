//! `vxf validate RECIPE`: every check that training would meet at once, and the plan.

use serde_json::{Value, json};
use vxf_core::Stage;
use vxf_run::experiment::Prepared;

use crate::args::ValidateArgs;
use crate::commands::{SCHEMA_VERSION, layers};
use crate::error::CommandError;
use crate::output::{print, print_json};

pub(crate) fn run(args: &ValidateArgs) -> Result<(), CommandError> {
    let recipe = layers::recipe(Some(&args.recipe), &args.choices)?;
    let prepared = Prepared::new(recipe)?;
    let value = plan(&prepared);
    if args.json {
        return print_json(&value);
    }
    print(&describe(&args.recipe.display().to_string(), &prepared, &value))
}

fn plan(prepared: &Prepared) -> Value {
    let Prepared { recipe, plan, data, .. } = prepared;
    let stages = recipe.settings.stages;
    let samples = data.first().map(|data| {
        json!({
            "alignment": data.alignment.examples.len(),
            "user": data.user.first().map_or(0, |set| set.examples.len()),
            "cut_short": data.alignment.truncated,
            "left_out": data.alignment.dropped,
        })
    });
    let (alignment, user) = prepared.steps(0, 0);
    let names = |stage: Stage, steps: u64| stages.include(stage).then_some(steps);
    json!({
        "schema_version": SCHEMA_VERSION,
        "valid": true,
        "stages": {
            "alignment": names(Stage::Alignment, alignment),
            "fine_tuning": names(Stage::FineTuning, user),
        },
        "samples": samples,
        "arms": plan.arms.iter().map(|arm| arm.label.as_str()).collect::<Vec<_>>(),
        "alignments": plan.alignments.iter().map(|each| each.label.as_str()).collect::<Vec<_>>(),
        "seeds": plan.seeds,
        "harmful_ratios": plan.ratios,
        "metrics": recipe.metrics.iter().map(|metric| metric.name).collect::<Vec<_>>(),
        "cells": plan.cells().iter().map(|cell| cell.path().display().to_string())
            .collect::<Vec<_>>(),
        "recipe": recipe.value(),
    })
}

fn describe(name: &str, prepared: &Prepared, value: &Value) -> String {
    let Prepared { recipe, plan, .. } = prepared;
    let mut text = format!("{name} is valid\n\n");
    let mut line = |label: &str, what: String| text += &format!("  {label:<12} {what}\n");
    let method = |method: &vxf_run::recipe::Method| match method.perturber.name {
        "none" => method.defense.name.to_owned(),
        perturber => format!("{} with perturber {perturber}", method.defense.name),
    };
    for (stage, set, used) in [
        ("alignment", "alignment", &recipe.alignment_method),
        ("fine_tuning", "user", &recipe.fine_tuning_method),
    ] {
        if let Some(steps) = value["stages"][stage].as_u64() {
            let samples = &value["samples"][set];
            line(stage, format!("{}, {samples} samples, {steps} steps", method(used)));
        }
    }
    let join = |items: Vec<String>| items.join(", ");
    line("compared", join(plan.alignments.iter().map(|each| each.label.clone()).collect()));
    line("seeds", join(plan.seeds.iter().map(u64::to_string).collect()));
    line("ratios", join(plan.ratios.iter().map(f64::to_string).collect()));
    line("metrics", join(recipe.metrics.iter().map(|each| each.name.to_owned()).collect()));
    line("cells", plan.cells().len().to_string());
    text
}
