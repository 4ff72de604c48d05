//! Logits, a text of four words and two judges, for the tests.

use std::collections::BTreeMap;

use vxf_core::metric::{Generation, Judge, Model, Probes, Prompt, Text, Verdict, View};
use vxf_core::prelude::*;
use vxf_testkit::metric::{Table, probes};

/// Logits after each token: the likeliest after 1, 2 and 3 is the same again.
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

    fn end(&self) -> u32 {
        0
    }

    fn opening(&self, word: &str) -> Option<u32> {
        Self::WORDS.iter().position(|known| *known == word).map(|token| token as u32)
    }
}

/// Knows an answer by its first word.
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

/// Gives so many verdicts, whatever it is shown, and knows no openings.
pub(crate) struct Fixed(pub(crate) usize);

impl Judge for Fixed {
    fn verdicts(&self, _generations: &[Generation]) -> Result<Vec<Verdict>> {
        Ok(vec![Verdict::Other; self.0])
    }
}

/// Prompts of these tokens.
pub(crate) fn prompts(tokens: &[&[u32]]) -> Vec<Prompt> {
    let prompt =
        |tokens: &&[u32]| Prompt { text: String::new(), tokens: tokens.to_vec(), expected: None };
    tokens.iter().map(prompt).collect()
}

/// Measures the model of [`ROWS`] on these prompts under `name`, one word per answer, judged by `judge`.
pub(crate) fn measure(
    metric: &dyn Metric,
    judge: impl Judge + 'static,
    name: &str,
    prompts: Vec<Prompt>,
) -> Result<Vec<Measurement>> {
    let (table, weights) = (Table::new(&ROWS)?, Params::new());
    let probes = Probes {
        prompts: BTreeMap::from([(name.to_owned(), prompts)]),
        text: Box::new(Words),
        judge: Box::new(judge),
        ..probes(BTreeMap::new(), 2)
    };
    metric.measure(&View::new(Model { backbone: &table, weights: &weights }, &probes))
}

/// `log sum exp`, by the definition.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    logits.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln()
}
