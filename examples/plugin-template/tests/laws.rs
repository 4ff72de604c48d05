//! The laws of every defence, and a test of what this one computes.

use {{crate_name}}::MethodConfig;
use serde_json::json;
use vxf_core::prelude::*;
use vxf_testkit::case::{Case, cases, property};
use vxf_testkit::training::{Nothing, defense_of, gradient, samples, training};
// Registers the built-in plugins, such as the perturber `none`.
use vxf as _;

vxf_testkit::defense_laws!("{{project-name}}", json!({ "share": 0.5, "batch_size": 2 }));

/// A stage on random samples, with a stream of harmful ones.
fn stage<'a>(
    case: &Case,
    backbone: &'a dyn Backbone,
    defense: Box<dyn Defense>,
) -> Result<vxf_core::minmax::Training<'a>> {
    let key = Key::root(case.seed);
    let stream = |name| (name, samples(backbone, 5, &key.child(name)));
    let streams = vec![stream("alignment"), stream("harmful")];
    let weights = case.weights(backbone)?;
    training(backbone, &weights, streams, defense, Box::new(Nothing))
}

/// The formula, written a second time: the method's gradient is compared with that of two queries.
#[test]
fn it_subtracts_the_harmful_gradient() {
    property(6, cases(), |case| {
        // In f64, so that rounding is far below the bound.
        let case = Case { double: true, ..case };
        let backbone = case.backbone()?;
        let of =
            |defense| Ok::<_, vxf_core::Error>(gradient(stage(&case, &*backbone, defense)?)?.1);
        let config = MethodConfig { share: 0.5, ..MethodConfig::default() };
        let own = of(config.build(&BuildContext::bare())?)?;
        let main = of(defense_of(|step| step.on_main().gradients()))?;
        let harmful = of(defense_of(|step| {
            let (loss, gradients) = step.on("harmful").loss_and_gradients()?;
            step.record("loss", loss)?;
            Ok(gradients)
        }))?;
        assert!(harmful.norm()? > 0.0, "there is something to subtract");
        let off = own.sub(&main.add_scaled(&harmful, -0.5)?)?.norm()?;
        assert!(off < 1e-9, "off by {off}");
        Ok(())
    });
}
