//! How the alignment loss bends along the way from the aligned model to the fine-tuned one.

use vxf_core::metric::{Better, Model, View};
use vxf_core::prelude::*;

use crate::algorithm::mean_loss;
use crate::config::Average;

pub(crate) const NAME: &str = "curvature";

/// The second difference of the alignment loss L on the straight way `w(t) = w_0 + t (w_1 - w_0)` of the trained
/// weights, from the aligned model at t = 0 to the fine-tuned one at t = 1: `4 (L(0) - 2 L(1/2) + L(1))`.
///
/// It is the mean second derivative of L along the attack, in nats for the attack's own length. A loss that rises
/// late (a flat region around the aligned model, then a slope) has a large one; a loss that rises at once and
/// levels off has a negative one.
#[derive(Clone, Copy, Debug)]
pub struct Curvature;

impl Metric for Curvature {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let aligned = view.reference(NAME, "aligned")?;
        let batches = view.batches(NAME, "alignment")?;
        let loss = |model: Model<'_>| -> Result<(f64, usize)> {
            let mean = mean_loss(model, &batches, Average::Token)?;
            let need = "`alignment` samples with an answer that survives truncation".to_owned();
            let mean = mean.ok_or(Error::MissingData { metric: NAME.to_owned(), need })?;
            Ok((mean.nats, mean.samples))
        };
        let start = start(view.model, aligned)?;
        let at = |t: f64| -> Result<f64> {
            let weights = between(&start, view.model.weights, t)?;
            Ok(loss(Model { backbone: view.model.backbone, weights: &weights })?.0)
        };
        let (before, samples) = loss(aligned)?;
        let (first, middle, last) = (at(0.0)?, at(0.5)?, loss(view.model)?.0);
        // The way must begin at the aligned model. A merged adapter is rounded to the stored type, bf16 at the
        // coarsest, which moves a loss by less than a hundredth; another beginning moves it by far more.
        if (first - before).abs() > 1e-3 + 1e-2 * before.abs() {
            return Err(Error::Unsuitable(
                "curvature: the trained weights do not begin at the aligned model, so that there is no straight \
                 way from it"
                    .to_owned(),
            ));
        }
        let bend = 4.0 * (first - 2.0 * middle + last);
        let figure = Measurement::new(NAME, bend, "nats", Better::Higher, samples)
            .with("start", first)
            .with("middle", middle)
            .with("end", last);
        Ok(vec![figure])
    }
}

/// The trained weights at which `model` is the aligned one.
fn start(model: Model<'_>, aligned: Model<'_>) -> Result<Params> {
    if std::ptr::addr_eq(model.backbone, aligned.backbone)
        && model.weights.names().eq(aligned.weights.names())
    {
        return Ok(aligned.weights.detach());
    }
    let own = model.weights.iter().map(|(name, trained)| {
        let missing = || Error::ParameterMismatch { name: name.to_owned() };
        let tensor = match model.backbone.trainable() {
            Trainable::Full => model.backbone.tensor(name)?.ok_or_else(missing)?,
            // A fresh adapter has B = 0.
            Trainable::Lora(_) if name.ends_with("lora_B") => trained.zeros_like()?,
            Trainable::Lora(_) => trained.clone(),
        };
        Ok((name.to_owned(), tensor.detach().to_dtype(trained.dtype())?))
    });
    own.collect()
}

/// `start + t (end - start)`.
fn between(start: &Params, end: &Params, t: f64) -> Result<Params> {
    let own = end.iter().map(|(name, end)| {
        let missing = || Error::ParameterMismatch { name: name.to_owned() };
        let (start, end) = (start.get(name).ok_or_else(missing)?, end.detach());
        Ok((name.to_owned(), (start + ((end - start)? * t)?)?))
    });
    own.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use candle_core::DType;
    use vxf_testkit::metric::probes;
    use vxf_testkit::toy::{Toy, ToyShape};
    use vxf_testkit::{batches, training};

    use super::*;

    fn measured(model: Model<'_>, aligned: Model<'_>) -> Result<Measurement> {
        let samples = batches::examples(5, 6, ToyShape::default().vocabulary, &Key::root(3));
        let probes = probes(BTreeMap::from([("alignment".to_owned(), samples)]), 2);
        let view = View::new(model, &probes).with_reference("aligned", aligned);
        Ok(Curvature.measure(&view)?.remove(0))
    }

    /// Weights moved by a small step bend as the loss does: against losses at other points of the way.
    #[test]
    fn it_is_the_second_difference_along_the_way() -> Result<()> {
        let toy = Toy::new(&ToyShape::default(), DType::F64, 1)?;
        let (start, end) = (toy.initial(&Key::root(0))?, training::weights(&toy, 5)?);
        let aligned = Model { backbone: &toy, weights: &start };
        let figure = measured(Model { backbone: &toy, weights: &end }, aligned)?;
        let at = |t: f64| -> Result<f64> {
            let weights = between(&start, &end, t)?;
            let own = measured(Model { backbone: &toy, weights: &weights }, aligned)?;
            Ok(own.details["end"].as_f64().expect("a loss"))
        };
        let expected = 4.0 * (at(0.0)? - 2.0 * at(0.5)? + at(1.0)?);
        assert!((figure.value - expected).abs() < 1e-9, "{} {expected}", figure.value);
        assert!(figure.value != 0.0);
        // No way at all bends nowhere.
        assert_eq!(measured(aligned, aligned)?.value, 0.0);
        Ok(())
    }

    #[test]
    fn a_way_that_begins_elsewhere_is_refused() -> Result<()> {
        let toy = Toy::new(&ToyShape::default(), DType::F64, 1)?;
        let other = Toy::new(&ToyShape::default(), DType::F64, 2)?;
        let (aligned, end) = (other.initial(&Key::root(0))?, training::weights(&toy, 5)?);
        let aligned = Model { backbone: &other, weights: &aligned };
        let error = measured(Model { backbone: &toy, weights: &end }, aligned).err();
        let error = error.expect("refused").to_string();
        assert!(error.contains("aligned model"), "{error}");
        Ok(())
    }
}
