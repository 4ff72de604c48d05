//! `vxf pretrain`: trains a base model of the embedded world.

use candle_core::Device;
use vxf_world::{Pretraining, pretrain, save};

use crate::args::PretrainArgs;
use crate::error::CommandError;
use crate::output::{print, tell};

pub(crate) fn run(args: &PretrainArgs) -> Result<(), CommandError> {
    let directory = &args.output_dir;
    if directory.exists() {
        let message = format!("{} exists already; nothing is overwritten", directory.display());
        return Err(CommandError::usage(message).hint("give --output-dir a new name"));
    }
    let settings = Pretraining { seed: args.seed, steps: args.steps, ..Pretraining::default() };
    let weights = pretrain(&settings, &Device::Cpu, |observation| {
        let step = observation.step + 1;
        if step % 50 == 0 || step == settings.steps {
            let loss = observation.figures.get("loss").copied().unwrap_or(f64::NAN);
            tell(&format!("step {step} of {}, loss {loss:.4}", settings.steps));
        }
        Ok(())
    })?;
    save(&weights, directory)?;
    print(&format!("{}\n", directory.display()))
}
