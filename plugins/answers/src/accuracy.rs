//! Accuracy on the user's task.

use vxf_core::metric::{Better, View};
use vxf_core::prelude::*;

/// The share of `task` prompts that the model answers correctly, as the task's grader sees it.
///
/// Prompts without an expected answer do not count.
#[derive(Clone, Copy, Debug)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let generations = view.generations("accuracy", "task")?;
        let Some(grader) = view.probes.grader else {
            let why =
                "this task has no parser for answers; they are kept and can be graded outside";
            let none = Measurement::rate("accuracy", 0, 0, Better::Higher).with("why", why);
            return Ok(vec![none.with("ungraded", generations.len())]);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{measure, prompts, with_grader};

    fn same_words(expected: &str, answer: &str) -> bool {
        expected.split_whitespace().eq(answer.split_whitespace())
    }

    #[test]
    fn right_answers_are_counted_where_one_is_expected() -> Result<()> {
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
    fn tasks_without_answers_are_an_error() {
        let error =
            with_grader(&Accuracy, same_words, prompts(&[&[1]])).expect_err("nothing is expected");
        assert!(error.to_string().contains("expected answer"), "{error}");
    }

    #[test]
    fn tasks_without_a_parser_say_so() -> Result<()> {
        let figure = measure(&Accuracy, vec![], "task", prompts(&[&[1], &[2]]))?.remove(0);
        assert!(figure.value.is_nan() && figure.n == 0);
        assert_eq!(figure.details["ungraded"], 2);
        assert!(figure.details["why"].as_str().is_some_and(|why| why.contains("no parser")));
        Ok(())
    }
}
