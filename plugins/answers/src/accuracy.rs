//! Accuracy on the user's task.

use vxf_core::metric::{Better, View};
use vxf_core::prelude::*;

/// The share of `task` prompts that the model answers correctly, as the judge sees it.
///
/// Prompts without an expected answer do not count.
#[derive(Clone, Copy, Debug)]
pub struct Accuracy;

impl Metric for Accuracy {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let generations = view.generations("accuracy", "task")?;
        let judge = &view.probes.judge;
        let right: Vec<bool> = generations
            .iter()
            .filter_map(|made| Some(judge.correct(made.prompt.expected.as_deref()?, &made.answer)))
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
    use crate::fake::{FirstWord, measure, prompts};

    #[test]
    fn right_answers_are_counted_where_one_is_expected() -> Result<()> {
        let mut asked = prompts(&[&[1], &[2], &[3], &[3]]);
        for (prompt, expected) in asked.iter_mut().zip(["no", "no", " well "]) {
            prompt.expected = Some(expected.to_owned());
        }
        let figure = measure(&Accuracy, FirstWord, "task", asked)?.remove(0);
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
        let error = measure(&Accuracy, FirstWord, "task", prompts(&[&[1]]))
            .expect_err("nothing is expected");
        assert!(error.to_string().contains("expected answer"), "{error}");
    }
}
