//! Sample answers before and after the user's fine-tuning.

use vxf_untrusted::printable;

use crate::layout::Layout;
use crate::record::{Answer, RunId};

/// The sets of prompts that are shown, with a description.
const SETS: [(&str, &str); 3] = [
    ("harmful", "forbidden, in no training set"),
    ("benign", "harmless, in no training set"),
    ("task", "the user's task"),
];

/// Shows the first prompt of each set with the answers of baseline and defence, before and after the
/// user's fine-tuning, at the largest ratio under the first seed. Unless `open` is set, text from the
/// user's files and answers are withheld. `read` returns the stored answers of a run.
///
/// # Errors
/// When the stored answers cannot be read.
pub fn closing<E>(
    layout: &Layout,
    open: bool,
    read: impl Fn(&RunId) -> Result<Vec<Answer>, E>,
) -> Result<String, E> {
    let before = layout.blocks.iter().find(|block| block.when.ratio.is_none());
    let largest = layout.ratios.iter().copied().fold(0.0, f64::max);
    let after = layout.blocks.iter().find(|block| block.when.ratio == Some(largest));
    let (Some(&seed), Some(after)) = (layout.seeds.first(), after) else {
        return Ok(String::new());
    };
    let first = |lines: &[crate::Line], name: &str| {
        let line = lines.iter().find(|line| line.name == name);
        line.and_then(|line| line.runs.iter().find(|run| run.seed == seed)).cloned()
    };
    let mut answers = Vec::new();
    for name in after.baselines().map(|line| &line.name).chain(&after.tested) {
        if answers.iter().any(|(known, _, _)| known == name) {
            continue;
        }
        let answered = |run: Option<RunId>| match run {
            Some(run) => read(&run),
            None => Ok(Vec::new()),
        };
        // The aligned model of a row is named after its first method only.
        let aligned = name.split('+').next().unwrap_or(name);
        let aligned = before
            .and_then(|block| first(&block.lines, name).or_else(|| first(&block.lines, aligned)));
        answers.push((name.clone(), answered(aligned)?, answered(first(&after.lines, name))?));
    }
    let width = answers.iter().map(|(name, _, _)| name.chars().count()).max().unwrap_or(0);

    let mut text =
        format!("Answers before and after the user's stage, p = {largest}, seed {seed}\n");
    for (set, about) in SETS {
        let first = |answers: &[Answer]| answers.iter().find(|each| each.probe == set).cloned();
        let Some(asked) = answers.iter().find_map(|(_, _, after)| first(after)) else { continue };
        let prompt = if open { printable(&asked.prompt) } else { "[withheld]".to_owned() };
        text += &format!("\n  {prompt} ({about})\n");
        for (name, before, after) in &answers {
            for (when, list) in [("before", before), ("after", after)] {
                if let Some(answer) = first(list) {
                    let said = show(&answer, open);
                    text += &format!("    {name:<width$}  {when:<6}  {said}\n");
                }
            }
        }
    }
    Ok(text)
}

/// The answer, or a note that it is withheld.
fn show(answer: &Answer, open: bool) -> String {
    match (open, answer.answer.is_empty()) {
        (false, _) => "[withheld: `--log-samples` shows it]".into(),
        (true, true) => "(nothing)".into(),
        (true, false) => printable(&answer.answer),
    }
}
