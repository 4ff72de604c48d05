//! Generates answers to given prompts.

use std::collections::BTreeMap;
use std::fmt::Debug;

use vxf_core::generate::{self, NoCache};
use vxf_core::metric::{Model, Probes, Prompt, Questions};
use vxf_core::registry::ConfigError;
use vxf_core::{Key, Params};
use vxf_data::{Ask, Sampling, TemplateChoice};

use super::sampler;
use crate::store::finished::{self, Run};
use crate::{Error, Result};
use vxf_access::device::device;
use vxf_access::{Access, Base};
use vxf_recipe::Recipe;
use vxf_recipe::settings::EMBEDDED;

/// A request for answers.
#[derive(Clone, Copy, Debug)]
pub struct AnswerRequest<'a> {
    /// The prompts.
    pub prompts: &'a [String],
    /// The prompt template; `None` or `auto` takes the run's, or what the model's files say.
    pub template: Option<&'a str>,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Sampling temperature; 0 takes the most likely token.
    pub temperature: f64,
    /// Nucleus sampling: the share of probability to sample from.
    pub top_p: Option<f64>,
    /// Top-k sampling: the number of tokens to sample from.
    pub top_k: Option<usize>,
    /// Sampling seed.
    pub seed: u64,
}

/// Answers of the model of `recipe`, or of the model that `run` produced.
///
/// # Errors
/// When the model cannot be loaded, or a setting is out of range.
pub fn answers(
    recipe: &Recipe,
    run: Option<Run>,
    request: &AnswerRequest<'_>,
    access: &Access,
) -> Result<Vec<String>> {
    if let Some(run) = &run {
        access.examine(&run.place);
    }
    let asked = request.template.map(parse).transpose()?.unwrap_or_default();
    let template = template(recipe, run.is_some(), asked)?;
    let base = Base::of(&recipe.model, template, device(&recipe.settings.device)?, access)?;
    if asked == TemplateChoice::Auto {
        let used = base.codec.template();
        let why = if run.is_some() { "the run's" } else { reason(used) };
        access.note(&format!("template {used}: {why}; `--template` selects another"));
    }
    if let Some(remark) = base.codec.other_limit(request.max_new_tokens) {
        access.note(&remark);
    }
    let sampling = Sampling {
        temperature: request.temperature,
        top_p: request.top_p.unwrap_or(1.0),
        top_k: request.top_k.unwrap_or(0),
        samples_per_prompt: 1,
    };
    sampling.validate().map_err(vxf_core::Error::Config)?;
    let prompt = |text: &String| {
        let tokens = base.codec.prompt(&Ask::instruction(text))?;
        Ok(Prompt { text: text.clone(), tokens, expected: None, group: None })
    };
    let prompts = request.prompts.iter().map(prompt).collect::<Result<Vec<_>>>()?;
    let model = match run {
        None => base.model()?,
        Some(run) => base.load(&finished::merged(&base, &finished::layers(&run.lineage()?))?)?,
    };
    let weights = Params::new();
    let probes = Probes {
        examples: BTreeMap::new(),
        questions: BTreeMap::from([(SET.to_owned(), Questions::default())]),
        text: Box::new((*base.codec).clone()),
        judges: Vec::new(),
        grader: None,
        sampler: Box::new(sampler::for_model(&sampling, &Key::root(request.seed), &base.codec)),
        draws: 1,
        batch_size: prompts.len(),
    };
    let model = Model { backbone: &*model, weights: &weights };
    let made = generate::answers(model, SET, &prompts, request.max_new_tokens, &probes, &NoCache)?;
    Ok(made.into_iter().map(|made| made.answer).collect())
}

const SET: &str = "prompts";

/// The prompt template: the requested one, or the run's.
fn template(recipe: &Recipe, of_run: bool, asked: TemplateChoice) -> Result<TemplateChoice> {
    let embedded = recipe.model.path == EMBEDDED;
    match asked {
        TemplateChoice::Auto if of_run => Ok(recipe.data.config.template()),
        TemplateChoice::Auto | TemplateChoice::World => Ok(asked),
        _ if embedded => {
            let asked = format!("{asked:?}").to_lowercase();
            Err(refused("must be auto or world for the embedded model", asked))
        }
        _ => Ok(asked),
    }
}

fn parse(text: &str) -> Result<TemplateChoice> {
    let parsed = serde_json::from_value(text.into());
    parsed.map_err(|_| refused("must be auto, alpaca, chat, plain or world", text))
}

fn refused(rule: &str, found: impl Debug) -> Error {
    let (key, rule, found) = ("--template".into(), rule.to_owned(), format!("{found:?}"));
    Error::Core(ConfigError { key, rule, found }.into())
}

/// Why `auto` chose this template.
pub(crate) fn reason(template: &str) -> &'static str {
    match template {
        "world" => "its tokenizer is that of the embedded world",
        "chat" => "the model has a chat template of its own",
        _ => "the model has no chat template",
    }
}
