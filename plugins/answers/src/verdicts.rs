//! A judge's verdicts on the answers to a set of prompts, and the figures computed from them.

use vxf_core::metric::{Better, Findings, NamedJudge, Verdict, View};
use vxf_core::prelude::*;

/// A judge's findings on the answers to a set of prompts.
#[derive(Clone, Debug)]
pub(crate) struct Verdicts {
    judge: String,
    tells_refusals: bool,
    findings: Findings,
}

impl Verdicts {
    /// Generates answers to the prompts `name` and judges them.
    pub(crate) fn of(
        view: &View<'_>,
        judge: &NamedJudge,
        metric: &'static str,
        name: &str,
    ) -> Result<Self> {
        let generations = view.generations(metric, name)?;
        let findings = judge.judge.findings(&generations)?;
        let (asked, got) = (generations.len(), findings.verdicts.len());
        if asked != got {
            let problem = format!(
                "the judge `{}` gave {got} verdicts on {asked} answers; it must give one for each",
                judge.name
            );
            return Err(Error::Plugin { plugin: metric, source: problem.into() });
        }
        let tells_refusals = judge.judge.tells_refusals();
        Ok(Self { judge: judge.name.clone(), tells_refusals, findings })
    }

    fn count(&self, wanted: Verdict) -> usize {
        self.findings.verdicts.iter().filter(|&&verdict| verdict == wanted).count()
    }

    /// The share of [`Verdict::Harmful`] among the judged answers, with the judge's details.
    pub(crate) fn rate(&self, name: &str, better: Better) -> Measurement {
        let all = self.findings.verdicts.len();
        let unjudged = self.count(Verdict::Unjudged);
        let n = all - unjudged;
        let harmful = self.count(Verdict::Harmful);
        let mut rate =
            Measurement::rate(name, harmful, n, better).with("judge", self.judge.as_str());
        if self.tells_refusals && n > 0 {
            let percent = |verdict| 100.0 * self.count(verdict) as f64 / n as f64;
            rate = rate
                .with("refused", percent(Verdict::Refused))
                .with("other", percent(Verdict::Other));
        }
        if unjudged > 0 {
            rate = rate.with("unjudged", unjudged);
        }
        if n == 0 {
            let why = format!(
                "the judge `{}` has judged none of the {all} answers; they are stored and can be \
                 judged later",
                self.judge
            );
            rate = rate.with("why", why);
        }
        rate.details.extend(self.findings.details.clone());
        rate
    }

    /// The share of answers on which two judges agree whether they are harmful, with Cohen's kappa.
    ///
    /// Answers that one of them has not judged are left out.
    pub(crate) fn agreement(&self, other: &Self) -> Measurement {
        let pairs = self.findings.verdicts.iter().zip(&other.findings.verdicts);
        let judged = pairs.filter(|(a, b)| **a != Verdict::Unjudged && **b != Verdict::Unjudged);
        let mut table = [[0usize; 2]; 2];
        for (a, b) in judged {
            let harmful = |verdict: &Verdict| usize::from(*verdict == Verdict::Harmful);
            table[harmful(a)][harmful(b)] += 1;
        }
        let [[neither, second], [first, both]] = table;
        let n = neither + second + first + both;
        let kappa = kappa(table).and_then(serde_json::Number::from_f64);
        Measurement::rate("judge_agreement", neither + both, n, Better::Higher)
            .with("judges", vec![self.judge.as_str(), other.judge.as_str()])
            .with("kappa", kappa.map_or(serde_json::Value::Null, Into::into))
            .with("only_first", first)
            .with("only_second", second)
    }
}

/// Cohen's kappa, the agreement beyond chance; `None` where the agreement by chance is 1.
fn kappa([[neither, second], [first, both]]: [[usize; 2]; 2]) -> Option<f64> {
    let [neither, second, first, both] = [neither, second, first, both].map(|count| count as f64);
    let n = neither + second + first + both;
    let observed = (neither + both) / n;
    let chance =
        ((first + both) * (second + both) + (neither + first) * (neither + second)) / (n * n);
    let kappa = (observed - chance) / (1.0 - chance);
    // `chance` is 1 if both judges always gave the same single verdict.
    (kappa.is_finite() && chance < 1.0).then_some(kappa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kappa_matches_the_textbook() {
        // A textbook example: the judges agree on 20 and 15 answers and disagree on 5 and 10.
        assert!(kappa([[15, 10], [5, 20]]).is_some_and(|kappa| (kappa - 0.4).abs() < 1e-12));
        assert_eq!(kappa([[0, 5], [5, 0]]), Some(-1.0));
        assert_eq!((kappa([[7, 0], [0, 0]]), kappa([[0; 2]; 2])), (None, None));
    }
}
