//! The command line's arguments.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use vxf_core::Stage;
use vxf_run::Every;

pub(crate) use crate::commands::durability::DurabilityArgs;
pub(crate) use crate::commands::executor::ExecutorOptions;
pub(crate) use crate::commands::search::SearchArgs;
pub(crate) use crate::commands::task::TaskArgs;
use crate::commands::track::TrackOptions;
use crate::output::{Level, Log};

/// Train, attack and compare defences against harmful fine-tuning.
#[derive(Debug, Parser)]
#[command(name = "vxf", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) messages: MessageOptions,
}

/// Options for messages on stderr; results are on stdout.
#[derive(Debug, Group)]
#[command(next_help_heading = "Messages")]
pub(crate) struct MessageOptions {
    /// Say only warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say when each run begins.
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Write messages as text, or as one JSON object on each line.
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = Log::Text)]
    pub(crate) log_format: Log,
}

impl MessageOptions {
    /// How much is said.
    pub(crate) fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::Quiet,
            (_, true) => Level::Verbose,
            _ => Level::Usual,
        }
    }
}

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the run failed: a damaged model, a directory that cannot be written, a loss that is not finite
  2  invalid command line or recipe
  75 interrupted, everything kept: `vxf resume` continues";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Align a model, fine-tune it on a user's data with harmful samples mixed in, and compare defences.
    Run(RunArgs),
    /// Continue an interrupted experiment from its last checkpoint.
    Resume(ResumeArgs),
    /// Do one run of an experiment, unless it is done; several processes may do so at once.
    Task(TaskArgs),
    /// Try a family of attacks on a defence, and print a card: pass or fail, with evidence.
    Durability(DurabilityArgs),
    /// Search settings of a method or an attack: random draws, the better half of them again and again.
    Search(SearchArgs),
    /// List registered plugins: defences, perturbers, metrics, judges and more.
    List(ListArgs),
    /// Show one plugin (paper, stages, settings, an example recipe), or the keys of a section of a recipe.
    Show(ShowArgs),
    /// Write a commented recipe for the model and the data that are there.
    Init(InitArgs),
    /// Check a recipe and print its runs and their cost; nothing is loaded or trained.
    Validate(ValidateArgs),
    /// List all differences between a run and a recipe.
    Diff(DiffArgs),
    /// Evaluate a model, or a finished run again with other metrics or judges.
    Eval(EvalArgs),
    /// Check a finished experiment or run: digests, parents, and every figure again.
    Verify(VerifyArgs),
    /// Print a model's answers to prompts.
    Generate(GenerateArgs),
    /// Export a run's model: merged as a model directory, or as PEFT adapters.
    Export(ExportArgs),
    /// Print again what an experiment found so far: as text, as a page, for a paper, or as data.
    Report(ReportArgs),
    /// Compare experiments or runs in one table, and name the settings that differ.
    Compare(CompareArgs),
    /// Draw curves of a run in the terminal.
    Plot(PlotArgs),
    /// List the runs of an experiment, or show the settings and figures of one run.
    Runs(RunsArgs),
    /// Remove the weights of finished runs to save disk space; records stay.
    Prune(PruneArgs),
    /// Replay recorded steps of the reference trainer and compare every number.
    Parity(ParityArgs),
    /// Train a base model of the embedded world, in the same way as the shipped one.
    Pretrain(PretrainArgs),
    /// Show what this program was built with and the hardware it can use.
    Doctor(DoctorArgs),
    /// Print completions for a shell.
    Completions(CompletionsArgs),
    /// Print the manual page, or write those of all commands into a directory.
    Man(ManArgs),
    /// Print the reference of all commands, recipe keys and plugins, as Markdown.
    Reference,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct InitArgs {
    /// The recipe to write; it must not exist yet. Data is looked for beside it: files called alignment,
    /// user, harmful, harmful_test, task_test or benign_test, ending in .jsonl, .json, .csv, .tsv or
    /// .parquet, here or in `data`.
    #[arg(default_value = "recipe.toml")]
    pub(crate) file: PathBuf,
    /// Model directory in the Hugging Face layout, or hub id [default: the embedded model].
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) model: Option<String>,
}

#[derive(Debug, Group)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: clap_complete::Shell,
}

/// Where each shell looks for completions.
const COMPLETIONS: &str = "\
For example:
  vxf completions bash > ~/.local/share/bash-completion/completions/vxf
  vxf completions zsh > ~/.zfunc/_vxf        (with `fpath+=~/.zfunc` in ~/.zshrc)
  vxf completions fish > ~/.config/fish/completions/vxf.fish";

#[derive(Debug, Group)]
pub(crate) struct ManArgs {
    /// Write vxf.1 and a page for each command into this directory, such as ~/.local/share/man/man1;
    /// existing pages are replaced.
    pub(crate) directory: Option<PathBuf>,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct DoctorArgs {
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ParityArgs {
    /// A directory of recordings: manifest.json and a directory for each model.
    pub(crate) directory: PathBuf,
    /// Computing device: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
    /// Type of weights and activations; each type has its own tolerances.
    #[arg(long, value_name = "TYPE", value_enum, default_value_t = ParityType::F32)]
    pub(crate) dtype: ParityType,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The types with stated tolerances.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ParityType {
    F32,
    F64,
    Bf16,
}

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

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunArgs {
    /// A recipe. Flags override it, and `--set` overrides both.
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: RecipeOptions,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Output directory [default: runs/<defense>-<task>-<digest>]; never overwritten.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: Option<PathBuf>,
    /// Only write the directory of the experiment and print its path; `vxf task` then does its runs.
    #[arg(long, conflicts_with_all = ["executor", "log_samples", "full", "strict", "json", "track"])]
    pub(crate) prepare: bool,
    #[command(flatten)]
    pub(crate) executor: ExecutorOptions,
    #[command(flatten)]
    pub(crate) course: RunOptions,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ResumeArgs {
    /// The experiment, or a run of it.
    pub(crate) run: PathBuf,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    #[command(flatten)]
    pub(crate) executor: ExecutorOptions,
    #[command(flatten)]
    pub(crate) course: RunOptions,
}

/// Options of execution and output; figures do not depend on them.
#[derive(Debug, Group)]
pub(crate) struct RunOptions {
    /// How often to save a checkpoint: every N steps (200) or after a time (90s, 10m, 2h).
    #[arg(long, value_name = "STEPS|TIME", default_value = "10m")]
    pub(crate) checkpoint_every: Every,
    /// Print sample prompts and answers of your own model too; all are stored in files anyway.
    #[arg(long)]
    pub(crate) log_samples: bool,
    /// Show every column of the table, not only the standard ones.
    #[arg(long)]
    pub(crate) full: bool,
    /// Fail if a run is in doubt: its fine-tuning did not lower its loss, or its model is destroyed. Also
    /// fail before training if harmful samples of defences occur in the attack.
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print the result as JSON, with every run's figures.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) track: TrackOptions,
}

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

/// Options for models and data on the hub.
#[derive(Debug, Default, Group)]
pub(crate) struct HubOptions {
    /// Do not use the network; only cached models and data are available.
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct EvalArgs {
    /// A run, a whole experiment, a model directory, or a hub id (owner/name, or hf:owner/name).
    pub(crate) target: String,
    /// The recipe with the data to measure on, for a model; a run uses its own.
    #[arg(long, value_name = "RECIPE")]
    pub(crate) recipe: Option<PathBuf>,
    /// Metric to measure; repeatable [default: the recipe's].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) metric: Vec<String>,
    /// Judge to use; repeatable, and the first one gives figures without a suffix [default: the
    /// recipe's].
    #[arg(long, value_name = "NAME")]
    pub(crate) judge: Vec<String>,
    /// Any recipe setting, such as data.harmful_test.take=100; repeatable.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
    /// Prompt template for your own data: alpaca, chat, plain or auto [default: the run's or the
    /// recipe's, else auto: the model's own chat template, or alpaca if it has none].
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) template: Option<String>,
    /// Generate all answers again; by default a run's stored answers are judged.
    #[arg(long)]
    pub(crate) anew: bool,
    /// Show every column of an experiment's table, not only the standard ones.
    #[arg(long)]
    pub(crate) full: bool,
    /// Write all answers to this file as JSON lines; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub(crate) generations: Option<PathBuf>,
    /// Computing device: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct VerifyArgs {
    /// An experiment, or a run of it.
    pub(crate) path: PathBuf,
    /// Check only the records: open no model and measure nothing again.
    #[arg(long)]
    pub(crate) records_only: bool,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct GenerateArgs {
    /// A run, a model directory, a hub id (owner/name, or hf:owner/name), or `embedded`.
    pub(crate) target: String,
    /// A prompt; repeatable.
    #[arg(long, short, value_name = "TEXT", required = true)]
    pub(crate) prompt: Vec<String>,
    /// Prompt template: auto, alpaca, chat, plain or world [default: the run's, else auto: the model's
    /// own chat template, or alpaca if it has none].
    #[arg(long, value_name = "TEMPLATE")]
    pub(crate) template: Option<String>,
    /// Maximum length of an answer in tokens.
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_new_tokens: usize,
    /// Sampling temperature; 0 takes the most likely token.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temperature: f64,
    /// Nucleus sampling: total probability of the most likely tokens to sample from.
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f64>,
    /// Top-k sampling: number of the most likely tokens to sample from.
    #[arg(long, value_name = "K")]
    pub(crate) top_k: Option<usize>,
    /// Sampling seed.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Type of weights and activations: f32, f64, bf16 or f16.
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// Computing device: auto, cpu, cuda or cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES, group = clap::ArgGroup::new("what").required(true))]
pub(crate) struct ExportArgs {
    /// A run, or an experiment with a single candidate.
    pub(crate) run: PathBuf,
    /// Export a model directory with all adapters merged, in the type in which the base is stored.
    #[arg(long, group = "what")]
    pub(crate) merged: bool,
    /// Export the adapters in PEFT's layout; two stages give two adapters, to be merged in order.
    #[arg(long, group = "what")]
    pub(crate) adapter: bool,
    /// Output directory; it must not exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) output_dir: PathBuf,
    #[command(flatten)]
    pub(crate) finding: HubOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Group)]
pub(crate) struct ValidateArgs {
    /// The recipe; without one, flags and defaults alone.
    pub(crate) recipe: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) choices: RecipeOptions,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Recipe settings that have a flag of their own.
#[derive(Debug, Default, Group)]
pub(crate) struct RecipeOptions {
    /// Alignment-stage method to test [default: vaccine]. `a,b` compares methods, `a+b` composes them
    /// within the stage; the other method flags work the same way.
    #[arg(long, value_name = "NAME")]
    pub(crate) defense: Option<String>,
    /// Perturber to use instead of the defence's own.
    #[arg(long, value_name = "NAME")]
    pub(crate) perturber: Option<String>,
    /// Method for the user's fine-tuning stage [default: sft].
    #[arg(long, value_name = "NAME")]
    pub(crate) fine_tune_defense: Option<String>,
    /// Post-tuning method, which edits or repairs the fine-tuned model [default: none].
    #[arg(long, value_name = "NAME")]
    pub(crate) post_tune_defense: Option<String>,
    /// Further metric: with all its columns in the table, and in full after it; repeatable.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) metric: Vec<String>,
    /// Judge that decides which answers are harmful; repeatable, and the first one gives figures without
    /// a suffix.
    #[arg(long, value_name = "NAME")]
    pub(crate) judge: Vec<String>,
    /// Answers to draw to each prompt, at temperature 1 unless `sampling.temperature` is set, in place of
    /// one greedy answer.
    #[arg(long, value_name = "K")]
    pub(crate) samples_per_prompt: Option<usize>,
    /// Model directory in the Hugging Face layout, or hub id (owner/name, or hf:owner/name) [default: the
    /// embedded model].
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) model: Option<String>,
    /// The model that an adapter belongs to, if `--model` is an adapter [default: the one that the
    /// adapter names].
    #[arg(long, value_name = "DIR|ID")]
    pub(crate) base: Option<String>,
    /// Type of weights and activations, whatever the stored type: f32, f64, bf16 or f16.
    #[arg(long, value_name = "TYPE")]
    pub(crate) dtype: Option<String>,
    /// The user's task: sst2, agnews or gsm8k [default: sst2].
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<String>,
    /// Shares of harmful samples in the user's data, such as 0,0.1,0.2; repeatable.
    #[arg(
        long,
        value_name = "P",
        visible_alias = "poison-ratio",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub(crate) harmful_ratio: Vec<f64>,
    /// Seeds, such as 1,2,3; repeatable.
    #[arg(long, value_name = "SEED", value_delimiter = ',')]
    pub(crate) seed: Vec<u64>,
    /// The perturber's radius, such as 2; 1,3,5 runs each value.
    #[arg(long, value_name = "RHO", value_delimiter = ',', allow_negative_numbers = true)]
    pub(crate) rho: Vec<f64>,
    /// Run only this stage: alignment, fine_tuning or post_tuning.
    #[arg(long, value_name = "STAGE")]
    pub(crate) stage: Option<Stage>,
    /// Start from this run: fine-tuning from EXPERIMENT/<defense>/aligned/<seed>, post-tuning from
    /// EXPERIMENT/<defense>/<ratio>/<seed>.
    #[arg(long, value_name = "RUN")]
    pub(crate) from: Option<PathBuf>,
    /// Measure drift and alignment loss every N steps of fine-tuning.
    #[arg(long, value_name = "STEPS")]
    pub(crate) eval_every: Option<u64>,
    /// Answer the first N prompts of each set at these measurements too, for curves of the attack's cost.
    #[arg(long, value_name = "N")]
    pub(crate) eval_prompts: Option<usize>,
    /// Computing device: auto, cpu, cuda or cuda:N [default: cpu].
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// Number of worker threads [default: all cores]; figures do not depend on it.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// What to recompute in the backward pass: none, block (slower, far less memory), or auto, which
    /// depends on the free memory [default: auto]; figures do not depend on it.
    #[arg(long, value_name = "WHAT")]
    pub(crate) recompute: Option<String>,
    /// Skip and count unreadable rows of data files.
    #[arg(long)]
    pub(crate) skip_bad_rows: bool,
    /// Do not run plain fine-tuning beside the defence.
    #[arg(long)]
    pub(crate) no_baseline: bool,
    /// Do not run the model that was never aligned.
    #[arg(long)]
    pub(crate) no_undefended: bool,
    /// What to keep on disk of finished runs: weights, adapters or none [default: weights].
    #[arg(long, value_name = "WHAT")]
    pub(crate) keep: Option<String>,
    /// Any recipe setting, such as world.user_samples=100; `KEY=a,b` runs each value. Repeatable.
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct ReportArgs {
    /// An experiment, finished or not, or a run of it.
    pub(crate) path: PathBuf,
    /// The format [default: by the ending of `--output`, otherwise text].
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) format: Option<ReportFormat>,
    /// Write the report to this file instead of stdout; it must not exist yet.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write each picture of the page into this directory, as an .svg and as a .csv file; none of them may
    /// exist yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) pictures: Option<PathBuf>,
    /// Show prompts and answers of your own model too; those of the embedded world are always shown.
    #[arg(long, visible_alias = "log-samples")]
    pub(crate) with_answers: bool,
    /// Show every column of the table, not only the standard ones.
    #[arg(long)]
    pub(crate) full: bool,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct CompareArgs {
    /// Experiments, finished or not, or runs of them.
    #[arg(required = true)]
    pub(crate) paths: Vec<PathBuf>,
    /// The format.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ReportFormat::Text)]
    pub(crate) format: ReportFormat,
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct PlotArgs {
    /// A run, done or under way: EXPERIMENT/<defense>/<ratio or aligned>/<seed>.
    pub(crate) run: PathBuf,
    /// Figures of its log, such as `loss` or `drift` [default: the first one].
    pub(crate) figures: Vec<String>,
}

/// A format of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// What `vxf run` prints.
    Text,
    /// The same as Markdown.
    Markdown,
    /// The same as LaTeX, with tables in booktabs' style.
    Latex,
    /// One page with pictures, cost and provenance; it needs no other file and no network.
    Html,
    /// A table with one line for each figure of each run.
    Csv,
    /// What `vxf run --json` prints.
    Json,
}

impl ReportFormat {
    /// The format that a file's ending stands for; text, if it stands for none.
    pub(crate) fn of(file: &Path) -> Self {
        match file.extension().and_then(OsStr::to_str).unwrap_or_default() {
            "md" | "markdown" => Self::Markdown,
            "tex" => Self::Latex,
            "html" | "htm" => Self::Html,
            "csv" => Self::Csv,
            "json" => Self::Json,
            _ => Self::Text,
        }
    }
}

#[derive(Debug, Group)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct RunsArgs {
    /// An experiment, a run of it, or a directory of experiments.
    pub(crate) path: PathBuf,
    /// List the runs that the experiment lacks, for `vxf task`: digest and run, one a line, parents first.
    #[arg(long)]
    pub(crate) pending: bool,
    /// Print the result as JSON.
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

#[derive(Debug, Group)]
pub(crate) struct ListArgs {
    /// List only this kind.
    pub(crate) kind: Option<ListKind>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A kind of plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListKind {
    /// Published methods.
    Defenses,
    /// Methods that find perturbations, the inner player of the min-max step.
    Perturbers,
    /// Measurements of models.
    Metrics,
    /// Model families.
    Backbones,
    /// Judges of harmful answers.
    Judges,
    /// Sources of training and test data.
    Sources,
}

#[derive(Debug, Group)]
pub(crate) struct ShowArgs {
    /// The name of a plugin, a section of a recipe such as `fine_tuning`, or `recipe` for all sections.
    pub(crate) name: String,
    /// With `recipe`: print its JSON Schema, for editors.
    #[arg(long)]
    pub(crate) schema: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
