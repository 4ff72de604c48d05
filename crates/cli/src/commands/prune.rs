//! `vxf prune RUN`: removes weights of finished runs.

use vxf_recipe::settings::Retain;
use vxf_run::Run;
use vxf_run::store::prune;

use crate::args::PruneArgs;
use crate::error::CommandError;
use crate::output::{bytes, print};

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
