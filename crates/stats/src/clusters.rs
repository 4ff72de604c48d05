//! Answers that depend on each other: several to one prompt, prompts of one group.

use crate::{Z95, t_quantile};

/// Values that come in clusters, and what the clusters make of their mean's precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clustered {
    /// The mean.
    pub mean: f64,
    /// How many values there are.
    pub n: usize,
    /// How many clusters there are.
    pub clusters: usize,
    /// The variance of the mean if values were independent.
    pub independent: f64,
    /// The cluster-robust variance of the mean, with the correction `G / (G - 1)` for `G` clusters.
    pub robust: f64,
}

impl Clustered {
    /// Of values, each with the number of its cluster; none if there are none.
    pub fn of(values: &[(usize, f64)]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().map(|(_, value)| value).sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|(_, value)| (value - mean).powi(2)).sum();
        let mut sorted = values.to_vec();
        sorted.sort_by_key(|(cluster, _)| *cluster);
        let sums = sorted
            .chunk_by(|a, b| a.0 == b.0)
            .map(|cluster| -> f64 { cluster.iter().map(|(_, value)| value - mean).sum() });
        let (clusters, between) =
            sums.fold((0, 0.0), |(count, squares), sum| (count + 1, squares + sum * sum));
        let correction = if clusters > 1 { clusters as f64 / (clusters - 1) as f64 } else { 1.0 };
        let size = (n * n) as f64;
        let robust = correction * between / size;
        Some(Self { mean, n, clusters, independent: squares / size, robust })
    }

    /// How many independent values the mean is worth: `n` divided by the design effect, and by the
    /// price of knowing the variance from few clusters.
    ///
    /// Never more than `n`. Where all values agree their variance tells nothing, and every cluster
    /// counts once.
    pub fn effective(&self) -> f64 {
        let (n, clusters) = (self.n as f64, self.clusters as f64);
        if self.clusters == self.n {
            return n;
        }
        if self.independent <= 0.0 || self.clusters < 2 {
            return clusters;
        }
        let effect = (self.robust / self.independent).max(1.0);
        let price = (t_quantile(0.05, clusters - 1.0) / Z95).powi(2);
        // One cluster is never worth less than one value.
        (n / (effect * price)).max(1.0)
    }
}
