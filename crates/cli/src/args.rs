//! What can be typed.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use vxf_run::Every;

/// Defences against harmful fine-tuning: train, attack, compare.
#[derive(Debug, Parser)]
#[command(name = "vxf", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the run failed: a damaged model, a directory that cannot be written, a loss that is not finite
  2  invalid command line or recipe
  75 interrupted, everything kept: `vxf resume` continues";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Align, let a user fine-tune with harmful samples mixed in, and compare.
    Run(RunArgs),
    /// Continue an experiment that was stopped or killed, to the bit.
    Resume(ResumeArgs),
    /// List what is registered.
    List(ListArgs),
    /// Show one method: summary, paper, stages, settings, an example recipe.
    Show(ShowArgs),
    /// Check a recipe and print what it would do and cost; loads no weights, trains nothing.
    Validate(ValidateArgs),
    /// List every deviation of a run from a recipe.
    Diff(DiffArgs),
    /// Measure a model, or a finished run again with other judges or metrics.
    Eval(EvalArgs),
    /// Check a finished experiment or run: every digest, every parent, every figure again.
    Verify(VerifyArgs),
    /// Look at a model's answers.
    Generate(GenerateArgs),
    /// Take a run's model away: merged as a model directory, or as PEFT adapters.
    Export(ExportArgs),
    /// List the runs of an experiment, or tell of one run what it is and where it came from.
    Runs(RunsArgs),
    /// Remove weights of finished runs to save disk; records stay.
    Prune(PruneArgs),
    /// Replay recorded steps of the reference trainer and compare every number.
    Parity(ParityArgs),
    /// Make a base model of the embedded world, as the shipped one was made.
    Pretrain(PretrainArgs),
    /// Tell what this program was built with and what this machine has for it.
    Doctor(DoctorArgs),
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DoctorArgs {
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ParityArgs {
    /// A folder of recordings: manifest.json and a directory for each model.
    pub(crate) directory: PathBuf,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
    /// The type to compute in; each has its bounds.
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = ParityType::F32)]
    pub(crate) dtype: ParityType,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The types for which bounds are stated.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ParityType {
    F32,
    F64,
    Bf16,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct PretrainArgs {
    /// Seed of data, order and starting weights; the default made the shipped model.
    #[arg(long, value_name = "SEED", default_value_t = vxf_world::Pretraining::default().seed)]
    pub(crate) seed: u64,
    /// Optimiser steps.
    #[arg(long, value_name = "N", default_value_t = vxf_world::Pretraining::default().steps,
        value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) steps: u64,
    /// The model directory to make; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunArgs {
    /// A recipe; flags win over it, and `--set` over both.
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: Choices,
    #[command(flatten)]
    pub(crate) finding: Finding,
    /// Where results go [default: runs/<defense>-<task>-<digest>]; never overwritten.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) course: Course,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ResumeArgs {
    /// The experiment, or a run of it.
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) finding: Finding,
    #[command(flatten)]
    pub(crate) course: Course,
}

/// How a run is kept and shown; no figure depends on it.
#[derive(Debug, Group)]
pub(crate) struct Course {
    /// Save a training stage every so many steps, such as 200, or so often, such as 90s, 10m or 2h.
    #[arg(long, value_name = "STEPS|TIME", default_value = "10m")]
    pub(crate) checkpoint_every: Every,
    /// Print a few prompts and answers of a model of your own; all are always kept in files.
    #[arg(long)]
    pub(crate) log_samples: bool,
    /// Show every column and the standard deviations, not the standard table alone.
    #[arg(long)]
    pub(crate) full: bool,
    /// Fail if any run is in doubt: an attack that did not learn, a model that is destroyed.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print one JSON value with every run's figures.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DiffArgs {
    /// The recipe.
    pub(crate) recipe: PathBuf,
    /// An experiment, or a run of one.
    pub(crate) run: PathBuf,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How models and data are found.
#[derive(Debug, Default, Group)]
pub(crate) struct Finding {
    /// Refuse the network: what the hub's cache does not hold is an error.
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct EvalArgs {
    /// A run, a whole experiment, a model directory, or a hub id (owner/name, or hf:owner/name).
    pub(crate) target: String,
    /// For a model: the recipe that says what to measure on; for a run its own holds.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Measure by this metric; may be repeated [default: the recipe's].
    #[arg(long, value_name = "NAME")]
    pub(crate) metric: Vec<String>,
    /// Judge by this judge; may be repeated, the first gives the plain names [default: the
    /// recipe's].
    #[arg(long, value_name = "NAME")]
    pub(crate) judge: Vec<String>,
    /// Any setting of a recipe, such as data.harmful_test.take=100; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
    /// How data of your own is put to the model: alpaca, chat, plain or auto [default: as the run or
    /// the recipe says, else auto: the model's own chat template, or alpaca where it has none].
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) template: Option<String>,
    /// Make all answers anew; those that a run has kept are judged as they are otherwise.
    #[arg(long)]
    pub(crate) anew: bool,
    /// Show every column of an experiment's table, not the standard ones alone.
    #[arg(long)]
    pub(crate) full: bool,
    /// Write every answer here as JSON lines; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub(crate) generations: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) finding: Finding,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct VerifyArgs {
    /// An experiment, or a run of it.
    pub(crate) path: PathBuf,
    /// Check the records alone: open no model and measure nothing again.
    #[arg(long)]
    pub(crate) records_only: bool,
    #[command(flatten)]
    pub(crate) finding: Finding,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct GenerateArgs {
    /// A run, a model directory, a hub id (owner/name, or hf:owner/name), or `embedded`.
    pub(crate) target: String,
    /// What to ask; may be repeated.
    #[arg(long, short, value_name = "TEXT", required = true)]
    pub(crate) prompt: Vec<String>,
    /// How it is put: auto, alpaca, chat, plain or world [default: as the run was trained, else auto: the
    /// model's own chat template, alpaca where it has none].
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) template: Option<String>,
    /// Longest answer in tokens.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_new_tokens: usize,
    /// Draw at this temperature; 0 takes the likeliest token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f64,
    /// Draw from the likeliest tokens that make up this probability.
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Draw from so many of the likeliest tokens.
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Seed of the draws.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// The type to compute in: f32, f64, bf16 or f16.
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// Where to compute: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) finding: Finding,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES, group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct ExportArgs {
    /// The run, or an experiment in which only one can be meant.
    pub(crate) run: PathBuf,
    /// A model directory with all adapters merged, in the type that the base is stored in.
    #[arg(long, group = "what")]
    pub(crate) merged: bool,
    /// The adapters in PEFT's layout; two stages give two, to be merged in order.
    #[arg(long, group = "what")]
    pub(crate) adapter: bool,
    /// The directory to make; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    #[command(flatten)]
    pub(crate) finding: Finding,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
pub(crate) struct ValidateArgs {
    /// The recipe.
    pub(crate) recipe: PathBuf,
    #[command(flatten)]
    pub(crate) choices: Choices,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What a recipe can say, as flags.
#[derive(Debug, Default, Group)]
pub(crate) struct Choices {
    /// The alignment defence under test [default: vaccine]. `a,b` compares several, `a+b` composes them
    /// within the stage; so do the other flags for methods.
    #[arg(long, value_name = "NAME")]
    pub(crate) defense: Option<String>,
    /// The inner player, in place of the defence's own.
    #[arg(long, value_name = "NAME")]
    pub(crate) perturber: Option<String>,
    /// The defence in the user's stage [default: sft].
    #[arg(long, value_name = "NAME")]
    pub(crate) fine_tune_defense: Option<String>,
    /// A method that edits or repairs the model after the user's stage [default: none].
    #[arg(long, value_name = "NAME")]
    pub(crate) post_tune_defense: Option<String>,
    /// A further metric: in the table with all its columns, and in full after it; may be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) metric: Vec<String>,
    /// Who decides what is harmful; may be repeated, the first gives the plain names.
    #[arg(long, value_name = "NAME")]
    pub(crate) judge: Vec<String>,
    /// Draw so many answers to each prompt, at temperature 1 unless `sampling.temperature` is set, in
    /// place of one greedy answer.
    #[arg(long, value_name = "K")]
    pub(crate) samples_per_prompt: Option<usize>,
    /// A model directory in the Hugging Face layout, or a hub id (owner/name, or hf:owner/name)
    /// [default: the embedded model].
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) model: Option<String>,
    /// The type to compute in, whatever the model is stored in: f32, f64, bf16 or f16.
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// The user's task: sst2, agnews or gsm8k [default: sst2].
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
    /// Shares of harmful samples in the user's data, such as 0,0.1,0.2; may be repeated.
    #[arg(
        long,
        value_name = "P",
        visible_alias = "poison-ratio",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) harmful_ratio: Vec<f64>,
    /// Seeds, such as 1,2,3; may be repeated.
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    pub(crate) seed: Vec<u64>,
    /// The perturber's radius, such as 2; 1,3,5 runs all of them.
    #[arg(long, value_name = "RHO", value_delimiter = ',', allow_negative_numbers = true)]
    pub(crate) rho: Vec<f64>,
    /// Do one stage alone.
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<OneStage>,
    /// Start from this run: the user's stage from EXPERIMENT/<defense>/aligned/<seed>, post-tuning from
    /// EXPERIMENT/<defense>/<ratio>/<seed>.
    #[arg(long, value_name = "RUN")]
    pub(crate) from: Option<PathBuf>,
    /// Measure drift and alignment loss every so many steps of the user's stage.
    #[arg(long, value_name = "STEPS")]
    pub(crate) eval_every: Option<u64>,
    /// Where to compute: auto, cpu, cuda or cuda:N [default: cpu].
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Worker threads [default: all cores]; figures do not depend on it.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// What the backward pass computes again: none, block (slower, far less memory), or auto, by
    /// the memory there is [default: auto]; figures do not depend on it.
    #[arg(long, value_name = "WHAT")]
    pub(crate) recompute: Option<String>,
    /// Leave out rows of data files that cannot be read, and count them.
    #[arg(long)]
    pub(crate) skip_bad_rows: bool,
    /// Leave out plain fine-tuning beside the defence.
    #[arg(long)]
    pub(crate) no_baseline: bool,
    /// Leave out the model that was never aligned.
    #[arg(long)]
    pub(crate) no_undefended: bool,
    /// What is kept on disk of runs that are done: weights, adapters or none [default: weights].
    #[arg(long, value_name = "WHAT")]
    pub(crate) keep: Option<String>,
    /// Any setting of a recipe, such as world.user_samples=100; `KEY=a,b` runs all values. May be
    /// repeated.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunsArgs {
    /// An experiment, a run of it, or a directory of experiments.
    pub(crate) path: PathBuf,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct PruneArgs {
    /// A finished experiment, or one run of it.
    pub(crate) path: PathBuf,
    /// What to keep: adapters (full weights are removed), or none.
    #[arg(long, value_name = "WHAT")]
    pub(crate) keep: String,
}

/// One stage of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OneStage {
    /// Align and measure.
    Alignment,
    /// The user's fine-tuning, from an aligned run.
    #[value(name = "fine_tuning", alias = "fine-tuning")]
    FineTuning,
    /// An edit or a repair of a model that a user has fine-tuned.
    #[value(name = "post_tuning", alias = "post-tuning")]
    PostTuning,
}

#[derive(Debug, Group)]
pub(crate) struct ListArgs {
    /// One kind alone.
    pub(crate) kind: Option<ListKind>,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A kind of plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListKind {
    /// Outer players: published methods.
    Defenses,
    /// Inner players.
    Perturbers,
    /// Measures.
    Metrics,
    /// Model families.
    Backbones,
    /// What decides whether an answer is harmful.
    Judges,
    /// Where samples come from.
    Sources,
}

#[derive(Debug, Group)]
pub(crate) struct ShowArgs {
    /// A registered name.
    pub(crate) name: String,
    /// Print one JSON value.
    #[arg(long)]
    pub(crate) json: bool,
}
