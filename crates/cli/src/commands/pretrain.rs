//! `vxf pretrain`: trains a base model of the embedded world.

use std::path::PathBuf;

use candle_core::Device;
use clap::Args as Group;
use vxf_world::{Pretraining, pretrain, save};

use crate::args::EXIT_CODES;
use crate::error::CommandError;
use crate::output::{print, tell};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct PretrainArgs {
    /// Seed of data, order and initial weights; the default made the shipped model.
    #[arg(long, value_name = "SEED", default_value_t = vxf_world::Pretraining::default().seed)]
    pub(crate) seed: u64,
    /// Optimiser steps.
    #[arg(long, value_name = "N", default_value_t = vxf_world::Pretraining::default().steps,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    /// Output directory for the model; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
}

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
