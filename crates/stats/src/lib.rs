//! Intervals, tests and power for rates over prompts and seeds.
//!
//! Rates are shares between 0 and 1, differences lie between -1 and 1. Nothing here knows of models,
//! records or percent. `docs/statistics.md` describes every estimator in words;
//! `tests/recorded.rs` holds them to numbers of scipy and statsmodels, and to published examples.

mod clusters;
mod difference;
mod distributions;
mod holm;
mod kappa;
mod level;
mod paired;
mod power;
mod rate;
mod repeated;
mod seeds;

pub use clusters::Clustered;
pub use difference::{Answer, Difference, Seed};
pub use distributions::{Z95, normal_two_sided, t_quantile, t_two_sided};
pub use holm::holm;
pub use kappa::{Kappa, kappa};
pub use level::{Level, SeedLevel};
pub use paired::Discordant;
pub use power::{detectable, power};
pub use rate::wilson;
pub use seeds::Summary;

/// A 95 % interval.
pub type Interval = [f64; 2];

/// The smallest interval that holds both.
pub fn hull(a: Interval, b: Interval) -> Interval {
    [a[0].min(b[0]), a[1].max(b[1])]
}
