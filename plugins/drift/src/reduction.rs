//! Reduces squared norms per token to one figure.

use candle_core::{DType, Tensor};
use vxf_core::prelude::*;

use crate::config::{Norm, Reduce};

/// Squared L2 norms over the width, for the counted positions of each row.
pub(crate) type Squares = Vec<Vec<f64>>;

/// Squared norms of the rows of `tensor` `[positions, width]`, sample by sample.
pub(crate) fn squares(tensor: &Tensor, rows: &Rows) -> Result<Squares> {
    let all = tensor.to_dtype(DType::F64)?.sqr()?.sum(1)?.to_vec1::<f64>()?;
    Ok(rows.ranges().map(|range| all[range].to_vec()).collect())
}

/// Accumulates norms over batches, by one definition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reduction {
    norm: Norm,
    reduce: Reduce,
    sum: f64,
    count: usize,
}

impl Reduction {
    pub(crate) fn new(norm: Norm, reduce: Reduce) -> Self {
        Self { norm, reduce, sum: 0.0, count: 0 }
    }

    /// Adds the squared norms of one batch at some sites, all of the same shape.
    pub(crate) fn add(&mut self, sites: &[Squares]) {
        match self.reduce {
            Reduce::Sum => {
                for site in sites {
                    self.push(site.iter().flatten().sum());
                }
            }
            Reduce::MeanSample => {
                for row in 0..rows(sites) {
                    self.push(sites.iter().flat_map(|site| &site[row]).sum());
                }
            }
            Reduce::MeanToken => {
                for row in 0..rows(sites) {
                    for position in 0..sites[0][row].len() {
                        self.push(sites.iter().map(|site| site[row][position]).sum());
                    }
                }
            }
        }
    }

    /// The figure; NaN for a mean of nothing.
    pub(crate) fn value(&self) -> f64 {
        match self.reduce {
            Reduce::Sum => self.sum,
            Reduce::MeanSample | Reduce::MeanToken => self.sum / self.count as f64,
        }
    }

    fn push(&mut self, squared: f64) {
        self.sum += match self.norm {
            Norm::L2 => squared.sqrt(),
            Norm::L2Squared => squared,
        };
        self.count += 1;
    }
}

fn rows(sites: &[Squares]) -> usize {
    sites.first().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two samples of two and one tokens at two sites: 9 16 | 4 and 0 0 | 12.
    fn value(norm: Norm, reduce: Reduce) -> f64 {
        let mut reduction = Reduction::new(norm, reduce);
        reduction.add(&[vec![vec![9.0, 16.0], vec![4.0]], vec![vec![0.0, 0.0], vec![12.0]]]);
        reduction.value()
    }

    #[test]
    fn norms_and_reductions_match_hand_computed_values() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(value(Norm::L2, Reduce::Sum), 29f64.sqrt() + 12f64.sqrt());
        close(value(Norm::L2Squared, Reduce::Sum), 41.0);
        close(value(Norm::L2, Reduce::MeanSample), (5.0 + 4.0) / 2.0);
        close(value(Norm::L2Squared, Reduce::MeanSample), (25.0 + 16.0) / 2.0);
        close(value(Norm::L2, Reduce::MeanToken), (3.0 + 4.0 + 4.0) / 3.0);
        close(value(Norm::L2Squared, Reduce::MeanToken), (9.0 + 16.0 + 16.0) / 3.0);
    }
}
