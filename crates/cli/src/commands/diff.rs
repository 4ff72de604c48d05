//! `vxf diff RECIPE RUN`: all differences between a run and a recipe, in either order.

use std::path::PathBuf;

use clap::Args as Group;
use serde_json::json;
use vxf_recipe::Experiment;
use vxf_recipe::diff::Difference;
use vxf_run::Run;
use vxf_run::diff::of_experiment;

use crate::args::EXIT_CODES;
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{print, print_json};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DiffArgs {
    /// The recipe; it and the run may stand in either order.
    pub(crate) recipe: PathBuf,
    /// An experiment, or a run of it.
    pub(crate) run: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &DiffArgs) -> Result<(), CommandError> {
    // One of them is a file and the other a directory, so the order does not matter.
    let turned = args.recipe.is_dir() && args.run.is_file();
    let (recipe, run) = if turned { (&args.run, &args.recipe) } else { (&args.recipe, &args.run) };
    if recipe.is_file() && run.is_file() {
        let message = format!("{} and {} are both files", recipe.display(), run.display());
        return Err(CommandError::usage(message)
            .hint("one of them must be a run or an experiment; `vxf run RECIPE --prepare` makes an experiment and trains nothing"));
    }
    let (recipe_name, run_name) = (recipe.display(), run.display());
    let recipe = Experiment::of(vxf_recipe::file::read(recipe)?)?;
    let root = Run::root_of(run)?;
    let found = of_experiment(&recipe, &root)?;
    if args.json {
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "settings": found.settings,
            "facts": found.facts,
        }));
    }
    if found.settings.is_empty() && found.facts.is_empty() {
        return print(&format!("{run_name} agrees with {recipe_name} in every setting\n"));
    }
    let mut text = format!("{run_name} differs from {recipe_name} (the recipe's in brackets)\n\n");
    for Difference { key, first, second } in &found.settings {
        let [recipe, run] = [first, second].map(|value| short(Difference::show(value.as_ref())));
        text += &format!("  {key} = {run} ({recipe})\n");
    }
    for fact in &found.facts {
        text += &format!("  {fact}\n");
    }
    print(&text)
}

/// A value in one line; that of a recipe's axes may be longer than a screen.
fn short(value: String) -> String {
    match value.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...; `--json` has all of it", &value[..end]),
        None => value,
    }
}

/// The longest value that is shown in full, in characters.
const LONGEST: usize = 160;
