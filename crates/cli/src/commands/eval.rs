//! `vxf eval TARGET`: a model measured, or a finished run measured again.

use std::path::Path;

use serde_json::{Value, json};
use vxf_core::Stage;
use vxf_run::access::{Access, check_target};
use vxf_run::evaluate::{Evaluation, of_model, of_run};
use vxf_run::finished::{self, Run};
use vxf_run::grid::Grid;
use vxf_run::layer::Layer;
use vxf_run::plan::Plan;
use vxf_run::recipe::Recipe;
use vxf_run::record::{Answer, Row};
use vxf_run::{recipe_file, table};

use crate::args::{Choices, EvalArgs};
use crate::commands::{SCHEMA_VERSION, layers};
use crate::error::CommandError;
use crate::output::{print, print_json, tell};
use crate::progress::access;

pub(crate) fn run(args: &EvalArgs) -> Result<(), CommandError> {
    if let Some(path) = args.generations.as_deref().filter(|path| path.exists()) {
        let message = format!("{}: exists; nothing is ever overwritten", path.display());
        return Err(CommandError::usage(message));
    }
    let access = access(args.finding.offline)?;
    let path = Path::new(&args.target);
    if Run::is_run(path) && !path.join("result.json").is_file() {
        return experiment(args, path, &access);
    }
    let (value, rows, answers) = match Run::is_run(path) {
        true => {
            let run = Run::open(path)?;
            let recipe = recipe(args, run.layer()?, None)?;
            let Evaluation { rows, answers, kept } = of_run(&run, &recipe, &access, args.anew)?;
            judged_again(&kept);
            (recipe.value(), rows, answers)
        }
        false => {
            check_target(&args.target)?;
            let file = args.recipe.as_deref().map(recipe_file::read).transpose()?;
            let recipe = recipe(args, file.unwrap_or_default(), Some(&args.target))?;
            let measured = of_model(&recipe, &access).map_err(CommandError::from);
            let Evaluation { rows, answers, .. } = match args.recipe {
                Some(_) => measured?,
                None => measured.map_err(|error| {
                    error.hint("`--recipe RECIPE` says on which data of your own to measure")
                })?,
            };
            (recipe.value(), rows, answers)
        }
    };
    write(args, &[(args.target.clone(), answers)])?;
    if args.json {
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "target": args.target,
            "recipe": value,
            "measurements": rows,
        }));
    }
    print(&format!("{}\n\n{}", args.target, figures(&rows)))
}

/// All finished cells of an experiment, in the table that its run ended with.
fn experiment(args: &EvalArgs, path: &Path, access: &Access) -> Result<(), CommandError> {
    let root = Run::root_of(path)?;
    let own = finished::recipe(&root)?;
    let recipe = recipe(args, finished::layer(&root)?, None)?;
    let plan = Plan::of(&own)?;
    let (mut records, mut all) = (Vec::new(), Vec::new());
    for cell in plan.cells() {
        let place = root.join(cell.path());
        if !place.is_dir() {
            tell(&format!("{cell} is not done"));
            continue;
        }
        let mut run = Run::open(&place)?;
        let Evaluation { rows, answers, kept } = of_run(&run, &recipe, access, args.anew)?;
        if records.is_empty() {
            judged_again(&kept);
        }
        run.record.measurements = rows;
        records.push(run.record);
        all.push((cell.path().display().to_string(), answers));
    }
    write(args, &all)?;
    if args.json {
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "target": args.target,
            "recipe": recipe.value(),
            "cells": records,
        }));
    }
    let mut text = table::comparison(&plan, &records);
    if let Some(last) = records.iter().rev().find(|record| record.stage == Stage::FineTuning) {
        text += &format!("\n{}, in full\n\n{}", last.cell(), figures(&last.measurements));
    }
    print(&text)
}

fn judged_again(kept: &[String]) {
    if !kept.is_empty() {
        let kept = kept.join(", ");
        tell(&format!("kept answers are measured as they are ({kept}); `--anew` makes new ones"));
    }
}

fn recipe(args: &EvalArgs, below: Layer, model: Option<&str>) -> Result<Recipe, CommandError> {
    let mut set = args.set.clone();
    if !args.metric.is_empty() {
        set.push(format!("metrics={}", json!(args.metric)));
    }
    let choices = Choices {
        judge: args.judge.clone(),
        device: args.device.clone(),
        model: model.map(str::to_owned),
        set,
        ..Choices::default()
    };
    layers::upon(below, &choices)
}

/// Every figure with its interval and what it is made of.
fn figures(rows: &[Row]) -> String {
    let mut grid = Grid::new(["figure", "value", "95 % interval", "n"].map(str::to_owned));
    let mut remarks = Vec::new();
    for row in rows {
        let figure = &row.figure;
        let value =
            row.value().map_or("-".to_owned(), |value| format!("{value:.3} {}", figure.unit));
        let interval = figure.interval.map(|[low, high]| format!("{low:.1} to {high:.1}"));
        let interval = interval.unwrap_or_default();
        grid.row([figure.name.clone(), value, interval, figure.n.to_string()]);
        for (key, detail) in &figure.details {
            if let Value::String(text) = detail {
                remarks.push(format!("  {} {key}: {text}\n", figure.name));
            }
        }
    }
    let remarks: String = remarks.into_iter().collect();
    match remarks.is_empty() {
        true => grid.render(),
        false => format!("{}\n{remarks}", grid.render()),
    }
}

/// Writes all answers as JSON lines, for judges elsewhere.
fn write(args: &EvalArgs, all: &[(String, Vec<Answer>)]) -> Result<(), CommandError> {
    let Some(path) = &args.generations else { return Ok(()) };
    let mut text = String::new();
    for (target, answers) in all {
        for answer in answers {
            let mut value = json!(answer);
            value["target"] = json!(target);
            text += &format!("{value}\n");
        }
    }
    std::fs::write(path, text)
        .map_err(|error| CommandError::failed(format!("cannot write {}: {error}", path.display())))
}
