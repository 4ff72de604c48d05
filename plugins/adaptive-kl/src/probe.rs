//! A linear probe on hidden embeddings.

/// Steps of gradient descent.
const STEPS: usize = 400;
/// Their rate, on standardised features.
const RATE: f64 = 0.5;
/// Weight of the squared length of the probe's weights.
const DECAY: f64 = 1e-3;

/// Logistic regression on standardised features.
pub(crate) struct Probe {
    mean: Vec<f64>,
    scale: Vec<f64>,
    weights: Vec<f64>,
    bias: f64,
}

impl Probe {
    /// Fitted to examples of both kinds by gradient descent from zero.
    pub(crate) fn fit(features: &[Vec<f64>], harmful: &[bool]) -> Self {
        let n = features.len() as f64;
        let width = features.first().map_or(0, Vec::len);
        let mean: Vec<f64> =
            (0..width).map(|at| features.iter().map(|own| own[at]).sum::<f64>() / n).collect();
        let scale = (0..width).map(|at| {
            let spread = features.iter().map(|own| (own[at] - mean[at]).powi(2)).sum::<f64>() / n;
            // The root of the width keeps a logit of standardised features near 1.
            1.0 / ((spread.sqrt() + 1e-8) * (width as f64).sqrt())
        });
        let scale = scale.collect();
        let mut probe = Self { mean, scale, weights: vec![0.0; width], bias: 0.0 };
        let standard: Vec<Vec<f64>> = features.iter().map(|own| probe.standard(own)).collect();
        for _ in 0..STEPS {
            let mut slopes: Vec<f64> = probe.weights.iter().map(|it| DECAY * it).collect();
            let mut of_bias = 0.0;
            for (own, harmful) in standard.iter().zip(harmful) {
                let off = (probability(probe.logit(own)) - f64::from(u8::from(*harmful))) / n;
                slopes.iter_mut().zip(own).for_each(|(slope, it)| *slope += off * it);
                of_bias += off;
            }
            probe.weights.iter_mut().zip(&slopes).for_each(|(it, slope)| *it -= RATE * slope);
            probe.bias -= RATE * of_bias;
        }
        probe
    }

    fn standard(&self, features: &[f64]) -> Vec<f64> {
        let places = features.iter().zip(&self.mean).zip(&self.scale);
        places.map(|((it, mean), scale)| (it - mean) * scale).collect()
    }

    fn logit(&self, standard: &[f64]) -> f64 {
        self.bias + self.weights.iter().zip(standard).map(|(a, b)| a * b).sum::<f64>()
    }

    /// Whether it takes a sample for a harmful one.
    pub(crate) fn is_harmful(&self, features: &[f64]) -> bool {
        self.logit(&self.standard(features)) > 0.0
    }
}

fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_separates_what_a_line_separates() {
        let example = |at: usize| vec![at as f64, 100.0 - at as f64, (at * 7 % 5) as f64];
        let features: Vec<_> = (0..40).map(example).collect();
        let harmful: Vec<_> = (0..40).map(|at| at >= 20).collect();
        let probe = Probe::fit(&features, &harmful);
        let right = features.iter().zip(&harmful);
        let right = right.filter(|(own, harmful)| probe.is_harmful(own) == **harmful).count();
        assert!(right >= 38, "{right} of 40");
    }
}
