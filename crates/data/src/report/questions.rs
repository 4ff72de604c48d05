//! Repeated questions within a set and between two sets.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::Sample;

/// Questions that two sets share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// The first set.
    pub first: String,
    /// The second set.
    pub second: String,
    /// Samples of the first set whose question occurs in the second.
    pub of_first: usize,
    /// Samples of the second set whose question occurs in the first.
    pub of_second: usize,
}

/// How often each question of a set occurs.
///
/// Questions are compared without case, space and punctuation. Samples without a question (plain
/// text) are not counted.
pub(super) struct Questions(HashMap<String, usize>);

impl Questions {
    pub(super) fn of(samples: &[Sample]) -> Self {
        let mut counts = HashMap::new();
        for sample in samples {
            let question = normal(&sample.ask.shown());
            if !question.is_empty() {
                *counts.entry(question).or_default() += 1;
            }
        }
        Self(counts)
    }

    /// The number of samples whose question occurs earlier in the set.
    pub(super) fn repeated(&self) -> usize {
        self.0.values().map(|count| count - 1).sum()
    }

    /// The number of samples whose question occurs in `other` too.
    pub(super) fn asked_in(&self, other: &Self) -> usize {
        self.0.iter().filter(|(asked, _)| other.0.contains_key(*asked)).map(|(_, n)| n).sum()
    }
}

/// A question without case, punctuation and extra space: `What's  up?` becomes `what s up`.
fn normal(question: &str) -> String {
    let mut normal = String::with_capacity(question.len());
    for word in question.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        if !normal.is_empty() {
            normal.push(' ');
        }
        normal.extend(word.chars().flat_map(char::to_lowercase));
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::normal;

    #[test]
    fn spellings_are_normalised() {
        for (one, other) in [
            ("What is  this?", "what is this"),
            ("\tÄpfel,\nBirnen!", "äpfel birnen"),
            ("«a» – b", "A b..."),
        ] {
            assert_eq!(normal(one), normal(other));
        }
        assert_eq!(normal("?!"), "");
        assert_ne!(normal("a b"), normal("ab"));
    }
}
