//! The data report: what was read and dropped, and which questions two sets share.

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
    /// The name of the set.
    pub name: String,
    /// Its source; empty for a mix of other sets.
    pub source: String,
    /// The schema of its columns.
    pub schema: Option<Schema>,
    /// The files that were read.
    pub files: Vec<FileRead>,
    /// Whether it is a test set.
    pub test: bool,
    /// The sets that it is mixed from.
    pub made_of: Vec<String>,
    /// Rows read.
    pub read: usize,
    /// Rows removed by the filter.
    pub filtered: usize,
    /// Samples removed by `skip`.
    pub skipped: usize,
    /// Invalid rows that were skipped.
    pub bad_rows: usize,
    /// The first few invalid rows.
    pub bad: Vec<BadRow>,
    /// Columns that have values and are not read.
    #[serde(default)]
    pub unread: Vec<String>,
    /// Unknown keys of turns, which are not read.
    #[serde(default)]
    pub unknown: Vec<String>,
    /// What else was found and not used, as sentences.
    #[serde(default)]
    pub remarks: Vec<String>,
    /// Samples.
    pub samples: usize,
    /// Samples whose question occurs earlier in the set, ignoring case, space and punctuation.
    pub repeated: usize,
    /// Samples that are exact copies of an earlier one.
    pub identical: usize,
    /// Samples whose answer is empty.
    pub unanswered: usize,
    /// Samples dropped because truncation left no token of their answer.
    pub unlabelled: usize,
    /// Samples whose answer was truncated.
    pub truncated: usize,
    /// Token counts of the training samples; `None` for a test set.
    pub lengths: Option<Lengths>,
}

/// Token counts of samples (prompt and answer) after truncation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// The shortest sample.
    pub min: usize,
    /// The median; the upper one of two.
    pub median: usize,
    /// The 95th percentile.
    pub p95: usize,
    /// The longest sample.
    pub max: usize,
    /// The sum.
    pub tokens: usize,
    /// The sum of labelled tokens.
    pub labelled: usize,
}

impl Lengths {
    /// The lengths of `examples`; `None` if there are none.
    #[must_use]
    pub fn of(examples: &[Example]) -> Option<Self> {
        let mut lengths: Vec<usize> = examples.iter().map(|each| each.tokens.len()).collect();
        lengths.sort_unstable();
        let count = lengths.len();
        Some(Self {
            min: *lengths.first()?,
            median: lengths[count / 2],
            // The smallest length that at least 95 % of the samples do not exceed.
            p95: lengths[(count * 95).div_ceil(100) - 1],
            max: lengths[count - 1],
            tokens: lengths.iter().sum(),
            labelled: examples.iter().map(Example::labelled).sum(),
        })
    }
}

impl SetReport {
    /// The report on a set of samples; `loaded` if they are read from files without mixing.
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
            report.unread = origin.unread.clone();
            report.unknown = origin.unknown.clone();
            report.remarks = origin.remarks.clone();
        }
        report
    }

    /// Sets the names of the sets that this one is mixed from.
    ///
    /// Questions shared with them, or with another mix of them, are not reported.
    #[must_use]
    pub fn made_of(mut self, sets: &[&str]) -> Self {
        self.made_of = sets.iter().map(|set| (*set).to_owned()).collect();
        self
    }

    /// Sets the token counts: the samples with an answer, how many of them were truncated, and how
    /// many were dropped because no token of their answer was left.
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

    /// Whether the two sets are mixed from a common set, or one from the other.
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
    /// Warnings, as sentences.
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

    /// Says that the harmful samples of defences and those of the attack share questions, if they do.
    #[must_use]
    pub fn seen_attack(&self) -> Option<String> {
        warnings::seen_attack(&self.sets, &self.overlaps)
    }

    /// What was dropped or truncated, as sentences.
    #[must_use]
    pub fn losses(&self) -> Vec<String> {
        let mut all = Vec::new();
        for set in &self.sets {
            for (count, what) in [
                (set.bad_rows, "rows were invalid and left out"),
                (
                    set.unlabelled,
                    "samples were left out, as truncation left no token of their answer",
                ),
                (set.truncated, "samples were truncated"),
            ] {
                if count > 0 {
                    all.push(format!("{}: {count} {what}", set.name));
                }
            }
        }
        all
    }
}
