//! A model with fixed logits, a vocabulary of four words and three judges, for the tests.

use std::collections::BTreeMap;

use vxf_core::metric::{
    Findings, Generation, Grader, Judge, Model, NamedJudge, Probes, Prompt, Questions, Text,
    Verdict, View,
};
use vxf_core::prelude::*;
use vxf_testkit::metric::{Table, probes};

/// Logits after each token; after 1, 2 and 3 the same token is the most likely.
pub(crate) const ROWS: [[f32; 4]; 4] =
    [[5.0, 0.0, 0.0, 0.0], [0.5, 2.0, -1.0, 0.25], [0.0, 1.0, 3.0, -0.5], [-1.0, 0.75, 1.5, 1.75]];

/// Four words; 0 ends an answer.
pub(crate) struct Words;

impl Words {
    const WORDS: [&str; 4] = ["", "no", "sure", "well"];
}

impl Text for Words {
    fn decode(&self, tokens: &[u32]) -> Result<String> {
        let words: Vec<_> = tokens.iter().map(|&token| Self::WORDS[token as usize]).collect();
        Ok(words.join(" "))
    }

    fn is_end(&self, token: u32) -> bool {
        token == 0
    }

    fn opening(&self, word: &str) -> Option<u32> {
        Self::WORDS.iter().position(|known| *known == word).map(|token| token as u32)
    }
}

/// Judges an answer by its first word.
pub(crate) struct FirstWord;

impl Judge for FirstWord {
    fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>> {
        let verdict = |made: &Generation| match made.answer.split_whitespace().next() {
            Some("sure") => Verdict::Harmful,
            Some("no") => Verdict::Refused,
            _ => Verdict::Other,
        };
        Ok(generations.iter().map(verdict).collect())
    }

    fn openings(&self) -> Option<(&[&'static str], &[&'static str])> {
        Some((&["no", "well"], &["sure", "unheard-of"]))
    }
}

/// Gives this number of verdicts for any answers, and has no openings.
pub(crate) struct Fixed(pub(crate) usize);

impl Judge for Fixed {
    fn verdicts(&self, _generations: &[Generation]) -> Result<Vec<Verdict>> {
        Ok(vec![Verdict::Other; self.0])
    }
}

/// Gives these verdicts and a detail, and does not detect refusals.
pub(crate) struct OfHarm(pub(crate) Vec<Verdict>);

impl Judge for OfHarm {
    fn verdicts(&self, _generations: &[Generation]) -> Result<Vec<Verdict>> {
        Ok(self.0.clone())
    }

    fn findings(&self, _generations: &[Generation]) -> Result<Findings> {
        let details = BTreeMap::from([("labels".to_owned(), serde_json::json!({"violence": 1}))]);
        Ok(Findings { verdicts: self.0.clone(), details })
    }

    fn tells_refusals(&self) -> bool {
        false
    }
}

/// A judge with this name.
pub(crate) fn named(name: &str, judge: impl Judge + 'static) -> NamedJudge {
    NamedJudge { name: name.to_owned(), judge: Box::new(judge) }
}

/// Prompts with these tokens.
pub(crate) fn prompts(tokens: &[&[u32]]) -> Vec<Prompt> {
    let prompt = |tokens: &&[u32]| Prompt {
        text: String::new(),
        tokens: tokens.to_vec(),
        expected: None,
        group: None,
    };
    tokens.iter().map(prompt).collect()
}

/// Measures the model of [`ROWS`] on these prompts, named `name`, with answers of one word.
pub(crate) fn measure(
    metric: &dyn Metric,
    judges: Vec<NamedJudge>,
    name: &str,
    prompts: Vec<Prompt>,
) -> Result<Vec<Measurement>> {
    on(metric, name, prompts, Probes { judges, ..probes(BTreeMap::new(), 2) })
}

/// The same on task prompts, graded by `grader`.
pub(crate) fn with_grader(
    metric: &dyn Metric,
    grader: Grader,
    prompts: Vec<Prompt>,
) -> Result<Vec<Measurement>> {
    on(metric, "task", prompts, Probes { grader: Some(grader), ..probes(BTreeMap::new(), 2) })
}

fn on(
    metric: &dyn Metric,
    name: &str,
    prompts: Vec<Prompt>,
    probes: Probes,
) -> Result<Vec<Measurement>> {
    let (table, weights) = (Table::new(&ROWS)?, Params::new());
    let questions = Questions { prompts, max_new_tokens: 1 };
    let questions = BTreeMap::from([(name.to_owned(), questions)]);
    let probes = Probes { questions, text: Box::new(Words), ..probes };
    metric.measure(&View::new(Model { backbone: &table, weights: &weights }, &probes))
}

/// `logsumexp` by its definition.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln()
}
