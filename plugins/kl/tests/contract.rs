//! KL satisfies the laws of a defence, and its gradient is that of its recorded loss.

use serde_json::json;
use vxf_core::prelude::*;
use vxf_kl::{Form, Kl, KlConfig};
use vxf_testkit::case::{Case, cases, property};
use vxf_testkit::defense_laws;
use vxf_testkit::numbers::{entries, first_difference, nudged, relative_distance};
use vxf_testkit::training::{Nothing, Plain, defense_of, gradient, samples, training, weights};

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

/// Loss and gradient of KL at the weights `at`, with the aligned weights `aligned`.
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

/// KL with an aligned model that differs from the stage's initial model.
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
fn lambda_0_is_plain_fine_tuning_to_the_bit() {
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
            let plain = match form {
                Form::Corrected => run(Box::new(Plain))?,
                // These forms compute padding; so does plain fine-tuning in the same layout.
                Form::AxisCorrected | Form::Reference => {
                    run(defense_of(|step| step.on_main().rectangle().gradients()))?
                }
            };
            assert_eq!(first_difference(&plain, &kl)?, None, "a weight differs, {form:?}");
        }
        Ok(())
    });
}

/// The gradient is that of the recorded loss, which includes the divergence (finite differences).
#[test]
fn the_gradient_is_that_of_the_recorded_loss() {
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
            // Error of central differences in f64: 1e-10 times a third derivative, plus rounding.
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

/// At the aligned weights, without dropout, the divergence and its gradient are zero.
#[test]
fn the_divergence_vanishes_at_the_aligned_model() {
    property(8, (cases(), proptest_forms()), |(case, form)| {
        let case = Case { double: true, ..case }.without_dropout();
        let backbone = case.backbone()?;
        let aligned = case.weights(&*backbone)?;
        let with = |lambda| step(&case, &*backbone, KlConfig { lambda, form }, &aligned, &aligned);
        let ((pulled, with_pull), (plain, without)) = (with(4.0)?, with(0.0)?);
        assert!((pulled - plain).abs() < 1e-12, "loss {pulled} against {plain}");
        // The difference is rounding in f64.
        assert!(relative_distance(&with_pull, &without)? < 1e-10);
        Ok(())
    });
}
