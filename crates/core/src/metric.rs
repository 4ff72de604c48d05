//! The `Metric` trait, what it measures on, and judges.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backbone::{Backbone, Pass, run_layers};
use crate::batch::{Batch, Example};
use crate::generate::{AnswerCache, NoCache, Sampler};
use crate::site::{Hidden, Site};
use crate::step::Reader;
use crate::{Error, Params, Result};

pub use crate::measurement::{Better, Measurement};

/// A prompt for the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// As the user wrote it.
    pub text: String,
    /// As the model sees it, template and special tokens included.
    #[serde(skip)]
    pub tokens: Vec<u32>,
    /// The right answer, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The group of prompts that it belongs to, such as a category, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// The model's answer to a prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    /// The prompt.
    pub prompt: Prompt,
    /// The answer.
    pub answer: String,
}

/// A judge's verdict on a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It complied: counts in the harmful score.
    Harmful,
    /// It declined.
    Refused,
    /// Neither.
    Other,
    /// Not judged yet: the judge is external, and its scores are missing so far.
    Unjudged,
}

/// Verdicts and a judge's further details.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// One verdict per generation, in order.
    pub verdicts: Vec<Verdict>,
    /// Counts per label for example; they go into the figure's details.
    pub details: BTreeMap<String, serde_json::Value>,
}

/// Judges generations.
pub trait Judge: Send + Sync {
    /// One verdict per generation, in order.
    fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>>;

    /// The verdicts with their details.
    fn findings(&self, generations: &[Generation]) -> Result<Findings> {
        Ok(Findings { verdicts: self.verdicts(generations)?, details: BTreeMap::new() })
    }

    /// Whether its verdicts tell help from refusal, so that [`Verdict::Harmful`] on a harmless
    /// request means help. A judge of harm alone finds no harm there, whatever the answer.
    fn tells_refusals(&self) -> bool {
        true
    }

    /// Whether each answer to a task prompt is right, in order, for tasks without a parser; none if
    /// unknown.
    fn grades(&self, generations: &[Generation]) -> Result<Vec<Option<bool>>> {
        Ok(vec![None; generations.len()])
    }

    /// First words of refusals and of compliance, if answers begin with one of a few words. The
    /// refusal margin compares their probabilities.
    fn openings(&self) -> Option<(&[&'static str], &[&'static str])> {
        None
    }
}

/// A judge and the name in its figures.
pub struct NamedJudge {
    /// Its registered name.
    pub name: String,
    /// The judge.
    pub judge: Box<dyn Judge>,
}

/// Whether an answer to a task prompt counts as right, given the expected one.
pub type Grader = fn(expected: &str, answer: &str) -> bool;

/// Converts between tokens and text, for metrics.
pub trait Text: Send + Sync {
    /// The text of an answer, up to its end token, special tokens left out.
    fn decode(&self, tokens: &[u32]) -> Result<String>;
    /// Whether this token ends an answer.
    fn is_end(&self, token: u32) -> bool;
    /// The token of `word` at the start of an answer.
    fn opening(&self, word: &str) -> Option<u32>;
}

/// A set of prompts with a limit on the answers' length.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    /// The prompts, in file order.
    pub prompts: Vec<Prompt>,
    /// The most tokens generated for each.
    pub max_new_tokens: usize,
}

/// The data that a stage's models are measured on.
pub struct Probes {
    /// Tokenised samples by purpose: `alignment`.
    pub examples: BTreeMap<String, Vec<Example>>,
    /// Prompts by purpose: `harmful`, `task`, `benign`.
    pub questions: BTreeMap<String, Questions>,
    /// Tokens to text.
    pub text: Box<dyn Text>,
    /// The judges; the first one's figures have the plain names.
    pub judges: Vec<NamedJudge>,
    /// Decides which answers are right; none if the task has no parser.
    pub grader: Option<Grader>,
    /// How the next token is chosen.
    pub sampler: Box<dyn Sampler>,
    /// How many answers are drawn to each prompt; greedy answers are one each.
    pub draws: usize,
    /// Samples per evaluation batch, prompts per generation batch.
    pub batch_size: usize,
}

/// A model to measure: a backbone with weights.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// The backbone.
    pub backbone: &'a dyn Backbone,
    /// Its trainable weights.
    pub weights: &'a Params,
}

/// A metric's input: the model, reference models, and the probes.
///
/// Generations are made once and shared by all metrics.
pub struct View<'a> {
    /// The model to measure.
    pub model: Model<'a>,
    /// Models to compare with, by name; `aligned` is the one after the last alignment stage.
    pub references: BTreeMap<&'static str, Model<'a>>,
    /// What to measure on.
    pub probes: &'a Probes,
    cache: &'a dyn AnswerCache,
    generations: RefCell<BTreeMap<String, std::rc::Rc<Vec<Generation>>>>,
}

impl<'a> View<'a> {
    /// A view of `model`.
    pub fn new(model: Model<'a>, probes: &'a Probes) -> Self {
        let (references, generations) = (BTreeMap::new(), RefCell::default());
        Self { model, references, probes, cache: &NoCache, generations }
    }

    /// Adds a model to compare with.
    pub fn with_reference(mut self, name: &'static str, model: Model<'a>) -> Self {
        self.references.insert(name, model);
        self
    }

    /// The model called `name` to compare with.
    ///
    /// # Errors
    /// When this evaluation has none.
    pub fn reference(&self, metric: &str, name: &str) -> Result<Model<'a>> {
        let found = self.references.get(name).copied();
        found.ok_or_else(|| Error::MissingReference {
            metric: metric.to_owned(),
            name: name.to_owned(),
        })
    }

    /// Evaluation batches of the samples called `name`, in file order.
    ///
    /// # Errors
    /// When there are none.
    pub fn batches(&self, metric: &str, name: &str) -> Result<Vec<Batch>> {
        let examples = self.probes.examples.get(name).filter(|examples| !examples.is_empty());
        let examples = examples.ok_or_else(|| missing(metric, format!("`{name}` samples")))?;
        let chunk = |chunk: &[Example]| {
            Batch::new(&chunk.iter().collect::<Vec<_>>(), self.model.backbone.device())
        };
        examples.chunks(self.probes.batch_size.max(1)).map(chunk).collect()
    }

    /// The prompts called `name`.
    ///
    /// # Errors
    /// When there are none.
    pub fn prompts(&self, metric: &str, name: &str) -> Result<&'a [Prompt]> {
        let questions = self.probes.questions.get(name);
        let prompts = questions.map(|questions| questions.prompts.as_slice()).unwrap_or_default();
        match prompts.is_empty() {
            false => Ok(prompts),
            true => Err(missing(metric, format!("`{name}` prompts"))),
        }
    }

    /// Answers to the prompts called `name`: in their order, [`Probes::draws`] to each.
    ///
    /// # Errors
    /// When there are no such prompts.
    pub fn generations(&self, metric: &str, name: &str) -> Result<std::rc::Rc<Vec<Generation>>> {
        if let Some(made) = self.generations.borrow().get(name) {
            return Ok(made.clone());
        }
        let prompts = self.prompts(metric, name)?;
        let most = self.probes.questions.get(name).map_or(0, |set| set.max_new_tokens);
        let made =
            crate::generate::answers(self.model, name, prompts, most, self.probes, self.cache)?;
        let made = std::rc::Rc::new(made);
        self.generations.borrow_mut().insert(name.to_owned(), made.clone());
        Ok(made)
    }

    /// Sets the cache of answers.
    pub fn with_cache(self, cache: &'a dyn AnswerCache) -> Self {
        Self { cache, ..self }
    }

    /// Adds answers that exist already, so that they are judged and not generated again.
    pub fn with_generations(self, name: &str, made: Vec<Generation>) -> Self {
        self.generations.borrow_mut().insert(name.to_owned(), std::rc::Rc::new(made));
        self
    }

    /// All generations made so far, by the name of their prompts.
    pub fn all_generations(&self) -> BTreeMap<String, Vec<Generation>> {
        self.generations.borrow().iter().map(|(k, v)| (k.clone(), v.to_vec())).collect()
    }
}

impl Model<'_> {
    /// The mean cross-entropy over labelled tokens of a batch, without dropout.
    pub fn loss(&self, batch: &Batch) -> Result<f64> {
        let (weights, rows) = (self.weights.detach(), batch.rows());
        let pass = Pass::new(&weights, &rows);
        let hidden = self.walk(batch, &pass)?;
        let loss = self.backbone.head_loss(&hidden, &batch.row_targets(), &pass)?;
        Ok(vxf_tensor::numeric::scalar(&loss)?)
    }

    /// The logits `[positions, vocabulary]` in `f32` or wider, without dropout. [`Batch::rows`] is the
    /// index of their rows.
    pub fn logits(&self, batch: &Batch) -> Result<candle_core::Tensor> {
        let (weights, rows) = (self.weights.detach(), batch.rows());
        let pass = Pass::new(&weights, &rows);
        Ok(vxf_tensor::numeric::widened(&self.backbone.head(&self.walk(batch, &pass)?, &pass)?)?)
    }

    /// The hidden embeddings `[positions, width]` at `sites`, without dropout.
    pub fn hidden(&self, batch: &Batch, sites: &[Site]) -> Result<Hidden> {
        let (weights, rows) = (self.weights.detach(), batch.rows());
        let seen = RefCell::new(Hidden::new());
        let reader = Reader { sites, seen: &seen };
        self.walk(batch, &Pass::new(&weights, &rows).with_tap(&reader))?;
        reader.all_seen()?;
        Ok(seen.take())
    }

    fn walk(&self, batch: &Batch, pass: &Pass<'_>) -> Result<candle_core::Tensor> {
        run_layers(self.backbone, &batch.row_tokens()?, pass)
    }
}

fn missing(metric: &str, need: String) -> Error {
    Error::MissingData { metric: metric.to_owned(), need }
}

/// A metric. It asks the view for the data it needs.
pub trait Metric: Send {
    /// Measures `view`'s model; one metric may give several figures.
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>>;
}
