//! Means over seeds, standard deviations, and intervals of paired differences.

/// Mean and standard deviation of a figure over seeds.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The mean.
    pub mean: f64,
    /// The sample standard deviation; `None` for a single value.
    pub sd: Option<f64>,
    /// Number of values.
    pub n: usize,
}

impl Summary {
    /// Summary of `values`; `None` if there are none.
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

    /// The 95 % interval of the mean by Student's t; `None` for a single value.
    pub fn interval(&self) -> Option<[f64; 2]> {
        let half = t_quantile(self.n - 1) * self.sd? / (self.n as f64).sqrt();
        Some([self.mean - half, self.mean + half])
    }
}

/// The 97.5 % quantile of Student's t with `freedom` degrees of freedom.
fn t_quantile(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    match freedom.checked_sub(1).and_then(|index| TABLE.get(index)) {
        Some(quantile) => *quantile,
        None => {
            // The first terms of the Cornish-Fisher expansion; accurate to 1e-3 from 31 degrees of
            // freedom on.
            let (z, v) = (1.959_964_f64, freedom.max(1) as f64);
            z + (z.powi(3) + z) / (4.0 * v)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_match_hand_figures() {
        let summary = Summary::of(&[1.0, 2.0, 6.0]).expect("three values");
        assert_eq!((summary.mean, summary.n), (3.0, 3));
        assert!((summary.sd.expect("three values") - 7f64.sqrt()).abs() < 1e-12);
        let [low, high] = summary.interval().expect("three values");
        let half = 4.303 * (7.0f64 / 3.0).sqrt();
        assert!((low - (3.0 - half)).abs() < 1e-12 && (high - (3.0 + half)).abs() < 1e-12);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[4.0]).and_then(|one| one.interval()), None);
        assert!((t_quantile(60) - 2.000).abs() < 2e-3);
    }
}
