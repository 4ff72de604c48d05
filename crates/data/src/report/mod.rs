//! What was read, what became of it, and which questions sets share.

mod questions;
mod table;
mod warnings;

use serde::{Deserialize, Serialize};
use vxf_core::Example;

pub use questions::Overlap;
use questions::Questions;

use crate::{BadRow, FileRead, Loaded, Sample, Schema};

/// The report on one set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SetReport {
    /// What it is called.
    pub name: String,
    /// Where it comes from; empty for a mix of other sets.
    pub source: String,
    /// What its columns were taken to mean.
    pub schema: Option<Schema>,
    /// The files that were read.
    pub files: Vec<FileRead>,
    /// Whether its samples are asked and not learned.
    pub test: bool,
    /// The sets that it is mixed of.
    pub made_of: Vec<String>,
    /// Rows read.
    pub read: usize,
    /// Rows that the filter left out.
    pub filtered: usize,
    /// Samples that `skip` left out.
    pub skipped: usize,
    /// Rows that could not be understood and were left out.
    pub bad_rows: usize,
    /// The first few of those.
    pub bad: Vec<BadRow>,
    /// Samples.
    pub samples: usize,
    /// Samples whose question is asked earlier in the set, but for case, space and punctuation.
    pub repeated: usize,
    /// Samples that are, letter by letter, in the set already.
    pub identical: usize,
    /// Samples whose answer is empty.
    pub unanswered: usize,
    /// Samples left out because no token of their answer was left.
    pub unlabelled: usize,
    /// Samples that lost a part of their answer.
    pub truncated: usize,
    /// Tokens of the samples that are learned; nothing where none are.
    pub lengths: Option<Lengths>,
}

/// How many tokens samples have, prompt and answer, after truncation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Of the shortest.
    pub min: usize,
    /// Of the middle one; of two, the longer.
    pub median: usize,
    /// That 95 of 100 do not exceed.
    pub p95: usize,
    /// Of the longest.
    pub max: usize,
    /// Of all.
    pub tokens: usize,
    /// Of all, those that the loss counts.
    pub labelled: usize,
}

impl Lengths {
    /// The lengths of `examples`; nothing if there are none.
    #[must_use]
    pub fn of(examples: &[Example]) -> Option<Self> {
        let mut lengths: Vec<usize> = examples.iter().map(|each| each.tokens.len()).collect();
        lengths.sort_unstable();
        let count = lengths.len();
        Some(Self {
            min: *lengths.first()?,
            median: lengths[count / 2],
            // The smallest that is at least as long as 95 of 100.
            p95: lengths[(count * 95).div_ceil(100) - 1],
            max: lengths[count - 1],
            tokens: lengths.iter().sum(),
            labelled: examples.iter().map(Example::labelled).sum(),
        })
    }
}

impl SetReport {
    /// The report on a set of samples; `loaded` if they come from files as they are.
    #[must_use]
    pub fn of(name: &str, samples: &[Sample], loaded: Option<&Loaded>) -> Self {
        let questions = Questions::of(samples);
        let mut seen = std::collections::HashSet::new();
        let mut report = Self {
            name: name.to_owned(),
            samples: samples.len(),
            repeated: questions.repeated(),
            identical: samples.iter().filter(|sample| !seen.insert(*sample)).count(),
            unanswered: samples.iter().filter(|sample| sample.answer.is_empty()).count(),
            ..Self::default()
        };
        if let Some(Loaded { schema, origin, .. }) = loaded {
            report.source = origin.source.clone();
            report.schema = Some(*schema);
            report.files = origin.files.clone();
            report.test = origin.test;
            report.read = origin.read;
            report.filtered = origin.filtered;
            report.skipped = origin.skipped;
            report.bad_rows = origin.bad;
            report.bad = origin.bad_rows.clone();
        }
        report
    }

    /// With the names of the sets that this one is mixed of.
    ///
    /// What it shares with them, or with another mix of them, is no news.
    #[must_use]
    pub fn made_of(mut self, sets: &[&str]) -> Self {
        self.made_of = sets.iter().map(|set| (*set).to_owned()).collect();
        self
    }

    /// With the samples as tokens: those that have an answer left, how many of them were cut, and
    /// how many more had none left.
    #[must_use]
    pub fn with_examples(
        mut self,
        examples: &[Example],
        truncated: usize,
        unlabelled: usize,
    ) -> Self {
        self.lengths = Lengths::of(examples);
        (self.truncated, self.unlabelled) = (truncated, unlabelled);
        self
    }

    /// Whether this and `other` are mixed of the same, or one of the other.
    fn is_kin(&self, other: &Self) -> bool {
        self.made_of.iter().any(|part| *part == other.name || other.made_of.contains(part))
            || other.made_of.contains(&self.name)
    }
}

/// The report on all sets of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataReport {
    /// One report for each set.
    pub sets: Vec<SetReport>,
    /// All pairs that share a question.
    pub overlaps: Vec<Overlap>,
    /// What deserves a look, in sentences.
    pub warnings: Vec<String>,
}

impl DataReport {
    /// The report on these sets, with the samples of each.
    #[must_use]
    pub fn of(sets: Vec<(SetReport, &[Sample])>) -> Self {
        let questions: Vec<_> = sets.iter().map(|(_, samples)| Questions::of(samples)).collect();
        let sets: Vec<_> = sets.into_iter().map(|(report, _)| report).collect();
        let mut overlaps = Vec::new();
        for (i, first) in sets.iter().enumerate() {
            for (j, second) in sets.iter().enumerate().skip(i + 1) {
                let of_first = questions[i].asked_in(&questions[j]);
                if of_first > 0 && !first.is_kin(second) {
                    overlaps.push(Overlap {
                        first: first.name.clone(),
                        second: second.name.clone(),
                        of_first,
                        of_second: questions[j].asked_in(&questions[i]),
                    });
                }
            }
        }
        let warnings = warnings::of(&sets, &overlaps);
        Self { sets, overlaps, warnings }
    }

    /// What was lost on the way, in sentences.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut all = Vec::new();
        for set in &self.sets {
            for (count, what) in [
                (set.bad_rows, "rows could not be understood and were left out"),
                (set.unlabelled, "samples had no token of an answer left and were left out"),
                (set.truncated, "samples were cut short"),
            ] {
                if count > 0 {
                    all.push(format!("{}: {count} {what}", set.name));
                }
            }
        }
        all
    }
}
