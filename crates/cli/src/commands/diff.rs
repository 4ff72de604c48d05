//! `vxf diff RECIPE RUN`: all differences between a run and a recipe.

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
    /// The recipe.
    pub(crate) recipe: PathBuf,
    /// An experiment, or a run of it.
    pub(crate) run: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &DiffArgs) -> Result<(), CommandError> {
    let recipe = Experiment::of(vxf_recipe::file::read(&args.recipe)?)?;
    let root = Run::root_of(&args.run)?;
    let found = of_experiment(&recipe, &root)?;
    if args.json {
        return print_json(&json!({
            "schema_version": SCHEMA_VERSION,
            "settings": found.settings,
            "facts": found.facts,
        }));
    }
    let (run, recipe) = (args.run.display(), args.recipe.display());
    if found.settings.is_empty() && found.facts.is_empty() {
        return print(&format!("{run} agrees with {recipe} in every setting\n"));
    }
    let mut text = format!("{run} differs from {recipe} (the recipe's in brackets)\n\n");
    for Difference { key, first, second } in &found.settings {
        let (recipe, run) = (Difference::show(first.as_ref()), Difference::show(second.as_ref()));
        text += &format!("  {key} = {run} ({recipe})\n");
    }
    for fact in &found.facts {
        text += &format!("  {fact}\n");
    }
    print(&text)
}
