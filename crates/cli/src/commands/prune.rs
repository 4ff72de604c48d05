//! `vxf prune RUN`: removes weights of finished runs.

use std::path::PathBuf;

use clap::Args as Group;
use vxf_recipe::settings::Retain;
use vxf_run::Run;
use vxf_run::store::prune;

use crate::args::EXIT_CODES;
use crate::error::CommandError;
use crate::output::{bytes, print};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct PruneArgs {
    /// A finished experiment, or one run of it.
    pub(crate) path: PathBuf,
    /// What to keep: adapters (full weights are removed), or none.
    #[arg(long, value_name = "WHAT")]
    pub(crate) keep: String,
}

pub(crate) fn run(args: &PruneArgs) -> Result<(), CommandError> {
    let keep = match args.keep.as_str() {
        "adapters" => Retain::Adapters,
        "none" => Retain::None,
        other => {
            let message = format!("--keep {other}: must be adapters or none");
            return Err(CommandError::usage(message));
        }
    };
    let freed = match Run::is_single(&args.path) {
        true => prune::run(&args.path, keep)?,
        false => prune::experiment(&Run::root_of(&args.path)?, keep)?,
    };
    print(&format!("{} freed in {}; records are kept\n", bytes(freed), args.path.display()))
}
