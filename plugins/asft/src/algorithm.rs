//! The penalty and its gradient.

use std::collections::BTreeMap;

use candle_core::Tensor;
use vxf_core::numeric::sum_of_squares;
use vxf_core::prelude::*;

use crate::config::AsftConfig;

/// `J = u(w) + lambda sum_l ||(I - C_l) D_l||^2`, with D_l what the user's training changed in linear layer
/// l, `C = V V^T / ||V||` and V what alignment changed there.
///
/// With an adapter D is its product `B A`, without its scale; with full weights `W - W_aligned`. Layers that alignment did
/// not change have no direction, and no penalty.
pub struct Asft {
    config: AsftConfig,
    /// `I - C` of each module that alignment changed; made at the first step, also after a resume.
    rests: Option<BTreeMap<String, Tensor>>,
}

impl Asft {
    /// AsFT with these settings.
    pub fn new(config: AsftConfig) -> Self {
        Self { config, rests: None }
    }

    /// The trained linear layers.
    fn modules(step: &Step<'_>) -> Vec<String> {
        let linear = |parameter: &&Parameter| {
            let part = matches!(parameter.part, Part::Attention | Part::Mlp);
            part && match step.trainable() {
                Trainable::Full => parameter.shape.len() == 2,
                Trainable::Lora(_) => parameter.name.ends_with(".lora_B"),
            }
        };
        let all = step.parameters().iter().filter(linear);
        all.map(|parameter| parameter.module().to_owned()).collect()
    }

    fn rests(step: &Step<'_>) -> Result<BTreeMap<String, Tensor>> {
        let mut rests = BTreeMap::new();
        for module in Self::modules(step) {
            let aligned = step.reference(Reference::Aligned)?.weight(&module)?;
            let v = (aligned - step.reference(Reference::Base)?.weight(&module)?)?;
            let length = sum_of_squares(&v)?.sqrt();
            if length > 0.0 {
                let one = Tensor::eye(v.dim(0)?, v.dtype(), v.device())?;
                rests.insert(module, (one - (v.matmul(&v.t()?)? / length)?)?);
            }
        }
        Ok(rests)
    }

    /// The penalty of a module, and its gradient with respect to each of its trained tensors.
    fn penalty(
        step: &Step<'_>,
        module: &str,
        rest: &Tensor,
    ) -> Result<(f64, Vec<(String, Tensor)>)> {
        let part = |name: String| -> Result<Tensor> {
            let found = step.weights().get(&name).map(Tensor::detach);
            found.ok_or(Error::ParameterMismatch { name })
        };
        match step.trainable() {
            Trainable::Full => {
                let name = format!("{module}.weight");
                let weight = part(name.clone())?;
                let change = (&weight - step.reference(Reference::Aligned)?.weight(module)?)?;
                let outside = rest.matmul(&change)?;
                let slope = (rest.t()?.matmul(&outside)? * 2.0)?;
                Ok((sum_of_squares(&outside)?, vec![(name, slope)]))
            }
            // Without the adapter's scale, as in the authors' code.
            Trainable::Lora(_) => {
                let (a_name, b_name) = (Lora::a_of(module), Lora::b_of(module));
                let (a, b) = (part(a_name.clone())?, part(b_name.clone())?);
                let change = b.matmul(&a)?;
                let outside = rest.matmul(&change)?;
                let slope = (rest.t()?.matmul(&outside)? * 2.0)?;
                let of_a = b.t()?.matmul(&slope)?;
                let of_b = slope.matmul(&a.t()?)?;
                Ok((sum_of_squares(&outside)?, vec![(a_name, of_a), (b_name, of_b)]))
            }
        }
    }
}

impl Defense for Asft {
    fn per_step(&self) -> bool {
        // The penalty does not depend on the batch: once a step is enough.
        true
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let rests = match self.rests.take() {
            Some(rests) => rests,
            None => Self::rests(step)?,
        };
        let mut gradients = step.accumulate(|step| {
            let perturbation = inner.perturb(step)?;
            step.gradients(&perturbation)
        })?;
        let lambda = self.config.lambda;
        let mut penalty = 0.0;
        for (module, rest) in &rests {
            let (value, slopes) = Self::penalty(step, module, rest)?;
            penalty += value;
            for (name, slope) in slopes {
                let Some(before) = gradients.get(&name) else { continue };
                let sum = (before + (slope.to_dtype(before.dtype())? * lambda)?)?;
                gradients.insert(name, sum);
            }
        }
        self.rests = Some(rests);
        step.record("loss", lambda * penalty)?;
        Ok(gradients)
    }
}
