//! `vxf run`: executes an experiment and prints its comparison.

use std::path::Path;

use serde_json::{Value, json};
use vxf_recipe::Experiment;
use vxf_recipe::settings::EMBEDDED;
use vxf_report::{Doubt, samples, verdict};
use vxf_run::measure::health;
use vxf_run::notes::{self, Deviation};
use vxf_run::store::finished;
use vxf_run::{Control, Finished, Prepared, Run};

use crate::args::{HubOptions, ResumeArgs, RunArgs, RunOptions};
use crate::commands::{SCHEMA_VERSION, layers, results};
use crate::error::CommandError;
use crate::output::{print, print_json, tell};
use crate::progress::{Reporter, access};
use crate::signals;

pub(crate) fn run(args: &RunArgs) -> Result<(), CommandError> {
    let experiment = layers::recipe(args.recipe.as_deref(), &args.choices)?;
    go(experiment, &args.finding, args.output_dir.as_deref(), &args.course)
}

pub(crate) fn resume(args: &ResumeArgs) -> Result<(), CommandError> {
    let root = Run::root_of(&args.run)?;
    go(finished::experiment(&root)?, &args.finding, Some(&root), &args.course)
}

/// Executes what is missing of an experiment and prints the results.
fn go(
    experiment: Experiment,
    finding: &HubOptions,
    root: Option<&Path>,
    course: &RunOptions,
) -> Result<(), CommandError> {
    let asked = signals::watched()?;
    let data = experiment.recipe().data.clone();
    let ours = experiment.recipe().model.path == EMBEDDED;
    // Settings with several values are part of the row names.
    let varies = |key: &str| experiment.axes.iter().any(|axis| key.starts_with(&axis.key));
    let stages = experiment.points.iter().flat_map(|point| point.recipe.stages());
    let methods = stages.map(|stage| stage.label()).collect();
    let mut deviations = notes::deviations(experiment.recipe());
    deviations.retain(|deviation| !varies(&deviation.key));
    let about = About {
        deviations,
        caveats: data.config.caveats(&methods),
        full: course.full,
        // A user's own model may give harmful answers.
        open: course.log_samples || data.config.is_harmless() && ours,
    };
    let (value, asked_for) = (experiment.value(), experiment.clone());
    let prepared = Prepared::new(experiment, access(finding.offline)?)?;
    let control = Control::new(course.checkpoint_every, &asked);
    let finished = prepared.run(root, control, &Reporter::new())?;
    let root = finished.directory.root().display().to_string();
    if finished.was_finished {
        tell(&format!("{root} is finished; this is its record"));
    }
    if course.json {
        print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "experiment": root,
            "recipe": value,
            "runs": finished.records,
            "differs_from_paper": differences(&about.deviations),
            "comparisons": verdict::comparisons(&finished.layout, &finished.records),
            "doubts": health::doubts(&finished.layout, &finished.records).iter().map(Doubt::to_string).collect::<Vec<_>>(),
            "failed": finished.failures,
            "limits": about.caveats,
        }))?;
    } else {
        print(&report(&asked_for, &finished, &about)?)?;
    }
    // Print the results first, then fail if the verdict says so.
    let failed = (!finished.failures.is_empty()).then(|| {
        let again = format!("`vxf resume {root}` or the same command measures what is missing");
        CommandError::metrics(&finished.failures).hint(again)
    });
    match (health::verdict(&finished.layout, &finished.records, course.strict), failed) {
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

/// What is printed about an experiment besides its figures.
struct About {
    deviations: Vec<Deviation>,
    caveats: Vec<&'static str>,
    /// Whether all columns are in the table.
    full: bool,
    /// Whether prompts and answers may be printed.
    open: bool,
}

fn report(
    experiment: &Experiment,
    finished: &Finished,
    about: &About,
) -> Result<String, CommandError> {
    let Finished { layout, records, directory, .. } = finished;
    let mut text = results(experiment, layout, records, about.full);
    if !about.deviations.is_empty() {
        text += "\nSettings that differ from the paper (the paper's in brackets)\n\n";
        for Deviation { key, here, paper } in &about.deviations {
            text += &format!("  {key} = {} ({})\n", plain(here), plain(paper));
        }
    }
    if !about.caveats.is_empty() {
        text += "\nCaveats\n\n";
        about.caveats.iter().for_each(|caveat| text += &format!("  {caveat}\n"));
    }
    let answers =
        samples::closing(layout, about.open, &finished.overlaps, |run| directory.answers(run))?;
    if !answers.is_empty() {
        text += "\n";
        text += &answers;
    }
    text += &format!("\nAll files are in {}\n", directory.root().display());
    Ok(text)
}

/// A setting in short form: adapters by type and rank.
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
