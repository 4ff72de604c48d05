//! `vxf generate TARGET --prompt TEXT`: a model's answers.

use std::path::Path;

use serde_json::json;
use vxf_access::check_target;
use vxf_run::Run;
use vxf_run::measure::generate::{AnswerRequest, answers};
use vxf_untrusted::printable;

use crate::args::{GenerateArgs, RecipeOptions};
use crate::commands::{SCHEMA_VERSION, layers};
use crate::error::CommandError;
use crate::output::{print, print_json};
use crate::progress::access;

pub(crate) fn run(args: &GenerateArgs) -> Result<(), CommandError> {
    let path = Path::new(&args.target);
    let run = Run::is_run(path).then(|| Run::open(path)).transpose()?;
    if run.is_none() {
        check_target(&args.target)?;
    }
    let choices = RecipeOptions {
        model: run.is_none().then(|| args.target.clone()),
        dtype: args.dtype.clone(),
        device: args.device.clone(),
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
    let access = access(args.finding.offline)?;
    let made = answers(&recipe, run, &request, &access)?;
    if args.json {
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
