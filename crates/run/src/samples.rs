//! A few prompts, answered before and after the attack.

use vxf_core::config::JudgeConfig;
use vxf_core::metric::{Generation, Prompt, Verdict};
use vxf_core::registry;

use crate::Result;
use crate::experiment::Experiment;
use crate::plan::{Arm, CellId};
use crate::record::Answer;

/// What to show of a set of prompts.
const SETS: [(&str, &str); 3] = [
    ("harmful", "forbidden, in no training set"),
    ("benign", "harmless, in no training set"),
    ("task", "the user's task"),
];

/// The first prompt of each set, answered by baseline and defence, before and after the user's
/// stage at the largest ratio under the first seed; without `open`, harmful answers are withheld.
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
        text += &format!("\n  {} ({about})\n", asked.prompt);
        for (label, before, after) in &answers {
            for (when, list) in [("before", before), ("after", after)] {
                if let Some(answer) = first(list) {
                    let said = show(&answer, open || set != "harmful")?;
                    text += &format!("    {label:<width$}  {when:<6}  {said}\n");
                }
            }
        }
    }
    Ok(text)
}

fn show(answer: &Answer, open: bool) -> Result<String> {
    if open {
        return Ok(if answer.answer.is_empty() {
            "(nothing)".into()
        } else {
            answer.answer.clone()
        });
    }
    let judge = registry::default_of::<dyn JudgeConfig>("world")?.build();
    let prompt = Prompt {
        text: answer.prompt.clone(),
        tokens: Vec::new(),
        expected: answer.expected.clone(),
    };
    let verdict = judge.verdicts(&[Generation { prompt, answer: answer.answer.clone() }])?;
    Ok(match verdict.first() {
        Some(Verdict::Harmful) => "[withheld: it complied]".into(),
        Some(Verdict::Refused) => "[withheld: it refused]".into(),
        _ => "[withheld: neither refusal nor help]".into(),
    })
}
