//! KL keeps the laws of its kind, and descends along the gradient of what it says it is.

use serde_json::json;
use vxf_core::prelude::*;
use vxf_kl::{Form, Kl, KlConfig};
use vxf_testkit::case::{Case, cases, property};
use vxf_testkit::defense_laws;
use vxf_testkit::numbers::{entries, first_difference, nudged, relative_distance};
use vxf_testkit::training::{Nothing, Plain, gradient, samples, training, weights};

mod corrected {
    use super::*;
    defense_laws!("kl", json!({ "lambda": 0.5 }));
}

mod reference {
    use super::*;
    defense_laws!("kl", json!({ "lambda": 0.5, "form": "reference" }));
}

const FORMS: [Form; 3] = [Form::Corrected, Form::AxisCorrected, Form::Reference];

fn stage<'a>(
    case: &Case,
    backbone: &'a dyn Backbone,
    weights: &Params,
    defense: Box<dyn Defense>,
) -> Result<vxf_core::minmax::Training<'a>> {
    let streams = vec![("user", samples(backbone, 5, &Key::root(case.seed)))];
    training(backbone, weights, streams, defense, Box::new(Nothing))
}

/// The step of KL at `at` with the aligned model at `aligned`.
fn step(
    case: &Case,
    backbone: &dyn Backbone,
    config: KlConfig,
    aligned: &Params,
    at: &Params,
) -> Result<(f64, Gradients)> {
    let mut stage = stage(case, backbone, at, Box::new(Aligned(Kl::new(config), aligned.clone())))?;
    stage.session.recompute = case.recompute();
    let (observation, gradient) = gradient(stage)?;
    Ok((observation.figures["loss"], gradient))
}

/// KL whose aligned model is not the one that its stage begins with.
struct Aligned(Kl, Params);

impl Defense for Aligned {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        step.with_weights(&self.1, |step| self.0.prepare(step))
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        self.0.gradients(inner, step)
    }
}

#[test]
fn without_its_penalty_it_is_plain_fine_tuning() {
    property(8, cases(), |case| {
        let backbone = case.backbone()?;
        let weights = case.weights(&*backbone)?;
        for form in FORMS {
            let run = |defense| -> Result<Params> {
                let mut stage = stage(&case, &*backbone, &weights, defense)?;
                stage.prepare()?;
                (0..3).try_for_each(|_| stage.step().map(|_| ()))?;
                Ok(stage.weights)
            };
            let kl = run(Box::new(Kl::new(KlConfig { lambda: 0.0, form })))?;
            let plain = run(Box::new(Plain))?;
            assert_eq!(first_difference(&plain, &kl)?, None, "a weight that differs, {form:?}");
        }
        Ok(())
    });
}

/// The loss that is recorded, divergence included, has the gradient that is descended along.
#[test]
fn the_divergence_has_the_gradient_it_says() {
    property(6, (cases(), proptest_forms()), |(case, form)| {
        let case = Case { double: true, ..case };
        let backbone = case.backbone()?;
        let (aligned, away) = (case.weights(&*backbone)?, weights(&*backbone, case.seed ^ 1)?);
        let config = KlConfig { lambda: 2.0, form };
        let at = |weights: &Params| step(&case, &*backbone, config.clone(), &aligned, weights);
        for (name, gradient) in at(&away)?.1.iter() {
            let gradient = entries(gradient)?;
            let largest = (0..gradient.len())
                .max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
            let index = largest.expect("no empty tensor");
            let loss = |by| -> Result<f64> {
                let mut moved = away.clone();
                let weight = away.get(name).expect("the same names");
                moved.insert(name, nudged(weight, index, by)?);
                Ok(at(&moved)?.0)
            };
            let difference = (loss(1e-5)? - loss(-1e-5)?) / 2e-5;
            // Central differences in f64: 1e-10 times a third derivative, and rounding.
            let bound = 1e-6 + 1e-5 * gradient[index].abs();
            let off = (gradient[index] - difference).abs();
            assert!(off <= bound, "`{name}`: {} against {difference}", gradient[index]);
        }
        Ok(())
    });
}

fn proptest_forms() -> impl proptest::strategy::Strategy<Value = Form> {
    proptest::sample::select(FORMS.to_vec())
}

/// At the aligned model itself, without dropout, the divergence is at its minimum.
#[test]
fn the_aligned_model_feels_no_pull() {
    property(8, (cases(), proptest_forms()), |(case, form)| {
        let case = Case { double: true, ..case }.without_dropout();
        let backbone = case.backbone()?;
        let aligned = case.weights(&*backbone)?;
        let with = |lambda| step(&case, &*backbone, KlConfig { lambda, form }, &aligned, &aligned);
        let ((pulled, with_pull), (plain, without)) = (with(4.0)?, with(0.0)?);
        assert!((pulled - plain).abs() < 1e-12, "loss {pulled} against {plain}");
        // Probabilities minus themselves, in f64.
        assert!(relative_distance(&with_pull, &without)? < 1e-10);
        Ok(())
    });
}
