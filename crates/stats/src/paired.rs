//! Paired yes-no answers: what one method did and the other did not.

use crate::{Interval, Z95, normal_two_sided};

/// How often one of two paired answers has what is counted and the other has not.
///
/// Counts may be fractions, where answers depend on each other and count for less than one each.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Discordant {
    /// Pairs in which only the first has it.
    pub first: f64,
    /// Pairs in which only the second has it.
    pub second: f64,
    /// All pairs.
    pub pairs: f64,
}

impl Discordant {
    /// Of pairs.
    pub fn of(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        pairs.into_iter().fold(Self::default(), |counts, pair| Self {
            first: counts.first + f64::from(u8::from(pair == (true, false))),
            second: counts.second + f64::from(u8::from(pair == (false, true))),
            pairs: counts.pairs + 1.0,
        })
    }

    /// All counts times `factor`.
    pub fn scaled(self, factor: f64) -> Self {
        let Self { first, second, pairs } = self;
        Self { first: first * factor, second: second * factor, pairs: pairs * factor }
    }

    /// The share of the first minus that of the second.
    pub fn difference(&self) -> f64 {
        (self.first - self.second) / self.pairs
    }

    /// Tango's score interval of the difference (1998): all differences that the score test does not
    /// reject. It lies within -1 and 1, and excludes 0 exactly when McNemar's test rejects.
    pub fn interval(&self) -> Option<Interval> {
        if self.pairs.is_nan() || self.pairs <= 0.0 {
            return None;
        }
        let middle = self.difference();
        // The score falls as the difference under test rises.
        let bound = |mut inside: f64, mut outside: f64| {
            if self.score(outside).abs() <= Z95 {
                return outside;
            }
            for _ in 0..60 {
                let at = 0.5 * (inside + outside);
                match self.score(at).abs() <= Z95 {
                    true => inside = at,
                    false => outside = at,
                }
            }
            inside
        };
        Some([bound(middle, -1.0), bound(middle, 1.0)])
    }

    /// The score statistic of the difference `delta`, with the variance at the likeliest table of that
    /// difference.
    fn score(&self, delta: f64) -> f64 {
        let Self { first: b, second: c, pairs: n } = *self;
        // The likeliest share of pairs where only the second has it solves a quadratic.
        let half = 0.5 * (b + c - (2.0 * n - b + c) * delta);
        let root = (half * half + 2.0 * n * c * delta * (1.0 - delta)).max(0.0).sqrt();
        let share = ((half + root) / (2.0 * n)).max(0.0);
        let variance = n * (2.0 * share + delta * (1.0 - delta));
        let distance = b - c - n * delta;
        match variance > 0.0 {
            true => distance / variance.sqrt(),
            false if distance.abs() < 1e-12 * n => 0.0,
            false => distance.signum() * f64::INFINITY,
        }
    }

    /// The p-value of McNemar's test, by the normal approximation without correction; 1 where no pair
    /// differs.
    pub fn p(&self) -> f64 {
        let differ = self.first + self.second;
        match differ > 0.0 {
            true => normal_two_sided((self.first - self.second) / differ.sqrt()),
            false => 1.0,
        }
    }

    /// The exact p-value of McNemar's test, for whole counts: the pairs that differ are a fair coin's
    /// throws.
    pub fn exact_p(&self) -> f64 {
        let n = (self.first + self.second).round() as u64;
        let fewer = self.first.min(self.second).round() as u64;
        let (mut log, mut tail) = (-(n as f64) * std::f64::consts::LN_2, 0.0);
        for k in 0..=fewer {
            tail += log.exp();
            log += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
        }
        (2.0 * tail).min(1.0)
    }
}
