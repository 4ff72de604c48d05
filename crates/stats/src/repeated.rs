//! Seeds and prompts as two ways in which an experiment could have come out otherwise.

use std::collections::BTreeSet;

use crate::{Clustered, Interval, Summary, t_quantile, t_two_sided};

/// What one seed gave: its figure, and the values that it is the mean of, each with its cluster.
pub(crate) type Cell = (f64, Vec<(usize, f64)>);

/// The 95 % interval of the mean over seeds, and the p-value of a mean of 0; none of a single seed.
///
/// Student's t, where each seed has prompts of its own. Where all seeds share their prompts, what the
/// prompts have in common adds to the variance, as in the two-way cluster-robust variance of Cameron,
/// Gelbach and Miller (2011), with Satterthwaite's degrees of freedom.
pub(crate) fn over_seeds(cells: &[Cell]) -> Option<(Interval, f64)> {
    let summary = Summary::of(&cells.iter().map(|cell| cell.0).collect::<Vec<_>>())?;
    let seeds = summary.error()?.powi(2);
    let prompts = shared_prompts(cells).unwrap_or_default();
    let variance = seeds + prompts.variance;
    if variance <= 0.0 {
        return summary.interval().zip(summary.p());
    }
    let part = |variance: f64, count: usize| variance * variance / (count.max(2) - 1) as f64;
    let freedom =
        variance * variance / (part(seeds, cells.len()) + part(prompts.variance, prompts.clusters));
    let half = t_quantile(0.05, freedom) * variance.sqrt();
    let p = t_two_sided(summary.mean / variance.sqrt(), freedom);
    Some(([summary.mean - half, summary.mean + half], p))
}

/// What shared prompts add to the variance of the mean.
#[derive(Clone, Copy, Debug, Default)]
struct Shared {
    variance: f64,
    clusters: usize,
}

/// None where seeds have prompts of their own.
fn shared_prompts(cells: &[Cell]) -> Option<Shared> {
    let clusters =
        |cell: &Cell| cell.1.iter().map(|(cluster, _)| *cluster).collect::<BTreeSet<_>>();
    let (first, rest) = cells.split_first()?;
    let known = clusters(first);
    if known.is_empty() || rest.is_empty() || rest.iter().any(|cell| clusters(cell) != known) {
        return None;
    }
    let ranks: Vec<_> = known.iter().copied().collect();
    let (mut by_prompt, mut by_both) = (Vec::new(), Vec::new());
    for (number, (_, values)) in cells.iter().enumerate() {
        for (cluster, value) in values {
            let rank = ranks.binary_search(cluster).unwrap_or(0);
            by_prompt.push((*cluster, *value));
            by_both.push((number * ranks.len() + rank, *value));
        }
    }
    let variance = Clustered::of(&by_prompt)?.robust - Clustered::of(&by_both)?.robust;
    Some(Shared { variance: variance.max(0.0), clusters: ranks.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against statsmodels' two-way cluster-robust variance.
    #[test]
    fn the_variance_is_that_of_two_way_clusters() {
        let all: serde_json::Value =
            serde_json::from_str(include_str!("../tests/recorded.json")).expect("JSON");
        let mut shared_some = false;
        for case in all["crossed"].as_array().expect("cases") {
            let rows: Vec<Vec<usize>> =
                serde_json::from_value(case["rows"].clone()).expect("rows of numbers");
            let seeds = 1 + rows.iter().map(|row| row[0]).max().expect("rows");
            let cell = |seed: usize| -> Cell {
                let own = rows.iter().filter(|row| row[0] == seed);
                let values: Vec<_> =
                    own.map(|row| (row[1], row[2] as f64 - row[3] as f64)).collect();
                (values.iter().map(|value| value.1).sum::<f64>() / values.len() as f64, values)
            };
            let cells: Vec<_> = (0..seeds).map(cell).collect();
            let means: Vec<_> = cells.iter().map(|cell| cell.0).collect();
            let own = Summary::of(&means).and_then(|summary| summary.error()).expect("seeds");
            let shared = shared_prompts(&cells).expect("the same prompts");
            let wanted = case["variance"].as_f64().expect("a number");
            // A negative share of the prompts is taken for none.
            let found = own.powi(2) + shared.variance;
            assert!(found >= wanted - 1e-12, "{found} {wanted}");
            if shared.variance > 0.0 {
                shared_some = true;
                assert!((found - wanted).abs() <= 1e-9 * wanted, "{found} {wanted}");
            }
            let ([low, high], _) = over_seeds(&cells).expect("several seeds");
            assert!(high - low > 2.0 * 1.959 * found.sqrt(), "Student's t is wider");
        }
        assert!(shared_some);
    }
}
