//! `vxf run`: the experiment, and its comparison.

use std::path::Path;

use serde_json::{Value, json};
use vxf_run::control::Control;
use vxf_run::experiment::{Experiment, Prepared};
use vxf_run::finished::{self, Run};
use vxf_run::notes::{self, Deviation};
use vxf_run::recipe::Recipe;
use vxf_run::{detail, health, samples, table};

use crate::args::{Course, Finding, ResumeArgs, RunArgs};
use crate::commands::{SCHEMA_VERSION, layers, shown};
use crate::error::CommandError;
use crate::output::{print, print_json, tell};
use crate::progress::{Teller, access};
use crate::signals;

pub(crate) fn run(args: &RunArgs) -> Result<(), CommandError> {
    let recipe = layers::recipe(args.recipe.as_deref(), &args.choices)?;
    go(recipe, &args.finding, args.output_dir.as_deref(), &args.course)
}

pub(crate) fn resume(args: &ResumeArgs) -> Result<(), CommandError> {
    let root = Run::root_of(&args.run)?;
    let recipe = finished::recipe(&root)?;
    go(recipe, &args.finding, Some(&root), &args.course)
}

/// Does what is left of an experiment, and prints all of it.
fn go(
    recipe: Recipe,
    finding: &Finding,
    root: Option<&Path>,
    course: &Course,
) -> Result<(), CommandError> {
    let asked = signals::watched()?;
    let deviations = notes::deviations(&recipe);
    let value = recipe.value();
    let shown = shown(&recipe);
    let prepared = Prepared::new(recipe, access(finding.offline)?)?;
    let control = Control::new(course.checkpoint_every, &asked);
    let experiment = prepared.run(root, control, &Teller::new())?;
    let root = experiment.directory.root().display().to_string();
    if experiment.was_finished {
        tell(&format!("{root} is finished; this is its record"));
    }
    if course.json {
        print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "experiment": root,
            "recipe": value,
            "cells": experiment.records,
            "differs_from_paper": differences(&deviations),
            "doubts": health::doubts(&experiment.records),
            "failed": experiment.failures,
            "limits": if experiment.embedded { json!(notes::LIMITS) } else { json!([]) },
        }))?;
    } else {
        print(&report(&experiment, &shown, &deviations, course.log_samples)?)?;
    }
    // Last, so that what was measured is told whatever is thought of it.
    let failed = (!experiment.failures.is_empty()).then(|| {
        let again = format!("`vxf resume {root}` or the same command measures what is missing");
        CommandError::metrics(&experiment.failures).hint(again)
    });
    match (health::verdict(&experiment.plan, &experiment.records, course.strict), failed) {
        (Ok(()), None) => Ok(()),
        (Ok(()), Some(failed)) => Err(failed),
        (Err(doubtful), failed) => {
            if let Some(failed) = failed {
                tell(&failed.to_string());
            }
            Err(doubtful.into())
        }
    }
}

fn report(
    experiment: &Experiment,
    shown: &[String],
    deviations: &[Deviation],
    log_samples: bool,
) -> Result<String, CommandError> {
    let Experiment { plan, records, .. } = experiment;
    let mut text = table::comparison(plan, records);
    for metric in shown {
        text = text.trim_end().to_owned() + "\n\n" + &detail::of_metric(plan, records, metric);
    }
    text = text.trim_end().to_owned() + "\n";
    let doubts = health::doubts(records);
    if !doubts.is_empty() {
        text += "\nAttacks in doubt\n\n";
        doubts.iter().for_each(|doubt| text += &format!("  {doubt}\n"));
    }
    if !deviations.is_empty() {
        text += "\nSettings of this world that are not the paper's (the paper's in brackets)\n\n";
        for Deviation { key, here, paper } in deviations {
            text += &format!("  {key} = {} ({})\n", plain(here), plain(paper));
        }
    }
    if experiment.embedded {
        text += "\nWhat to keep in mind\n\n";
        for limit in notes::LIMITS {
            text += &format!("  {limit}\n");
        }
    }
    let answers = samples::closing(experiment, experiment.embedded || log_samples)?;
    if !answers.is_empty() {
        text += "\n";
        text += &answers;
    }
    text += &format!("\nEverything is in {}\n", experiment.directory.root().display());
    Ok(text)
}

/// A setting as one would say it: adapters by type and size.
fn plain(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let part = |(key, value): (&String, &Value)| match key.as_str() {
                "type" => plain(value),
                key => format!("{key} {}", plain(value)),
            };
            map.iter().map(part).collect::<Vec<_>>().join(", ")
        }
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(value) if value.abs() >= 1e6 || (value != 0.0 && value.abs() < 1e-3) => {
                format!("{value:e}")
            }
            Some(value) => value.to_string(),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn differences(deviations: &[Deviation]) -> Value {
    let each = |Deviation { key, here, paper }: &Deviation| json!({ "key": key, "here": here, "paper": paper });
    deviations.iter().map(each).collect()
}
