//! Learning-rate schedules, as Hugging Face's trainer computes them.

use serde::{Deserialize, Serialize};

/// The decay of the rate after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Linearly to 0.
    Linear,
    /// Along half a cosine to 0.
    #[default]
    Cosine,
}

/// The learning rate of every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// How it falls.
    pub decay: Decay,
    /// Steps over which it rises from 0; the first of them has rate 0.
    pub warmup: u64,
    /// Steps of the stage.
    pub total: u64,
}

impl Schedule {
    /// The rate of the zero-based step `step`.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * step as f64 / self.warmup as f64;
        }
        let span = self.total.saturating_sub(self.warmup).max(1) as f64;
        let progress = (step - self.warmup) as f64 / span;
        self.peak
            * match self.decay {
                Decay::Constant => 1.0,
                Decay::Linear => (1.0 - progress).max(0.0),
                Decay::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_starts_at_zero_and_cosine_ends_near_it() {
        let schedule = Schedule { peak: 2.0, decay: Decay::Cosine, warmup: 2, total: 6 };
        let rates: Vec<_> = (0..6).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates[..3], [0.0, 1.0, 2.0]);
        assert!((rates[4] - 1.0).abs() < 1e-12 && rates[5] > 0.0);
        let linear = Schedule { decay: Decay::Linear, ..schedule };
        assert_eq!(linear.rate(4), 1.0);
    }
}
