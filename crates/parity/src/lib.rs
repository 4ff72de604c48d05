//! Replays recorded steps of the reference trainer and compares every number.
//!
//! A folder of recordings has tiny checkpoints, a batch for each, base logits, and runs: losses,
//! norms and rates of each step, and whole tensors of some steps. Each run is trained again with
//! the loop, defences and perturbers that users get, and every recorded number is compared with
//! ours.

mod bounds;
mod recording;
mod replay;
mod report;

use std::path::Path;

use candle_core::Device;
use vxf_core::{Error, Result};

pub use bounds::Bounds;
pub use report::{Bound, Quantity, Report};

/// Replays everything recorded in the folder `path`, in the bounds' type.
///
/// # Errors
/// When the folder or a file in it cannot be read. Deviations are not errors but part of the
/// report, which also lists families that cannot be loaded.
pub fn compare(path: &Path, device: &Device, bounds: &Bounds) -> Result<Report> {
    let mut report = Report::new(*bounds);
    for directory in recording::models(path)? {
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let backbone = match vxf_hf::load_directory(&directory, bounds.dtype, device) {
            Ok(backbone) => backbone,
            Err(error @ Error::Unsupported { .. }) => {
                report.skip(&name, error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        let model = recording::Model::read(&directory, device)?;
        replay::logits(&name, &*backbone, &model, &mut report)?;
        for run in model.runs()? {
            replay::run(&name, &*backbone, &model, &run, &mut report)?;
        }
    }
    Ok(report)
}
