//! Accuracy on the user's task.

use vxf_core::metric::{Better, Generation, View};
use vxf_core::prelude::*;

/// The share of `task` prompts that the model answers correctly, by the task's grader.
///
/// Prompts without an expected answer do not count. If the task has no parser, the first judge with
/// grades decides (for example `file`).
#[derive(Clone, Copy, Debug)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let generations = view.generations("accuracy", "task")?;
        let Some(grader) = view.probes.grader else {
            return Ok(vec![judged(view, &generations)?]);
        };
        let right: Vec<bool> = generations
            .iter()
            .filter_map(|made| Some(grader(made.prompt.expected.as_deref()?, &made.answer)))
            .collect();
        if right.is_empty() {
            let need = "`task` prompts with an expected answer".to_owned();
            return Err(Error::MissingData { metric: "accuracy".to_owned(), need });
        }
        let hits = right.iter().filter(|&&right| right).count();
        Ok(vec![Measurement::rate("accuracy", hits, right.len(), Better::Higher)])
    }
}

/// The accuracy on a task without a parser, by a judge's grades.
fn judged(view: &View<'_>, generations: &[Generation]) -> Result<Measurement> {
    for named in &view.probes.judges {
        let grades = named.judge.grades(generations)?;
        let known: Vec<bool> = grades.into_iter().flatten().collect();
        if known.is_empty() {
            continue;
        }
        let (n, hits) = (known.len(), known.iter().filter(|&&right| right).count());
        let rate = Measurement::rate("accuracy", hits, n, Better::Higher);
        let rate = rate.with("judge", named.name.as_str());
        return Ok(match generations.len() - n {
            0 => rate,
            ungraded => rate.with("ungraded", ungraded),
        });
    }
    let why = "this task has no parser: grade the answers in generations.jsonl, add `correct` to \
               their rows and measure again with the judge `file`";
    let none = Measurement::rate("accuracy", 0, 0, Better::Higher).with("why", why);
    Ok(none.with("ungraded", generations.len()))
}

#[cfg(test)]
mod tests {
    use vxf_core::metric::{Judge, Verdict};

    use super::*;
    use crate::fake::{FirstWord, measure, named, prompts, with_grader};

    /// Grades all answers but the last.
    struct Teacher;

    impl Judge for Teacher {
        fn verdicts(&self, generations: &[Generation]) -> Result<Vec<Verdict>> {
            Ok(vec![Verdict::Unjudged; generations.len()])
        }

        fn grades(&self, generations: &[Generation]) -> Result<Vec<Option<bool>>> {
            let last = generations.len() - 1;
            let grade = |(index, made): (usize, &Generation)| {
                (index < last).then_some(made.answer == "sure")
            };
            Ok(generations.iter().enumerate().map(grade).collect())
        }
    }

    fn same_words(expected: &str, answer: &str) -> bool {
        expected.split_whitespace().eq(answer.split_whitespace())
    }

    #[test]
    fn prompts_with_an_expected_answer_are_graded() -> Result<()> {
        let mut asked = prompts(&[&[1], &[2], &[3], &[3]]);
        for (prompt, expected) in asked.iter_mut().zip(["no", "no", " well "]) {
            prompt.expected = Some(expected.to_owned());
        }
        let figure = with_grader(&Accuracy, same_words, asked)?.remove(0);
        assert_eq!(
            (figure.name.as_str(), figure.n, figure.better),
            ("accuracy", 3, Better::Higher)
        );
        assert!((figure.value - 200.0 / 3.0).abs() < 1e-9, "{}", figure.value);
        assert!(figure.interval.is_some());
        Ok(())
    }

    #[test]
    fn prompts_without_expected_answers_are_an_error() {
        let error =
            with_grader(&Accuracy, same_words, prompts(&[&[1]])).expect_err("nothing is expected");
        assert!(error.to_string().contains("expected answer"), "{error}");
    }

    #[test]
    fn a_task_without_a_parser_has_no_figure() -> Result<()> {
        let judges = vec![named("words", FirstWord)];
        let figure = measure(&Accuracy, judges, "task", prompts(&[&[1], &[2]]))?.remove(0);
        assert!(figure.value.is_nan() && figure.n == 0);
        assert_eq!(figure.details["ungraded"], 2);
        assert!(figure.details["why"].as_str().is_some_and(|why| why.contains("no parser")));
        Ok(())
    }

    #[test]
    fn a_judge_can_grade_a_task_without_a_parser() -> Result<()> {
        let judges = || vec![named("words", FirstWord), named("teacher", Teacher)];
        let asked = || prompts(&[&[1], &[2], &[2], &[2]]);
        let figure = measure(&Accuracy, judges(), "task", asked())?.remove(0);
        assert!((figure.value - 200.0 / 3.0).abs() < 1e-9 && figure.n == 3);
        assert_eq!(
            (&figure.details["judge"], &figure.details["ungraded"]),
            (&"teacher".into(), &1.into())
        );
        Ok(())
    }
}
