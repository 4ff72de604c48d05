//! A look at a model's answers.

use std::collections::BTreeMap;

use vxf_core::generate::{self, Forgetful};
use vxf_core::metric::{Model, Probes, Prompt, Questions};
use vxf_core::registry::ConfigError;
use vxf_core::{Key, Params};
use vxf_data::{Ask, TemplateChoice};

use crate::access::Access;
use crate::device::device;
use crate::finished::{self, Run};
use crate::model::Base;
use crate::recipe::{Data, Recipe};
use crate::sampling::Sampling;
use crate::settings::EMBEDDED;
use crate::{Error, Result};

/// What is asked, and how.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    /// The questions.
    pub prompts: &'a [String],
    /// How they are put; none for the recipe's way.
    pub template: Option<&'a str>,
    /// Longest answer in tokens.
    pub max_new_tokens: usize,
    /// Temperature of the draws; 0 takes the likeliest token.
    pub temperature: f64,
    /// Share of probability that is drawn from.
    pub top_p: Option<f64>,
    /// Number of tokens that is drawn from.
    pub top_k: Option<usize>,
    /// Seed of the draws.
    pub seed: u64,
}

/// Answers of the model of `recipe`, or of what `run` made of it.
///
/// # Errors
/// When the model cannot be loaded, or a setting is out of range.
pub fn answers(
    recipe: &Recipe,
    run: Option<&Run>,
    asking: &Asking<'_>,
    access: &Access,
) -> Result<Vec<String>> {
    if let Some(run) = run {
        access.examine(&run.place);
    }
    let template = template(recipe, run, asking)?;
    let base = Base::of(&recipe.model, template, device(&recipe.settings.device)?, access)?;
    let sampling = Sampling {
        temperature: asking.temperature,
        top_p: asking.top_p.unwrap_or(1.0),
        top_k: asking.top_k.unwrap_or(0),
    };
    sampling.validate().map_err(vxf_core::Error::Config)?;
    let prompt = |text: &String| {
        let tokens = base.codec.prompt(&Ask::instruction(text))?;
        Ok(Prompt { text: text.clone(), tokens, expected: None })
    };
    let prompts = asking.prompts.iter().map(prompt).collect::<Result<Vec<_>>>()?;
    let model = match run {
        None => base.model()?,
        Some(run) => base.load(&finished::merged(&base, &run.layers()?)?)?,
    };
    let weights = Params::new();
    let probes = Probes {
        examples: BTreeMap::new(),
        questions: BTreeMap::from([(SET.to_owned(), Questions::default())]),
        text: Box::new(base.codec.clone()),
        judges: Vec::new(),
        grader: None,
        sampler: Box::new(sampling.sampler(&Key::root(asking.seed))),
        batch_size: prompts.len(),
    };
    let model = Model { backbone: &*model, weights: &weights };
    let made = generate::answers(model, SET, &prompts, asking.max_new_tokens, &probes, &Forgetful)?;
    Ok(made.into_iter().map(|made| made.answer).collect())
}

const SET: &str = "prompts";

/// How questions are put: as asked for, as in training, or else as published.
fn template(recipe: &Recipe, run: Option<&Run>, asking: &Asking<'_>) -> Result<TemplateChoice> {
    if let Some(text) = asking.template {
        let parsed = serde_json::from_value(text.into());
        return parsed.map_err(|_| {
            let rule = "must be alpaca, chat, plain or world".to_owned();
            let found = format!("{text:?}");
            Error::Core(ConfigError { key: "--template".into(), rule, found }.into())
        });
    }
    Ok(match &recipe.data {
        Data::Files(files) => files.template,
        Data::World(_) if run.is_some() || recipe.model.path == EMBEDDED => TemplateChoice::World,
        Data::World(_) => TemplateChoice::Alpaca,
    })
}
