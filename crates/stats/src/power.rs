//! What a design could see.

use crate::distributions::ln_gamma;
use crate::{normal_two_sided, t_quantile};

/// The share of experiments in which Student's t over `seeds` rejects no difference at 5 %, if the
/// true mean is `effect` standard deviations of a seed's difference; by the noncentral t
/// distribution.
pub fn power(effect: f64, seeds: usize) -> f64 {
    if seeds < 2 {
        return 0.0;
    }
    let freedom = (seeds - 1) as f64;
    let shift = effect.abs() * (seeds as f64).sqrt();
    let critical = t_quantile(0.05, freedom);
    let above = |z: f64| match z >= 0.0 {
        true => 0.5 * normal_two_sided(z),
        false => 1.0 - 0.5 * normal_two_sided(z),
    };
    // Over the estimated standard deviation: s^2 freedom is chi-squared. Simpson's rule.
    let log = (1.0 - freedom / 2.0) * std::f64::consts::LN_2 - ln_gamma(freedom / 2.0);
    let density = |x: f64| match x > 0.0 {
        true => (log + (freedom - 1.0) * x.ln() - x * x / 2.0).exp(),
        false if seeds == 2 => log.exp(),
        false => 0.0,
    };
    let at = |x: f64| {
        let t = critical * x / freedom.sqrt();
        density(x) * (above(t - shift) + above(t + shift))
    };
    const PIECES: usize = 2000;
    let width = (freedom.sqrt() + 9.0) / PIECES as f64;
    let sum: f64 = (0..=PIECES)
        .map(|piece| {
            let weight = match piece {
                0 | PIECES => 1.0,
                piece if piece % 2 == 1 => 4.0,
                _ => 2.0,
            };
            weight * at(piece as f64 * width)
        })
        .sum();
    sum * width / 3.0
}

/// The smallest difference that an experiment finds in 80 % of its repetitions at 5 %, where `sd` is
/// the standard deviation of one seed's difference; none of fewer than two seeds.
pub fn detectable(sd: f64, seeds: usize) -> Option<f64> {
    if seeds < 2 {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while power(high, seeds) < 0.8 {
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        match power(middle, seeds) < 0.8 {
            true => low = middle,
            false => high = middle,
        }
    }
    Some(0.5 * (low + high) * sd)
}
