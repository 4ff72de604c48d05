//! Times training steps and generation on random models; prints one JSON object per line.
//!
//! `tools/bench.py` runs this beside the same work in PyTorch. Shapes: `nano` (the embedded model,
//! sequence 32, batch 8), `S` (hidden 256, 6 layers, vocabulary 4096, sequence 128, batch 8), `M`
//! (hidden 768, 12 layers, vocabulary 32000, sequence 256, batch 4), `135M` (SmolLM2-135M, sequence 256,
//! batch 8), `7B` (Llama-2-7B, sequence 200, batch 5; give its weights with `--checkpoint`). With `--real`
//! samples have the lengths of `tools/lengths.txt`, or of a file of yours (shape R).
//! `tools/cuda/gpu.py` runs it on a GPU.

mod generate;
mod probes;
mod products;
mod size;
mod train;

use std::path::PathBuf;
use std::process::ExitCode;

use candle_core::Device;
use clap::{Parser, ValueEnum};
use vxf_access::device::device;
use vxf_core::{Error, Result};

use size::Size;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "S")]
    shape: String,
    #[arg(long, default_value = "lora")]
    train: Train,
    /// A defence: sft, vaccine, ...
    #[arg(long, default_value = "vaccine")]
    rule: String,
    #[arg(long, default_value = "none")]
    recompute: Keep,
    #[arg(long, default_value_t = 10)]
    steps: usize,
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    #[arg(long)]
    batch: Option<usize>,
    #[arg(long)]
    seq: Option<usize>,
    #[arg(long)]
    layers: Option<usize>,
    /// Samples of real lengths, two fifths of them prompt, instead of a full rectangle (shape R).
    #[arg(long)]
    real: bool,
    /// A file of lengths in tokens, separated by white space, for `--real`.
    #[arg(long, value_name = "FILE", requires = "real")]
    lengths: Option<PathBuf>,
    /// Dropout of the adapter's input.
    #[arg(long, default_value_t = 0.0)]
    dropout: f64,
    #[arg(long, default_value = "cpu")]
    device: String,
    /// f32 or bf16.
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// How the matrices of linear layers are held: none, nf4 or int8.
    #[arg(long, default_value = "none")]
    quantize: String,
    /// A model directory of the given shape, to load weights from.
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// Generates this many tokens after a prompt of 32, instead of training.
    #[arg(long, value_name = "TOKENS")]
    generate: Option<usize>,
    /// Times large matrix products instead of training.
    #[arg(long)]
    matmul: bool,
}

#[derive(Clone, Copy, ValueEnum, PartialEq)]
enum Train {
    Lora,
    Full,
}

#[derive(Clone, Copy, ValueEnum)]
enum Keep {
    None,
    Block,
}

/// The device.
fn on(args: &Args) -> Result<Device> {
    device(&args.device).map_err(|error| Error::Unsuitable(error.to_string()))
}

fn main() -> ExitCode {
    // SAFETY: there is no other thread yet.
    unsafe { vxf::prepare() };
    let args = Args::parse();
    let size = match Size::of(&args) {
        Ok(size) => size,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads).build();
    let work = || match args.generate {
        _ if args.matmul => products::matmul(&args),
        Some(tokens) => generate::generation(&args, &size, tokens),
        None => train::steps(&args, &size),
    };
    let result = match pool {
        Ok(pool) => pool.install(work),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(value) => println!("{value}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
