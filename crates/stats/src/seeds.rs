//! One figure over seeds.

use crate::{Interval, t_quantile, t_two_sided};

/// Mean and spread of a figure over seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; none of a single value.
    pub sd: Option<f64>,
    /// How many values there are.
    pub n: usize,
}

impl Summary {
    /// Of `values`; none if there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        if n == 0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let sd = (n > 1).then(|| (squares / (n - 1) as f64).sqrt());
        Some(Self { mean, sd, n })
    }

    /// The standard error of the mean; none of a single value.
    pub fn error(&self) -> Option<f64> {
        Some(self.sd? / (self.n as f64).sqrt())
    }

    /// The 95 % interval of the mean under Student's t; none of a single value.
    pub fn interval(&self) -> Option<Interval> {
        let half = t_quantile(0.05, (self.n - 1) as f64) * self.error()?;
        Some([self.mean - half, self.mean + half])
    }

    /// The p-value of a mean of 0 under Student's t; none of a single value.
    pub fn p(&self) -> Option<f64> {
        let error = self.error()?;
        Some(match error > 0.0 {
            true => t_two_sided(self.mean / error, (self.n - 1) as f64),
            false if self.mean == 0.0 => 1.0,
            false => 0.0,
        })
    }
}
