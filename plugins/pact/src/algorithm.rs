//! The divergence over the safety tokens, and the gate between two teachers.

use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use vxf_core::loss::log_softmax;
use vxf_core::numeric::widened;
use vxf_core::prelude::*;

use crate::config::{PactConfig, SAFETY};
use crate::ending::common_ending;
use crate::tokens::SafetyTokens;

const ALIGNED: &str = "aligned";
/// Samples that a pass reads together.
const TOGETHER: usize = 8;
/// Keeps quotients and logarithms finite.
const TINY: f64 = 1e-12;

/// `J = CE + lambda T^2 mean_t KL(q_t || p_t)` over answer tokens t, with p and q over the safety tokens
/// alone.
///
/// p is the softmax of the model's logits over T. q is that of the aligned model, times the weights of the
/// tokens, renormalised. The aligned model's logits are `(1 - c_t) z_t + c_t z'_t`: z with the prompt, z'
/// without it. The gate c_t is high where the trained model spreads over more safety tokens than z' does, and
/// only early in an answer.
pub struct Pact {
    config: PactConfig,
    found: Found,
}

/// What `prepare` finds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Found {
    tokens: SafetyTokens,
    /// The number of tokens with which a prompt's ending begins an answer.
    header: usize,
}

/// The answer rows of a batch, and the place of each in its answer, from 0.
struct Answers {
    rows: Tensor,
    places: Vec<usize>,
}

impl Answers {
    fn of(batch: &Batch, device: &Device) -> Result<Self> {
        let (index, targets) = (batch.rows(), batch.row_targets());
        let labelled = |range: std::ops::Range<usize>| range.filter(|row| targets[*row] >= 0);
        let numbered = index.ranges().flat_map(|range| labelled(range).enumerate());
        let (places, rows): (Vec<usize>, Vec<u32>) =
            numbered.map(|(place, row)| (place, row as u32)).unzip();
        Ok(Self { rows: Tensor::new(rows, device)?, places })
    }
}

impl Pact {
    /// PACT with these settings.
    pub fn new(config: PactConfig) -> Self {
        Self { config, found: Found::default() }
    }

    /// The mean probability of each token over the answers of the safety samples: a mean over the first
    /// answer tokens of a sample, then over samples. A sample whose answer was cut off does not count.
    fn probabilities(&self, step: &mut Step<'_>) -> Result<Vec<f64>> {
        let all: Vec<usize> = (0..step.samples_of(SAFETY)?).collect();
        let (mut sum, mut answered): (Option<Tensor>, usize) = (None, 0);
        for samples in all.chunks(TOGETHER) {
            let batch = step.pick(SAFETY, samples)?;
            let logits = step.on(SAFETY).reading(&batch).role(Role::Evaluation).logits()?;
            let (first, columns) = (batch.prompts(), batch.shape().1);
            // The position before an answer predicts its first token.
            let counts = |sample: usize, at: usize| {
                let early = at + 1 < first[sample] + self.config.positions;
                early && batch.targets[sample * columns + at] >= 0
            };
            let probabilities = log_softmax(&widened(&logits)?, D::Minus1)?.exp()?;
            let means = batch.means(&probabilities, &counts)?.to_dtype(DType::F64)?.sum(0)?;
            answered += first.iter().zip(&batch.lengths).filter(|(first, all)| first < all).count();
            sum = Some(match sum {
                Some(sum) => (sum + means)?,
                None => means,
            });
        }
        let sum = sum.filter(|_| answered > 0);
        let sum =
            sum.ok_or_else(|| Error::Unsuitable("PACT has no alignment samples".to_owned()))?;
        Ok((sum / answered as f64)?.to_vec1()?)
    }

    /// The number of tokens with which prompts end, the user's and those of the alignment set.
    fn header(&self, step: &mut Step<'_>) -> Result<usize> {
        let mut prompts = Vec::new();
        for stream in [step.main(), SAFETY.to_owned()] {
            let all: Vec<usize> = (0..step.samples_of(&stream)?.min(self.config.samples)).collect();
            for samples in all.chunks(TOGETHER) {
                let batch = step.pick(&stream, samples)?;
                let tokens = batch.tokens.to_vec2::<u32>()?.into_iter().zip(batch.prompts());
                prompts.extend(tokens.map(|(tokens, prompt)| tokens[..prompt].to_vec()));
            }
        }
        Ok(common_ending(&prompts))
    }

    /// The logits of the safety tokens at the answers of a batch, `[answer tokens, safety tokens]`.
    fn held(&self, logits: &Tensor, answers: &Answers) -> Result<Tensor> {
        let ids = Tensor::new(self.found.tokens.ids.as_slice(), logits.device())?;
        Ok(widened(&logits.index_select(&answers.rows, 0)?.index_select(&ids, 1)?)?)
    }

    /// The share of the safety tokens that reach the probability `top_p` together, the most probable first,
    /// `[answer tokens, 1]`.
    fn spread(&self, held: &Tensor) -> Result<Tensor> {
        let (sorted, _) = held.contiguous()?.sort_last_dim(false)?;
        let reached = log_softmax(&sorted, D::Minus1)?.exp()?.cumsum(D::Minus1)?;
        let short = reached.lt(self.config.top_p)?.to_dtype(held.dtype())?;
        let all = self.found.tokens.ids.len() as f64;
        // All of them may sum to less than 1, by rounding.
        let count = (short.sum_keepdim(D::Minus1)? + 1.0)?.minimum(all)?;
        Ok((count / all)?)
    }

    /// How much the gate is open at the `place`-th answer token, from 0.
    fn open(&self, place: usize) -> f64 {
        let PactConfig { prefix, decay, .. } = self.config;
        let beyond = place.saturating_sub(prefix) as f64;
        match decay > 0.0 {
            true => (-beyond / decay).exp(),
            false => f64::from(u8::from(place < prefix)),
        }
    }

    /// The gate c, `[answer tokens, 1]`; a constant.
    fn gate(&self, student: &Tensor, alone: &Tensor, answers: &Answers) -> Result<Tensor> {
        let student = self.spread(&student.detach())?;
        let apart = ((student - self.spread(alone)?)? * self.config.slope)?;
        let sigmoid = (apart.neg()?.exp()? + 1.0)?.recip()?;
        let open: Vec<f64> = answers.places.iter().map(|place| self.open(*place)).collect();
        let open = Tensor::new(open, sigmoid.device())?.to_dtype(sigmoid.dtype())?.unsqueeze(1)?;
        Ok((sigmoid * open)?)
    }

    /// `lambda T^2 mean_t KL(q_t || p_t)` of logits `[answer tokens, safety tokens]`.
    fn divergence(&self, student: &Tensor, teacher: &Tensor) -> Result<Tensor> {
        let PactConfig { lambda, temperature, .. } = self.config;
        let weights = Tensor::new(self.found.tokens.weights.as_slice(), teacher.device())?;
        let weights = weights.to_dtype(teacher.dtype())?;
        let aligned = log_softmax(&(teacher / temperature)?, D::Minus1)?.exp()?;
        let weighed = aligned.broadcast_mul(&weights)?;
        let sum = weighed.sum_keepdim(D::Minus1)?.maximum(TINY)?;
        let q = weighed.broadcast_div(&sum)?;
        let log_p = log_softmax(&(student / temperature)?, D::Minus1)?;
        let each = (&q * (q.maximum(TINY)?.log()?.detach() - log_p)?)?.sum(D::Minus1)?;
        Ok((each.mean_all()? * (lambda * temperature * temperature))?)
    }
}

impl Defense for Pact {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.snapshot(ALIGNED)?;
        let aligned = self.probabilities(step)?;
        let base = step.with_reference(Reference::Base, |step| self.probabilities(step))?;
        let header = match self.config.header {
            0 => self.header(step)?,
            given => given,
        };
        let tokens = SafetyTokens::of(&aligned, &base, self.config.tokens)?;
        self.found = Found { tokens, header };
        Ok(())
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let (main, device) = (step.main(), step.device());
        let batch = step.batch(&main)?;
        let without = Arc::new(batch.with_endings_of_prompts(self.found.header)?);
        let aligned = step.snapshot_of(ALIGNED)?.clone();
        let (asked, alone) = step.with_weights(&aligned, |step| {
            let asked = step.on_main().role(Role::Evaluation).logits()?;
            let asked = self.held(&asked, &Answers::of(&batch, device)?)?;
            let alone = step.on_main().reading(&without).role(Role::Evaluation).logits()?;
            Ok((asked, self.held(&alone, &Answers::of(&without, device)?)?))
        })?;
        let term = |student: &Tensor, batch: &Batch| {
            let answers = Answers::of(batch, device)?;
            let student = self.held(student, &answers)?;
            let gate = self.gate(&student, &alone, &answers)?;
            let teacher = (&asked + (&alone - &asked)?.broadcast_mul(&gate)?)?.detach();
            self.divergence(&student, &teacher)
        };
        let objective = Objective { logits: Some(&term), ..Objective::default() };
        let perturbation = inner.perturb(step)?;
        step.record("header_tokens", self.found.header as f64)?;
        step.on_main().perturbed(&perturbation).minimising(objective).gradients()
    }

    fn state(&self) -> Result<State> {
        Ok(State { values: json!(self.found), ..State::default() })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        let bad = |error: serde_json::Error| Error::State(format!("safety tokens: {error}"));
        self.found = serde_json::from_value(state.values).map_err(bad)?;
        Ok(())
    }
}
