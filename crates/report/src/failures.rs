//! Failed metrics: each kind of failure is reported once, and all are counted.

use std::sync::Mutex;

/// One way in which a metric failed, with the runs where it did.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// The metric.
    pub metric: String,
    /// Why it failed.
    pub problem: String,
    /// The runs it failed on.
    pub runs: Vec<String>,
}

/// Collects failures from several threads.
#[derive(Debug, Default)]
pub struct Failures(Mutex<Vec<Failure>>);

impl Failures {
    /// Adds a failure on `run`; the first of its kind is passed to `warn`.
    pub fn add(&self, run: &str, metric: &str, problem: &str, warn: impl FnOnce(&str)) {
        let mut all = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match all.iter_mut().find(|known| known.metric == metric && known.problem == problem) {
            Some(known) if known.runs.iter().any(|known| known == run) => {}
            Some(known) => known.runs.push(run.to_owned()),
            None => {
                warn(&format!("warning: {run}: the metric `{metric}` failed: {problem}"));
                let runs = vec![run.to_owned()];
                all.push(Failure { metric: metric.into(), problem: problem.into(), runs });
            }
        }
    }

    /// All failures, sorted by metric and problem, so that the order does not depend on threads.
    pub fn into_all(self) -> Vec<Failure> {
        let mut all = self.0.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.sort_by(|a, b| (&a.metric, &a.problem).cmp(&(&b.metric, &b.problem)));
        all.iter_mut().for_each(|failure| failure.runs.sort());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn each_kind_is_reported_once_and_all_are_counted() {
        let (failures, mut warnings) = (Failures::default(), Vec::new());
        for (run, problem) in [("b", "no data"), ("a", "no data"), ("a", "no data"), ("a", "NaN")] {
            failures.add(run, "drift", problem, |text| warnings.push(text.to_owned()));
        }
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("`drift`") && warnings[0].contains("no data"));
        let all = failures.into_all();
        assert_eq!(all[0].problem, "NaN");
        assert_eq!(all[1].runs, ["a", "b"]);
    }
}
