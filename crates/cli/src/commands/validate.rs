//! `vxf validate [RECIPE]`: all checks that need no weights, the planned runs and their cost.

use std::path::PathBuf;

use clap::Args as Group;
use serde_json::{Value, json};
use vxf_recipe::Experiment;
use vxf_recipe::settings::Keep;
use vxf_run::plan::estimate::{Detectable, StageCost};
use vxf_run::{Estimate, notes};

use crate::args::RecipeOptions;
use crate::commands::{SCHEMA_VERSION, layers};
use crate::error::CommandError;
use crate::output::{bytes, print, print_json};
use crate::progress::access;

#[derive(Debug, Group)]
pub(crate) struct ValidateArgs {
    /// The recipe; without one, flags and defaults alone.
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: RecipeOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &ValidateArgs) -> Result<(), CommandError> {
    let recipe = layers::recipe(args.recipe.as_deref(), &args.choices)?;
    // Validation never downloads; it lists what the cache does not have.
    let estimate = Estimate::of(&recipe, access(true)?)?;
    if args.json {
        return print_json(&value(&recipe, &estimate));
    }
    let name =
        args.recipe.as_ref().map_or("the experiment".to_owned(), |it| it.display().to_string());
    print(&describe(&name, &recipe, &estimate))
}

fn value(experiment: &Experiment, estimate: &Estimate) -> Value {
    let (recipe, graph) = (experiment.recipe(), &estimate.graph);
    json!({
        "schema_version": SCHEMA_VERSION,
        "valid": true,
        "model": estimate.model,
        "stages": estimate.stages,
        "seconds": estimate.seconds,
        "recompute": estimate.recompute,
        "detectable": estimate.detectable,
        "absent": estimate.absent,
        "data": estimate.report,
        "rows": rows(estimate),
        "seeds": graph.layout.seeds,
        "harmful_ratios": graph.layout.ratios,
        "axes": experiment.axes.iter().map(|axis| json!({ "key": axis.key, "values": axis.values }))
            .collect::<Vec<_>>(),
        "metrics": recipe.metrics.iter().map(|metric| metric.name).collect::<Vec<_>>(),
        "judges": recipe.judges.iter().map(|judge| judge.name).collect::<Vec<_>>(),
        "runs": graph.runs.iter().map(|run| run.id.path().display().to_string())
            .collect::<Vec<_>>(),
        "recipe": experiment.value(),
    })
}

/// The rows of the last block, which are compared.
fn rows(estimate: &Estimate) -> Vec<String> {
    let last = estimate.graph.layout.blocks.last();
    last.into_iter().flat_map(|block| &block.lines).map(|line| line.name.clone()).collect()
}

fn describe(name: &str, experiment: &Experiment, estimate: &Estimate) -> String {
    let (recipe, graph) = (experiment.recipe(), &estimate.graph);
    let mut text = format!("{name} is valid\n\n");
    let mut line = |label: &str, what: String| text += &format!("  {label:<12} {what}\n");
    let model = &estimate.model;
    line(
        "model",
        format!(
            "{} ({}), {} weights, {}",
            model.name,
            model.family,
            count(model.weights as f64),
            bytes(model.bytes)
        ),
    );
    for cost in &estimate.stages {
        line(&cost.stage.to_string(), stage(cost));
    }
    let join = |items: Vec<String>| items.join(", ");
    line("recompute", recompute(estimate.recompute).to_owned());
    line("compared", join(rows(estimate)));
    line("seeds", join(graph.layout.seeds.iter().map(u64::to_string).collect()));
    line("ratios", join(graph.layout.ratios.iter().map(f64::to_string).collect()));
    line("metrics", join(recipe.metrics.iter().map(|each| each.name.to_owned()).collect()));
    line("judges", join(recipe.judges.iter().map(|each| each.name.to_owned()).collect()));
    for axis in &experiment.axes {
        let nested = axis.values.iter().any(|value| value.is_array() || value.is_object());
        let values = match nested {
            true => format!("{} values", axis.values.len()),
            false => join(axis.values.iter().map(Value::to_string).collect()),
        };
        line("axis", format!("{}: {values}", axis.key));
    }
    for name in notes::names(experiment, &graph.layout) {
        line("row", name);
    }
    line("runs", format!("{}, shared ones counted once", graph.runs.len()));
    let about = match estimate.stages.iter().all(|stage| stage.counted) {
        true => "about",
        false => "at most",
    };
    let all = duration(estimate.seconds);
    line("time", format!("{about} {all} of training on this machine for all of it"));
    if let Some(found) = estimate.detectable {
        line("could see", detectable(&found));
    }
    if !estimate.absent.is_empty() {
        text += "\nMissing inputs, so samples and tokens are upper bounds from the recipe\n\n";
        for absent in &estimate.absent {
            text += &format!("  {absent}\n");
        }
    }
    if let Some(report) = &estimate.report {
        text += &format!("\n{report}");
    }
    text
}

/// The smallest difference that the design could see.
fn detectable(found: &Detectable) -> String {
    let Detectable { seeds, prompts, by_prompts, by_seeds } = found;
    let of = match by_seeds {
        None => format!(
            "{by_prompts:.0} points on these prompts; with one seed nothing is known of others"
        ),
        Some([steady, unsteady]) => format!(
            "{steady:.0} points if a seed's difference varies by 10 (one standard deviation), \
             {unsteady:.0} if by 20; {by_prompts:.0} by prompts alone"
        ),
    };
    let seeds = if *seeds == 1 { "1 seed".to_owned() } else { format!("{seeds} seeds") };
    format!("a difference in harmful score from {of} ({seeds}, {prompts} prompts each)")
}

fn recompute(keep: Keep) -> &'static str {
    match keep {
        Keep::None => "none: there is enough memory to keep the whole forward pass",
        Keep::Block => "block: each block's forward is computed twice, to save memory",
        Keep::Auto => "auto",
    }
}

fn stage(cost: &StageCost) -> String {
    let (most, about) = if cost.counted { ("", "about") } else { ("at most ", "at most") };
    format!(
        "{}, {} samples, {} steps, {most}{} tokens, {} weights trained, {about} {}, {about} {}",
        cost.method,
        cost.samples,
        cost.steps,
        count(cost.tokens as f64),
        count(cost.trainable as f64),
        bytes(cost.bytes),
        duration(cost.seconds),
    )
}

fn count(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.2} billion", v / 1e9),
        v if v >= 1e6 => format!("{:.2} million", v / 1e6),
        v => v.to_string(),
    }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 2.0 * 86_400.0 => format!("{:.1} days", s / 86_400.0),
        s if s >= 2.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s if s >= 120.0 => format!("{:.0} min", s / 60.0),
        s => format!("{s:.0} s"),
    }
}
