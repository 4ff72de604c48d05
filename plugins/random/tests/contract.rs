//! The random control satisfies the laws of a perturber, and its noise has the given strength.

use serde_json::json;
use vxf_core::prelude::*;
use vxf_random::{Form, Gaussian, GaussianConfig};
use vxf_testkit::perturber::Asked;
use vxf_testkit::{config_laws, perturber_laws};

fn noise(asked: &Asked, form: Form) -> Box<dyn Perturber> {
    let (rho, sites) = (asked.rho, asked.sites.clone());
    Box::new(Gaussian::new(GaussianConfig { rho, form, sites }))
}

config_laws!(perturber "gaussian", json!({ "rho": 0.01, "form": "reference", "sites": ["block_output"] }));

mod norm_matched {
    use super::*;
    perturber_laws!(|asked: &Asked| noise(asked, Form::NormMatched));
}

mod reference {
    use super::*;
    perturber_laws!(|asked: &Asked| noise(asked, Form::Reference));
}

mod strength {
    use super::*;
    use vxf_core::numeric::sum_of_squares;
    use vxf_testkit::Scope;
    use vxf_testkit::case::{Case, cases, property};
    use vxf_testkit::recording::Forward;
    use vxf_testkit::training::{Plain, accumulating};

    /// The outer passes of the first two steps.
    fn passes(case: &Case, rho: f64, form: Form) -> Result<Vec<Forward>> {
        let backbone = case.backbone()?;
        let recording = vxf_testkit::Recording::new(&*backbone);
        let asked = Asked { rho, scope: Scope::Global, sites: case.selection()? };
        let weights = case.weights(&*backbone)?;
        let batches = vec![case.batch()?];
        let mut stage =
            accumulating(&recording, &weights, batches, Box::new(Plain), noise(&asked, form))?;
        stage.session.key = Key::root(case.seed);
        stage.step()?;
        stage.step()?;
        Ok(recording.take())
    }

    #[test]
    fn matched_noise_has_norm_rho_over_the_batch() {
        property(24, (cases(), 0.01f64..10.0), |(case, rho)| {
            let passes = passes(&Case { double: true, ..case }, rho, Form::NormMatched)?;
            assert_eq!(passes.len(), 2, "noise needs no extra pass");
            for pass in &passes {
                let squares =
                    pass.added()?.values().map(sum_of_squares).sum::<candle_core::Result<f64>>()?;
                assert!((squares.sqrt() / rho - 1.0).abs() < 1e-9, "norm {}", squares.sqrt());
            }
            Ok(())
        });
    }

    #[test]
    fn reference_noise_has_variance_rho_at_real_tokens() {
        let (mut squares, mut count) = (0.0, 0.0);
        for seed in 0..40 {
            let case = Case {
                shape: vxf_testkit::ToyShape::default(),
                double: true,
                lora: false,
                rows: 4,
                longest: 7,
                padding: Padding::LeftOut,
                sites: vec!["attention_output".into()],
                blockwise: true,
                seed,
            };
            let tokens: usize = case.batch().expect("a batch").lengths.iter().sum();
            let passes = passes(&case, 0.3, Form::Reference).expect("two steps");
            for pass in &passes {
                for tensor in pass.added().expect("differences").values() {
                    squares += sum_of_squares(tensor).expect("numbers");
                }
            }
            count += (passes.len() * tokens * case.shape.width * case.shape.layers) as f64;
        }
        // Five standard errors of a variance, sqrt(2 / n) each.
        let bound = 5.0 * (2.0f64 / count).sqrt();
        assert!((squares / count / 0.3 - 1.0).abs() < bound, "variance {}", squares / count);
    }

    #[test]
    fn every_step_draws_new_noise() {
        property(8, cases(), |case| {
            let passes = passes(&case, 1.0, Form::NormMatched)?;
            let added = |pass: &Forward| -> Result<Vec<f64>> {
                let added = pass.added()?;
                let all = added.values().map(vxf_testkit::numbers::entries);
                Ok(all.collect::<Result<Vec<_>>>()?.concat())
            };
            assert_ne!(added(&passes[0])?, added(&passes[1])?);
            Ok(())
        });
    }
}
