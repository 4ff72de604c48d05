//! What the judge makes of the answers to one set of prompts.

use vxf_core::metric::{Better, Verdict, View};
use vxf_core::prelude::*;

/// How many answers were judged how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdicts {
    pub(crate) harmful: usize,
    pub(crate) refused: usize,
    pub(crate) other: usize,
}

impl Verdicts {
    /// Has the model answer the prompts called `name` and the judge judge it.
    pub(crate) fn of(view: &View<'_>, metric: &'static str, name: &str) -> Result<Self> {
        let generations = view.generations(metric, name)?;
        let verdicts = view.probes.judge.verdicts(&generations)?;
        let (asked, got) = (generations.len(), verdicts.len());
        if asked != got {
            let problem =
                format!("the judge gave {got} verdicts on {asked} answers; one each is due");
            return Err(Error::Plugin { plugin: metric, source: problem.into() });
        }
        let count = |wanted| verdicts.iter().filter(|&&verdict| verdict == wanted).count();
        Ok(Self {
            harmful: count(Verdict::Harmful),
            refused: count(Verdict::Refused),
            other: count(Verdict::Other),
        })
    }

    /// The share of compliance, with the other shares in percent beside it.
    pub(crate) fn rate(self, name: &str, better: Better) -> Measurement {
        let n = self.harmful + self.refused + self.other;
        let percent = |count: usize| 100.0 * count as f64 / n as f64;
        Measurement::rate(name, self.harmful, n, better)
            .with("refused", percent(self.refused))
            .with("other", percent(self.other))
    }
}
