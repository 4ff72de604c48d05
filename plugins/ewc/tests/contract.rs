//! EWC satisfies the laws of a defence, and its gradient is that of its recorded loss.

use serde_json::json;
use vxf_core::prelude::*;
use vxf_ewc::{Ewc, EwcConfig};
use vxf_testkit::case::{Case, cases, property};
use vxf_testkit::defense_laws;
use vxf_testkit::numbers::{entries, first_difference, nudged};
use vxf_testkit::training::{Nothing, Plain, gradient, samples, training};

mod corrected {
    use super::*;
    defense_laws!("ewc", json!({ "lambda": 3.0 }));
}

mod reference {
    use super::*;
    defense_laws!("ewc", json!({ "lambda": 3.0, "form": "reference", "fisher_batches": 2 }));
}

fn stage<'a>(
    case: &Case,
    backbone: &'a dyn Backbone,
    weights: &Params,
    defense: Box<dyn Defense>,
) -> Result<vxf_core::minmax::Training<'a>> {
    let key = Key::root(case.seed);
    let stream = |name| (name, samples(backbone, 5, &key.child(name)));
    let streams = vec![stream("user"), stream("alignment")];
    training(backbone, weights, streams, defense, Box::new(Nothing))
}

#[test]
fn lambda_0_is_plain_fine_tuning_to_the_bit() {
    property(8, cases(), |case| {
        let backbone = case.backbone()?;
        let weights = case.weights(&*backbone)?;
        let ewc = Ewc::new(EwcConfig { lambda: 0.0, ..EwcConfig::default() });
        let run = |defense| -> Result<Params> {
            let mut stage = stage(&case, &*backbone, &weights, defense)?;
            stage.prepare()?;
            (0..3).try_for_each(|_| stage.step().map(|_| ()))?;
            Ok(stage.weights)
        };
        let (plain, ewc) = (run(Box::new(Plain))?, run(Box::new(ewc))?);
        assert_eq!(first_difference(&plain, &ewc)?, None, "a weight differs");
        Ok(())
    });
}

/// The gradient is that of the recorded loss, which includes the penalty (finite differences).
#[test]
fn the_gradient_is_that_of_the_recorded_loss() {
    property(6, cases(), |case| {
        let case = Case { double: true, ..case };
        let backbone = case.backbone()?;
        let aligned = case.weights(&*backbone)?;
        let away = vxf_testkit::training::weights(&*backbone, case.seed ^ 1)?;
        // Prepared at the aligned weights, evaluated at other weights.
        let at = |weights: &Params| -> Result<_> {
            let ewc = Ewc::new(EwcConfig { lambda: 5.0, ..EwcConfig::default() });
            let mut prepared = stage(&case, &*backbone, &aligned, Box::new(ewc))?;
            prepared.prepare()?;
            let mut moved = stage(&case, &*backbone, weights, Box::new(Plain))?;
            moved.session.snapshots = prepared.session.snapshots.clone();
            moved.defense = Box::new(Prepared(prepared.defense));
            let (observation, gradient) = gradient(moved)?;
            Ok((observation.figures["loss"], gradient))
        };
        let (_, gradients) = at(&away)?;
        for (name, gradient) in gradients.iter() {
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
            let bound = 1e-7 + 1e-5 * gradient[index].abs();
            let off = (gradient[index] - difference).abs();
            assert!(off <= bound, "`{name}`: {} against {difference}", gradient[index]);
        }
        Ok(())
    });
}

/// A defence that is already prepared.
struct Prepared(Box<dyn Defense>);

impl Defense for Prepared {
    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        self.0.gradients(inner, step)
    }
}
