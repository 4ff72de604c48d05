//! `vxf doctor`: build features and available hardware.

use candle_core::Device;
use clap::Args as Group;
use serde_json::{Value, json};
use vxf_access::device::{self, Cuda};
use vxf_tensor::processor::instructions;

use crate::args::EXIT_CODES;
use crate::commands::SCHEMA_VERSION;
use crate::error::CommandError;
use crate::output::{bytes, print, print_json};

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DoctorArgs {
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<(), CommandError> {
    let found = device::found();
    match args.json {
        true => print_json(&value(&found)),
        false => print(&text(&found)),
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn value(found: &Result<Vec<Cuda>, String>) -> Value {
    let auto = device::device("auto").map(|device| device::name(&device)).ok();
    json!({
        "schema_version": SCHEMA_VERSION,
        "version": env!("CARGO_PKG_VERSION"),
        "instructions": instructions(),
        "cores": cores(),
        "memory": device::free(&Device::Cpu),
        "cuda": cfg!(feature = "cuda"),
        "devices": found.as_ref().ok(),
        "problem": found.as_ref().err(),
        "auto": auto,
    })
}

fn text(found: &Result<Vec<Cuda>, String>) -> String {
    let mut text = String::new();
    let mut line = |label: &str, what: String| text += &format!("{label:<9} {what}\n");
    line("vxf", env!("CARGO_PKG_VERSION").to_owned());
    let memory = device::free(&Device::Cpu).map_or("unknown".to_owned(), bytes);
    line("cpu", format!("{} cores, {}, {memory} of memory free", cores(), instructions()));
    match found {
        Err(problem) => line("cuda", format!("none: {problem}")),
        Ok(devices) => {
            for Cuda { device, name, capability, total, free, problem } in devices {
                let free = free.map_or("unknown".to_owned(), bytes);
                let memory = format!("{free} of {} free", bytes(*total));
                line(device, format!("{name}, compute capability {capability}, {memory}"));
                if let Some(problem) = problem {
                    line("", format!("cannot be used: {problem}"));
                }
            }
        }
    }
    if let Ok(auto) = device::device("auto") {
        line("auto", format!("--device auto takes {}", device::name(&auto)));
    }
    text
}
