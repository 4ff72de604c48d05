//! Sample answers before and after the user's fine-tuning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::document::Part;
use crate::layout::{Block, Layout};
use crate::record::{Answer, RunId};

/// The sets of prompts that are shown, with a description.
const SETS: [(&str, &str); 3] =
    [("harmful", "forbidden"), ("benign", "harmless"), ("task", "the user's task")];

/// How many prompts of a set occur in a training set of their seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// Prompts, over all seeds.
    pub prompts: usize,
    /// Those that some model trains on.
    pub trained_on: usize,
}

impl Overlap {
    fn words(self) -> String {
        match self.trained_on {
            0 => "in no training set".to_owned(),
            some => format!("{some} of {} such prompts are in a training set", self.prompts),
        }
    }
}

/// One prompt with the answers of several rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The prompt; none if it is withheld.
    pub prompt: Option<String>,
    /// What kind of prompt it is.
    pub about: String,
    /// The answers.
    pub said: Vec<Said>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The row of the table.
    pub row: String,
    /// Whether the model was asked before or after the user's stage.
    pub when: &'static str,
    /// The answer; none if it is withheld.
    pub answer: Option<String>,
}

/// The first prompt of each set with the answers of baseline and defence, before and after the user's
/// fine-tuning, at the largest ratio under the first seed. Unless `open` is set, text from the user's
/// files and answers are withheld. `overlaps` has the sets that were compared with the training sets.
/// `read` returns the stored answers of a run. Nothing if no such run is done.
///
/// # Errors
/// When the stored answers cannot be read.
pub fn closing<E>(
    layout: &Layout,
    open: bool,
    overlaps: &BTreeMap<String, Overlap>,
    read: impl Fn(&RunId) -> Result<Vec<Answer>, E>,
) -> Result<Vec<Part>, E> {
    let largest = layout.ratios.iter().copied().fold(0.0, f64::max);
    let after = layout.blocks.iter().find(|block| block.when.ratio == Some(largest));
    let (Some(&seed), Some(after)) = (layout.seeds.first(), after) else {
        return Ok(Vec::new());
    };
    let answers = before_and_after(layout, after, seed, read)?;
    let heading = format!("Answers before and after the user's stage, p = {largest}, seed {seed}");
    let mut asked = Vec::new();
    for (set, about) in SETS {
        let first = |answers: &[Answer]| answers.iter().find(|each| each.probe == set).cloned();
        let Some(example) = answers.iter().find_map(|row| first(&row.after)) else { continue };
        let overlap = overlaps.get(set).map(|overlap| format!(", {}", overlap.words()));
        let mut said = Vec::new();
        for Row { name, before, after } in &answers {
            for (when, list) in [("before", before), ("after", after)] {
                said.extend(first(list).map(|answer| Said {
                    row: name.clone(),
                    when,
                    answer: open.then_some(answer.answer),
                }));
            }
        }
        let about = format!("{about}{}", overlap.unwrap_or_default());
        asked.push(Asked { prompt: open.then_some(example.prompt), about, said });
    }
    Ok(vec![Part::Heading(heading), Part::Answers(asked)])
}

/// A row of the table with its stored answers, before and after the user's stage.
struct Row {
    name: String,
    before: Vec<Answer>,
    after: Vec<Answer>,
}

/// The stored answers of each row of the block `after` under `seed`, each row once.
fn before_and_after<E>(
    layout: &Layout,
    after: &Block,
    seed: u64,
    read: impl Fn(&RunId) -> Result<Vec<Answer>, E>,
) -> Result<Vec<Row>, E> {
    let before = layout.blocks.iter().find(|block| block.when.ratio.is_none());
    let run_of = |block: &Block, name: &str| {
        let line = block.line(name)?;
        line.runs.iter().find(|run| run.seed == seed).cloned()
    };
    let answered = |run: Option<RunId>| run.map_or_else(|| Ok(Vec::new()), |run| read(&run));
    let mut rows: Vec<Row> = Vec::new();
    for name in after.baselines().map(|line| &line.name).chain(&after.tested) {
        if rows.iter().any(|known| known.name == *name) {
            continue;
        }
        // The aligned model of a row is named after its first method only.
        let first = name.split('+').next().unwrap_or(name);
        let aligned = before.and_then(|block| run_of(block, name).or_else(|| run_of(block, first)));
        rows.push(Row {
            name: name.clone(),
            before: answered(aligned)?,
            after: answered(run_of(after, name))?,
        });
    }
    Ok(rows)
}
