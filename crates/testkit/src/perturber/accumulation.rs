//! Laws of accumulated micro-batches.

use proptest::prelude::*;
use vxf_core::{Backbone, Batch, Gradients, Params, Perturber, Result};

use super::gradient::{GUARD, clean};
use super::{Asked, radius_and_scope};
use crate::case::{Case, cases, property};
use crate::numbers::{norm, relative_distance};
use crate::scope::Scope;
use crate::training::{Plain, accumulating, gradient};

/// Cases in f64, because in f32 the order of sums over tokens changes a gradient by about 1e-6.
fn exact_cases() -> impl Strategy<Value = Case> {
    (cases(), 2usize..=5).prop_map(|(case, rows)| Case {
        double: true,
        rows,
        ..case.without_dropout()
    })
}

fn of(
    case: &Case,
    backbone: &dyn Backbone,
    weights: &Params,
    batches: Vec<Batch>,
    perturber: Box<dyn Perturber>,
) -> Result<Gradients> {
    let mut stage = accumulating(backbone, weights, batches, Box::new(Plain), perturber)?;
    stage.session.recompute = case.recompute();
    Ok(gradient(stage)?.1)
}

/// With these settings, k micro-batches give the gradient of the large batch.
pub fn equals_the_large_batch(
    make: impl Fn(&Asked) -> Box<dyn Perturber>,
    scopes: &'static [Scope],
) {
    let scopes = proptest::sample::select(scopes);
    property(24, (exact_cases(), scopes, 2usize..=3), |(case, scope, parts)| {
        let backbone = case.backbone()?;
        let weights = case.weights(&*backbone)?;
        let asked = Asked { rho: 0.5, scope, sites: case.selection()? };
        let of = |batches| of(&case, &*backbone, &weights, batches, make(&asked));
        let large = of(vec![case.batch()?])?;
        let small = of(case.samples().parts(parts, crate::device())?)?;
        let off = relative_distance(&small, &large)?;
        assert!(off <= 1e-6, "off by {off} of the gradient");
        Ok(())
    });
}

/// A budget per sample or token belongs to one micro-batch: k micro-batches give the gradient of
/// the large batch.
pub fn equals_the_large_batch_within_samples(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    equals_the_large_batch(make, &[Scope::PerExample, Scope::PerToken]);
}

/// Each micro-batch has its own budget per batch or site: the result is the sum of independent
/// gradients, weighted by labelled tokens.
pub fn is_the_weighted_sum_across_samples(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(24, (exact_cases(), radius_and_scope(), 2usize..=3), |(case, (rho, scope), parts)| {
        if scope.is_within_a_sample() {
            return Ok(());
        }
        let backbone = case.backbone()?;
        let weights = case.weights(&*backbone)?;
        let asked = Asked { rho, scope, sites: case.selection()? };
        let mut batches = case.samples().parts(parts, crate::device())?;
        let all: usize = batches.iter().map(Batch::labelled).sum();
        let together = of(&case, &*backbone, &weights, batches.clone(), make(&asked))?;

        batches.retain(|batch| batch.labelled() > 0);
        let (mut sum, mut smallest) = (together.zeros_like()?, f64::INFINITY);
        for batch in batches {
            let share = batch.labelled() as f64 / all as f64;
            let (_, at_sites) = clean(&*backbone, &weights, &batch, &case.sites()?)?;
            for group in scope.groups(&at_sites, &batch.rows())? {
                smallest = smallest.min(share * norm(&group));
            }
            let own = of(&case, &*backbone, &weights, vec![batch], make(&asked))?;
            sum = sum.add_scaled(&own, share)?;
        }
        if smallest < 1e-2 {
            return Ok(());
        }
        // The guard is added to the norm of the share of a micro-batch: this changes each
        // perturbation by 1e-7 divided by that norm, and the gradient by a few times as much.
        let (off, bound) = (relative_distance(&together, &sum)?, 1e-6 + 10.0 * GUARD / smallest);
        assert!(off <= bound, "off by {off} of the gradient, bound {bound}");
        Ok(())
    });
}
