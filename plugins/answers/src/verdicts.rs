//! A judge's verdicts on the answers to a set of prompts, and the figures computed from them.

use vxf_core::metric::{Better, Findings, Generation, NamedJudge, Verdict, View};
use vxf_core::prelude::*;

/// A judge's findings on the answers to a set of prompts.
#[derive(Clone, Debug)]
pub(crate) struct Verdicts {
    generations: std::rc::Rc<Vec<Generation>>,
    draws: usize,
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
        let (draws, judge) = (view.probes.draws, judge.name.clone());
        Ok(Self { generations, draws, judge, tells_refusals, findings })
    }

    fn count(&self, wanted: Verdict) -> usize {
        self.findings.verdicts.iter().filter(|&&verdict| verdict == wanted).count()
    }

    /// The share of answers with the verdict `wanted`, among those that were judged.
    fn share(&self, name: &str, wanted: Verdict, better: Better) -> Measurement {
        let verdicts = &self.findings.verdicts;
        let counts = |index: usize| match verdicts[index] {
            Verdict::Unjudged => None,
            verdict => Some(verdict == wanted),
        };
        let outcomes = Outcomes::of(&self.generations, self.draws, counts);
        Measurement::share(name, outcomes, better).with("judge", self.judge.as_str())
    }

    /// The share of [`Verdict::Harmful`] among the judged answers, with the judge's details.
    pub(crate) fn rate(&self, name: &str, better: Better) -> Measurement {
        let all = self.findings.verdicts.len();
        let unjudged = self.count(Verdict::Unjudged);
        let n = all - unjudged;
        let mut rate = self.share(name, Verdict::Harmful, better);
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

    /// The share of answers that are neither refusal nor help, if the judge detects refusals.
    pub(crate) fn other(&self, name: &str) -> Option<Measurement> {
        self.tells_refusals.then(|| self.share(name, Verdict::Other, Better::Lower))
    }

    /// The share of answers that are refusals, if the judge detects them.
    pub(crate) fn refused(&self, name: &str, better: Better) -> Option<Measurement> {
        self.tells_refusals.then(|| self.share(name, Verdict::Refused, better))
    }

    /// The share of answers on which two judges agree whether they are harmful, with Cohen's kappa.
    ///
    /// Answers that one of them has not judged are left out.
    pub(crate) fn agreement(&self, other: &Self) -> Measurement {
        let verdicts = (&self.findings.verdicts, &other.findings.verdicts);
        let pair = |index: usize| match (verdicts.0[index], verdicts.1[index]) {
            (Verdict::Unjudged, _) | (_, Verdict::Unjudged) => None,
            (a, b) => Some((a == Verdict::Harmful, b == Verdict::Harmful)),
        };
        let mut table = [[0usize; 2]; 2];
        for (a, b) in (0..verdicts.0.len()).filter_map(pair) {
            table[usize::from(a)][usize::from(b)] += 1;
        }
        let agree = |index| pair(index).map(|(a, b)| a == b);
        let outcomes = Outcomes::of(&self.generations, self.draws, agree);
        let agreement = Measurement::share("judge_agreement", outcomes, Better::Higher)
            .with("judges", vec![self.judge.as_str(), other.judge.as_str()])
            .with("only_first", table[1][0])
            .with("only_second", table[0][1]);
        match vxf_stats::kappa(table.map(|row| row.map(|count| count as f64))) {
            None => agreement.with("kappa", serde_json::Value::Null),
            Some(kappa) => {
                agreement.with("kappa", kappa.value).with("kappa_interval", kappa.interval.to_vec())
            }
        }
    }
}
