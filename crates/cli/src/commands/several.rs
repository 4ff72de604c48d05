//! What the commands share that execute several experiments: `search` and `durability`.

use std::path::Path;

use vxf_report::Layout;
use vxf_report::durability::Figures;
use vxf_run::{Control, Finished, Prepared};

use crate::error::CommandError;
use crate::progress::Reporter;

/// The figures by which methods are compared.
pub(crate) fn figures(layout: &Layout) -> Result<Figures, CommandError> {
    Figures::of(layout).ok_or_else(|| {
        CommandError::usage("the recipe measures no figure by which methods are compared")
            .hint("add the metric `harmful-score`")
    })
}

/// Executes one of the experiments in `place`. A metric that fails is an error here: the next experiment depends on
/// its figure.
pub(crate) fn execute(
    prepared: Prepared,
    place: &Path,
    control: Control<'_>,
    reporter: &Reporter,
) -> Result<Finished, CommandError> {
    let finished = prepared
        .run(Some(place), control, reporter)
        .map_err(|error| CommandError::from(error).of_several())?;
    match finished.failures.is_empty() {
        true => Ok(finished),
        false => Err(CommandError::metrics(&finished.failures)
            .hint("the same command measures what is missing")),
    }
}
