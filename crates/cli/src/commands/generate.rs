//! `vxf generate TARGET --prompt TEXT`: a model's answers.

use std::path::Path;

use clap::Args as Group;
use serde_json::json;
use vxf_access::check_target;
use vxf_run::Run;
use vxf_run::measure::generate::{AnswerRequest, answers};
use vxf_untrusted::printable;

use crate::args::{EXIT_CODES, RecipeOptions};
use crate::commands::eval::ModelOptions;
use crate::commands::{SCHEMA_VERSION, layers};
use crate::error::CommandError;
use crate::output::{print, print_json};
use crate::progress::access;

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
    #[command(flatten)]
    pub(crate) common: ModelOptions,
}

pub(crate) fn run(args: &GenerateArgs) -> Result<(), CommandError> {
    if args.prompt.iter().any(|prompt| prompt.trim().is_empty()) {
        return Err(CommandError::usage("--prompt: the prompt is empty")
            .hint("write a request: `--prompt \"Name three rivers.\"`"));
    }
    if args.max_new_tokens == 0 {
        return Err(CommandError::usage("--max-new-tokens: must be at least 1, found 0"));
    }
    let path = Path::new(&args.target);
    let run = Run::is_run(path).then(|| Run::open(path)).transpose()?;
    if run.is_none() {
        check_target(&args.target)?;
    }
    let choices = RecipeOptions {
        model: run.is_none().then(|| args.target.clone()),
        dtype: args.dtype.clone(),
        device: args.common.device.clone(),
        ..RecipeOptions::default()
    };
    let below = run.as_ref().map(Run::layer).transpose()?.unwrap_or_default();
    let recipe = layers::upon(below, &choices)?.recipe().clone();
    let request = AnswerRequest {
        prompts: &args.prompt,
        template: args.template.as_deref(),
        max_new_tokens: args.max_new_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        top_k: args.top_k,
        seed: args.seed,
    };
    let access = access(args.common.finding.offline)?;
    let made = answers(&recipe, run, &request, &access)?;
    if args.common.json {
        let each =
            |(prompt, answer): (&String, &String)| json!({ "prompt": prompt, "answer": answer });
        let answers: Vec<_> = args.prompt.iter().zip(&made).map(each).collect();
        return print_json(&json!({ "schema_version": SCHEMA_VERSION, "answers": answers }));
    }
    let mut text = String::new();
    for (prompt, answer) in args.prompt.iter().zip(&made) {
        if made.len() > 1 {
            text += &format!("> {prompt}\n");
        }
        text += &format!("{}\n", printable(answer));
    }
    print(&text)
}
