//! The report: compared quantities, their deviations and bounds.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bounds::Bounds;

/// A bound on the deviation of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// Largest absolute difference.
    Absolute(f64),
    /// Largest difference relative to the recorded value.
    Relative(f64),
    /// L2 norm of the differences relative to that of the recorded values.
    Norm(f64),
    /// Root mean square of the differences.
    Rms(f64),
    /// Share of entries further off than 1e-5.
    Share(f64),
}

impl Bound {
    fn limit(self) -> f64 {
        match self {
            Self::Absolute(limit) | Self::Relative(limit) | Self::Norm(limit) => limit,
            Self::Rms(limit) | Self::Share(limit) => limit,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self {
            Self::Absolute(_) => "absolute",
            Self::Relative(_) => "relative",
            Self::Norm(_) => "of the norm",
            Self::Rms(_) => "rms",
            Self::Share(_) => "share beyond 1e-5",
        };
        write!(f, "{:e} {kind}", self.limit())
    }
}

/// One kind of number, over all models and runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity {
    /// The number of compared numbers.
    pub compared: usize,
    /// The largest deviation, as the bound measures it.
    pub largest: f64,
    /// Where it was.
    pub at: String,
    /// Its bound.
    pub bound: Bound,
}

impl Quantity {
    /// Whether the largest deviation is within the bound; NaN is not.
    pub fn holds(&self) -> bool {
        self.largest <= self.bound.limit()
    }
}

/// The outcome of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    #[serde(skip)]
    pub(crate) bounds: Bounds,
    /// Per quantity, the largest deviation.
    pub quantities: BTreeMap<String, Quantity>,
    /// Runs replayed, as `model/run`.
    pub runs: Vec<String>,
    /// Models and runs that could not be loaded or replayed, with the reason.
    pub skipped: Vec<(String, String)>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, quantities: BTreeMap::new(), runs: Vec::new(), skipped: Vec::new() }
    }

    /// Whether something was compared and every bound holds.
    pub fn passed(&self) -> bool {
        self.compared() > 0 && self.quantities.values().all(Quantity::holds)
    }

    /// The number of compared numbers.
    pub fn compared(&self) -> usize {
        self.quantities.values().map(|quantity| quantity.compared).sum()
    }

    pub(crate) fn skip(&mut self, what: &str, reason: String) {
        self.skipped.push((what.to_owned(), reason));
    }

    /// Compares `ours` with `theirs`, entry by entry.
    pub(crate) fn compare(
        &mut self,
        quantity: &str,
        bound: Bound,
        at: &str,
        ours: &[f64],
        theirs: &[f64],
    ) {
        let deviation = match ours.len() == theirs.len() {
            true => deviation(bound, ours, theirs),
            false => f64::NAN,
        };
        let entry = self.quantities.entry(quantity.to_owned()).or_insert_with(|| Quantity {
            compared: 0,
            largest: 0.0,
            at: String::new(),
            bound,
        });
        entry.compared += theirs.len();
        // A NaN must stay visible, but never compares greater.
        if entry.at.is_empty() || deviation.is_nan() || deviation > entry.largest {
            entry.largest = deviation;
            entry.at = at.to_owned();
        }
    }
}

fn deviation(bound: Bound, ours: &[f64], theirs: &[f64]) -> f64 {
    let gaps = || ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    // `f64::max` drops NaN; this keeps it.
    let worst = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(0.0f64, |worst, x| if x.is_nan() || x > worst { x } else { worst })
    };
    let count = theirs.len().max(1) as f64;
    match bound {
        Bound::Absolute(_) => worst(&mut gaps()),
        Bound::Relative(_) => {
            let scale = worst(&mut theirs.iter().map(|x| x.abs())).max(f64::MIN_POSITIVE);
            worst(&mut gaps()) / scale
        }
        Bound::Norm(_) => {
            let scale = theirs.iter().map(|x| x * x).sum::<f64>().max(f64::MIN_POSITIVE);
            (gaps().map(|gap| gap * gap).sum::<f64>() / scale).sqrt()
        }
        Bound::Rms(_) => (gaps().map(|gap| gap * gap).sum::<f64>() / count).sqrt(),
        Bound::Share(_) => gaps().filter(|gap| gap.is_nan() || *gap > 1e-5).count() as f64 / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations_and_nan_are_reported() {
        let mut report = Report::new(Bounds::F32);
        assert!(!report.passed(), "an empty report does not pass");
        report.compare("loss", Bound::Absolute(1e-5), "a", &[1.0, 2.0], &[1.0, 2.0]);
        assert!(report.passed());
        report.compare("loss", Bound::Absolute(1e-5), "b", &[1.0, 2.1], &[1.0, 2.0]);
        assert!(!report.passed());
        for (ours, theirs) in [(vec![f64::NAN], vec![1.0]), (vec![], vec![1.0])] {
            let mut report = Report::new(Bounds::F32);
            report.compare("x", Bound::Relative(1e-5), "c", &ours, &theirs);
            assert!(!report.passed());
        }
    }
}
