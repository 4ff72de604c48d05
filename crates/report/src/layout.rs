//! Which runs are compared with each other, and by which figures.

use vxf_core::Stage;
use vxf_core::config::{Column, Reading};

use crate::record::{Record, RunId};

/// What a comparison needs besides the records.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The blocks of the table, ordered by stage and harmful ratio.
    pub blocks: Vec<Block>,
    /// Metric and column of every figure in the table, in the order of the metrics.
    pub columns: Vec<(String, Column)>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// Harmful ratios.
    pub ratios: Vec<f64>,
}

impl Layout {
    /// The column that methods are compared by, if a metric of the experiment has one.
    pub fn compared(&self) -> Option<&Column> {
        self.readings().find(|(_, reading)| *reading == Reading::Compared).map(|(column, _)| column)
    }

    /// Every column that the sentences of a report read, and how.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (&Column, Reading)> {
        self.columns.iter().filter_map(|(_, column)| Some((column, column.reading?)))
    }
}

/// The point of a pipeline at which the runs of a block were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct When {
    /// The last stage before the measurement.
    pub stage: Stage,
    /// Its position in the pipeline, from 0.
    pub depth: usize,
    /// The harmful ratio; `None` before the first fine-tuning stage.
    pub ratio: Option<f64>,
    /// Whether the pipeline has an earlier stage of the same kind.
    pub again: bool,
}

/// What a run of this stage does, as a verb.
pub fn verb(stage: Stage) -> &'static str {
    match stage {
        Stage::Alignment => "aligning",
        Stage::FineTuning => "fine-tuning",
        Stage::PostTuning => "repairing",
    }
}

impl When {
    /// Whether its runs edit or repair fine-tuned models.
    pub fn repairs(&self) -> bool {
        self.stage == Stage::PostTuning
    }

    /// The block's headline.
    pub fn headline(&self) -> String {
        let again = if self.again { " again" } else { "" };
        match (self.stage, self.ratio) {
            (Stage::Alignment, None) => format!("Aligned{again}, before the user's stage"),
            (Stage::FineTuning, None) => format!("After the user's fine-tuning{again}"),
            (Stage::PostTuning, None) => format!("After post-tuning{again}"),
            (Stage::Alignment, Some(ratio)) => {
                format!("Aligned again, after a harmful share of p = {ratio}")
            }
            (Stage::FineTuning, Some(ratio)) => {
                format!("After the user's fine-tuning{again} with a harmful share of p = {ratio}")
            }
            (Stage::PostTuning, Some(ratio)) => {
                format!("After post-tuning{again}, p = {ratio}")
            }
        }
    }
}

/// The rows of one block.
#[derive(Clone, Debug)]
pub struct Block {
    /// The point at which its runs were measured.
    pub when: When,
    /// The rows, ordered by the axes of the experiment; baselines come before what is compared with them.
    pub lines: Vec<Line>,
    /// The rows under test.
    pub tested: Vec<String>,
}

/// One row: the runs of one method, one for each seed.
#[derive(Clone, Debug)]
pub struct Line {
    /// The name of the row.
    pub name: String,
    /// Its runs, ordered by seed.
    pub runs: Vec<RunId>,
    /// The row that it is compared with: plain training with the same further settings, if that is run.
    pub baseline: Option<String>,
}

impl Block {
    /// The row called `name`.
    pub fn line(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }

    /// The rows that others are compared with, each once.
    pub fn baselines(&self) -> impl Iterator<Item = &Line> {
        let is_baseline = |line: &&Line| {
            self.lines.iter().any(|other| other.baseline.as_ref() == Some(&line.name))
        };
        self.lines.iter().filter(is_baseline)
    }
}

/// The record of the run `id`.
pub(crate) fn find<'a>(records: &'a [Record], id: &RunId) -> Option<&'a Record> {
    records.iter().find(|record| record.id == *id)
}
