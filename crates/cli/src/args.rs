//! The command line: its commands, and the options that several of them share. The arguments of one command are
//! beside its code.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use vxf_core::Stage;
use vxf_run::Every;

use crate::commands::track::TrackOptions;
use crate::commands::{
    compare, diff, doctor, durability, eval, export, generate, init, list, parity, plot, pretrain,
    prune, report, run, runs, search, shell, show, task, validate, verify,
};
use crate::error::CommandError;
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

/// The end of the help of the program, and of each command that may fail in these ways.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the run failed: a damaged model, a directory that cannot be written, a loss that is not finite
  2  invalid command line or recipe
  75 interrupted, everything kept: `vxf resume` continues";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Align a model, fine-tune it on a user's data with harmful samples mixed in, and compare defences.
    Run(run::RunArgs),
    /// Continue an interrupted experiment from its last checkpoint.
    Resume(run::ResumeArgs),
    /// Do one run of an experiment, unless it is done; several processes may do so at once.
    Task(task::TaskArgs),
    /// Try a family of attacks on a defence, and print a card: pass or fail, with evidence.
    Durability(durability::DurabilityArgs),
    /// Search settings of a method or an attack: random draws, the better half of them again and again.
    Search(search::SearchArgs),
    /// List registered plugins: defences, perturbers, metrics, judges and more.
    List(list::ListArgs),
    /// Show one plugin (paper, stages, settings, an example recipe), or the keys of a section of a recipe.
    Show(show::ShowArgs),
    /// Write a commented recipe for the model and the data that are there.
    Init(init::InitArgs),
    /// Check a recipe and print its runs and their cost; nothing is loaded or trained.
    Validate(validate::ValidateArgs),
    /// List all differences between a run and a recipe.
    Diff(diff::DiffArgs),
    /// Evaluate a model, or a finished run again with other metrics or judges.
    Eval(eval::EvalArgs),
    /// Check a finished experiment or run: digests, parents, and every figure again.
    Verify(verify::VerifyArgs),
    /// Print a model's answers to prompts.
    Generate(generate::GenerateArgs),
    /// Export a run's model: merged as a model directory, or as PEFT adapters.
    Export(export::ExportArgs),
    /// Print again what an experiment found so far: as text, as a page, for a paper, or as data.
    Report(report::ReportArgs),
    /// Compare experiments or runs in one table, and name the settings that differ.
    Compare(compare::CompareArgs),
    /// Draw curves of a run in the terminal.
    Plot(plot::PlotArgs),
    /// List the runs of an experiment, or show the settings and figures of one run.
    Runs(runs::RunsArgs),
    /// Remove the weights of finished runs to save disk space; records stay.
    Prune(prune::PruneArgs),
    /// Replay recorded steps of the reference trainer and compare every number.
    Parity(parity::ParityArgs),
    /// Train a base model of the embedded world, in the same way as the shipped one.
    Pretrain(pretrain::PretrainArgs),
    /// Show what this program was built with and the hardware it can use.
    Doctor(doctor::DoctorArgs),
    /// Print completions for a shell.
    Completions(shell::CompletionsArgs),
    /// Print the manual page, or write those of all commands into a directory.
    Man(shell::ManArgs),
    /// Print the reference of all commands, recipe keys and plugins, as Markdown.
    Reference,
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

/// Options for models and data on the hub.
#[derive(Debug, Default, Group)]
pub(crate) struct HubOptions {
    /// Do not use the network; only cached models and data are available.
    #[arg(long)]
    pub(crate) offline: bool,
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
    /// The format that a file's ending stands for.
    ///
    /// # Errors
    /// When it stands for none.
    pub(crate) fn of(file: &Path) -> Result<Self, CommandError> {
        Ok(match file.extension().and_then(OsStr::to_str).unwrap_or_default() {
            "" | "txt" => Self::Text,
            "md" | "markdown" => Self::Markdown,
            "tex" => Self::Latex,
            "html" | "htm" => Self::Html,
            "csv" => Self::Csv,
            "json" => Self::Json,
            other => {
                let message = format!("--output: no format has the ending .{other}");
                return Err(CommandError::usage(message).hint(
                    "endings are .txt, .md, .tex, .html, .csv and .json; `--format` writes one of them to any file",
                ));
            }
        })
    }
}
