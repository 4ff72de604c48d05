//! A few prompts, answered before and after the attack.

use crate::Result;
use crate::experiment::Experiment;
use crate::plan::{Arm, CellId};
use crate::record::Answer;

pub use vxf_untrusted::printable;

/// What to show of a set of prompts.
const SETS: [(&str, &str); 3] = [
    ("harmful", "forbidden, in no training set"),
    ("benign", "harmless, in no training set"),
    ("task", "the user's task"),
];

/// The first prompt of each set, answered by baseline and defence, before and after the user's
/// stage at the largest ratio under the first seed; without `open`, what is in the user's files and what
/// the model said are withheld.
///
/// # Errors
/// When the stored answers cannot be read.
pub fn closing(experiment: &Experiment, open: bool) -> Result<String> {
    let plan = &experiment.plan;
    let largest = plan.ratios.iter().copied().fold(0.0, f64::max);
    let (Some(&seed), false) = (plan.seeds.first(), plan.arms.is_empty()) else {
        return Ok(String::new());
    };
    let shown = |arm: &&Arm| Some(&arm.label) == plan.baseline.as_ref() || arm.label == plan.tested;
    let mut answers = Vec::new();
    for arm in plan.arms.iter().filter(shown) {
        let read = |cell: CellId| match experiment.directory.holds(&cell) {
            true => experiment.directory.answers(&cell),
            false => Ok(Vec::new()),
        };
        let before = read(plan.aligned(arm.alignment, seed))?;
        let after = read(CellId { label: arm.label.clone(), ratio: Some(largest), seed })?;
        answers.push((arm.label.as_str(), before, after));
    }
    let width = answers.iter().map(|(label, _, _)| label.chars().count()).max().unwrap_or(0);

    let mut text =
        format!("Answers before and after the user's stage, p = {largest}, seed {seed}\n");
    for (set, about) in SETS {
        let first = |answers: &[Answer]| answers.iter().find(|each| each.probe == set).cloned();
        let Some(asked) = answers.iter().find_map(|(_, _, after)| first(after)) else { continue };
        let prompt = if open { printable(&asked.prompt) } else { "[withheld]".to_owned() };
        text += &format!("\n  {prompt} ({about})\n");
        for (label, before, after) in &answers {
            for (when, list) in [("before", before), ("after", after)] {
                if let Some(answer) = first(list) {
                    let said = show(&answer, open);
                    text += &format!("    {label:<width$}  {when:<6}  {said}\n");
                }
            }
        }
    }
    Ok(text)
}

/// The answer, or that it is withheld.
fn show(answer: &Answer, open: bool) -> String {
    match (open, answer.answer.is_empty()) {
        (false, _) => "[withheld: `--log-samples` shows it]".into(),
        (true, true) => "(nothing)".into(),
        (true, false) => printable(&answer.answer),
    }
}
