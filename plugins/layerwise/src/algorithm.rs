//! The perturbers and the defences that train where they perturb.

use std::collections::BTreeSet;

use rand::Rng;
use serde_json::{Value, json};
use vxf_core::prelude::*;

use crate::config::{OasisPerturberConfig, TVaccinePerturberConfig, Trained};
use crate::harm::{harmful_gradients, perturbation};

/// The defence of both methods: it trains at the perturbation, and leaves weights of other layers as they
/// are.
///
/// Where the inner player perturbs no hidden embedding, all weights train.
pub struct Where {
    trained: Trained,
}

impl Where {
    /// Trains the weights that `trained` says.
    pub fn new(trained: Trained) -> Self {
        Self { trained }
    }
}

impl Defense for Where {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let perturbation = inner.perturb(step)?;
        let Perturbation::Hidden(hidden) = &perturbation else {
            return step.gradients(&perturbation);
        };
        let layers: BTreeSet<_> = hidden.keys().map(|site| site.layer).collect();
        let wanted = |parameter: &Parameter| {
            let chosen = parameter.layer.is_some_and(|layer| layers.contains(&layer));
            match self.trained {
                Trained::All => true,
                Trained::Layers => chosen,
                Trained::Attention => chosen || parameter.part != Part::Attention,
            }
        };
        step.on_main().perturbed(&perturbation).of(&wanted).gradients()
    }
}

/// The perturber of T-Vaccine.
///
/// Every `rescore` steps it measures the harmful gradient norm of each layer; every `resample` steps it
/// draws `layers` of them without replacement, each with a probability in proportion to its norm.
pub struct Targeted {
    config: TVaccinePerturberConfig,
    /// Norm of the harmful gradient of each layer.
    norms: Vec<f64>,
    /// The drawn layers, in order.
    chosen: Vec<usize>,
    /// The step of the last update, so that a step's micro-batches share one.
    updated: Option<u64>,
}

impl Targeted {
    /// A perturber with these settings.
    pub fn new(config: TVaccinePerturberConfig) -> Self {
        Self { config, norms: Vec::new(), chosen: Vec::new(), updated: None }
    }

    fn update(&mut self, step: &mut Step<'_>) -> Result<()> {
        let index = step.index();
        if self.updated == Some(index) {
            return Ok(());
        }
        let TVaccinePerturberConfig { layers, resample, rescore, .. } = self.config;
        if index % rescore == 0 || self.norms.is_empty() {
            self.norms = harmful_gradients(step)?.1;
        }
        if index % resample == 0 || self.chosen.is_empty() {
            self.chosen = drawn(&self.norms, layers, &mut step.key("layers").rng());
        }
        self.updated = Some(index);
        Ok(())
    }
}

/// `count` of the items without replacement, each drawn in proportion to its weight among those left.
pub(crate) fn drawn(weights: &[f64], count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let mut left: Vec<_> = weights.iter().copied().enumerate().collect();
    let mut chosen = Vec::new();
    while chosen.len() < count && !left.is_empty() {
        let total: f64 = left.iter().map(|(_, weight)| weight).sum();
        let mut at = rng.random::<f64>() * total;
        let found = left.iter().position(|(_, weight)| {
            at -= weight;
            at < 0.0
        });
        // Rounding may leave nothing at the end; weights of zero are drawn last.
        chosen.push(left.remove(found.unwrap_or(left.len() - 1)).0);
    }
    chosen.sort_unstable();
    chosen
}

impl Perturber for Targeted {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        self.update(step)?;
        perturbation(step, &self.chosen, self.config.rho).map(Perturbation::Hidden)
    }

    fn state(&self) -> Result<State> {
        let values = json!({ "norms": self.norms, "chosen": self.chosen });
        Ok(State { tensors: Params::new(), values })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.norms = read(&state.values, "norms")?;
        self.chosen = read(&state.values, "chosen")?;
        Ok(())
    }
}

/// The perturber of OASIS.
///
/// Every `refresh` steps it takes the `layers` with the largest harmful gradient and the mean of that
/// gradient over positions, d. The perturbation is Vaccine's at these layers without its component along d:
/// `eps - (eps . d) / (||d||^2 + 1e-7) d`. Its norm is at most `rho`.
pub struct Oasis {
    config: OasisPerturberConfig,
    /// The chosen layers, in order.
    chosen: Vec<usize>,
    /// Mean harmful gradient at each of them, `[width, 1]`.
    directions: Hidden,
    updated: Option<u64>,
}

/// Added to the squared norm of a direction, as in the authors' code.
const EPSILON: f64 = 1e-7;

impl Oasis {
    /// A perturber with these settings.
    pub fn new(config: OasisPerturberConfig) -> Self {
        Self { config, chosen: Vec::new(), directions: Hidden::new(), updated: None }
    }

    fn update(&mut self, step: &mut Step<'_>) -> Result<()> {
        let index = step.index();
        let fresh = index % self.config.refresh == 0 || self.chosen.is_empty();
        if !fresh || self.updated == Some(index) {
            return Ok(());
        }
        let (gradients, norms) = harmful_gradients(step)?;
        let mut order: Vec<_> = (0..norms.len()).collect();
        order.sort_by(|&a, &b| norms[b].total_cmp(&norms[a]));
        order.truncate(self.config.layers);
        order.sort_unstable();
        let direction = |&layer: &usize| -> Result<_> {
            let site = Site::attention_output(layer);
            let gradient = gradients.get(&site).ok_or_else(|| Error::UnknownSite {
                site: site.to_string(),
                known: "other sites".into(),
            })?;
            Ok((site, gradient.mean_keepdim(0)?.t()?.contiguous()?))
        };
        self.directions = order.iter().map(direction).collect::<Result<_>>()?;
        (self.chosen, self.updated) = (order, Some(index));
        Ok(())
    }
}

impl Perturber for Oasis {
    fn perturb(&mut self, step: &mut Step<'_>) -> Result<Perturbation> {
        self.update(step)?;
        let mut hidden = perturbation(step, &self.chosen, self.config.rho)?;
        for (site, direction) in &self.directions {
            let Some(eps) = hidden.get(site) else { continue };
            let square = (direction.sqr()?.sum_keepdim(0)? + EPSILON)?;
            let along = eps.matmul(direction)?.broadcast_div(&square)?;
            let orthogonal = (eps - along.matmul(&direction.t()?)?)?;
            hidden.insert(*site, orthogonal);
        }
        Ok(Perturbation::Hidden(hidden))
    }

    fn state(&self) -> Result<State> {
        let named =
            |(site, tensor): (&Site, &candle_core::Tensor)| (site.to_string(), tensor.clone());
        let tensors = self.directions.iter().map(named).collect();
        Ok(State { tensors, values: json!({ "chosen": self.chosen }) })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        self.chosen = read(&state.values, "chosen")?;
        let sites = state.tensors.into_iter().map(|(name, tensor)| Ok((name.parse()?, tensor)));
        self.directions = sites.collect::<Result<_>>()?;
        Ok(())
    }
}

/// The list called `name` in a saved state.
fn read<T: serde::de::DeserializeOwned>(values: &Value, name: &str) -> Result<Vec<T>> {
    let found = values.get(name).cloned().unwrap_or_default();
    serde_json::from_value(found)
        .map_err(|error| Error::State(format!("`{name}` of the perturber: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_drawn_without_replacement_in_proportion() {
        let mut rng = Key::root(1).rng();
        let weights = [1.0, 0.0, 3.0, 4.0];
        let mut first = [0; 4];
        for _ in 0..4000 {
            let one = drawn(&weights, 1, &mut rng);
            first[one[0]] += 1;
        }
        for (count, weight) in first.iter().zip(weights) {
            assert!((f64::from(*count) / 4000.0 - weight / 8.0).abs() < 0.03, "{first:?}");
        }
        assert_eq!(drawn(&weights, 3, &mut rng), [0, 2, 3]);
        assert_eq!(drawn(&weights, 9, &mut rng), [0, 1, 2, 3]);
    }
}
