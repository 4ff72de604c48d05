//! Agreement of two judges beyond chance.

use crate::{Interval, Z95};

/// Cohen's kappa with its large-sample 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kappa {
    /// The coefficient: 1 is full agreement, 0 what chance gives.
    pub value: f64,
    /// Its interval, from the standard error of Fleiss, Cohen and Everitt (1969).
    pub interval: Interval,
}

/// Of a table of two judges: `table[a][b]` counts what the first called `a` and the second `b`.
/// None where chance alone makes them agree always.
pub fn kappa(table: [[f64; 2]; 2]) -> Option<Kappa> {
    let n: f64 = table.iter().flatten().sum();
    let share = |a: usize, b: usize| table[a][b] / n;
    let row = |a: usize| share(a, 0) + share(a, 1);
    let column = |b: usize| share(0, b) + share(1, b);
    let observed = share(0, 0) + share(1, 1);
    let chance = row(0) * column(0) + row(1) * column(1);
    let value = (observed - chance) / (1.0 - chance);
    if !value.is_finite() || chance >= 1.0 {
        return None;
    }
    let mut sum = -(value - chance * (1.0 - value)).powi(2);
    for a in 0..2 {
        sum += share(a, a) * (1.0 - (row(a) + column(a)) * (1.0 - value)).powi(2);
        sum += (1.0 - value).powi(2) * share(a, 1 - a) * (column(a) + row(1 - a)).powi(2);
    }
    let error = (sum.max(0.0) / n).sqrt() / (1.0 - chance);
    let interval = [(value - Z95 * error).max(-1.0), (value + Z95 * error).min(1.0)];
    Some(Kappa { value, interval })
}
