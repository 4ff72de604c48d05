//! Laws of an inner player that follows the gradient of the loss.

use proptest::prelude::*;
use vxf_core::engine::Evaluation;
use vxf_core::{Backbone, Batch, Hidden, Params, Perturber, Result, Site, SiteKind};

use super::{Asked, radius_and_scope, record_step};
use crate::batches::{real_rows, widened};
use crate::case::{Case, cases, property};
use crate::numbers::{distance, entries, norm};
use crate::scaled::Scaled;

/// Added to a norm before dividing by it.
pub(super) const GUARD: f64 = 1e-7;

/// The unperturbed loss and its gradient at `sites`, over one single graph.
pub(super) fn clean(
    backbone: &dyn Backbone,
    weights: &Params,
    batch: &Batch,
    sites: &[Site],
) -> Result<(f64, Hidden)> {
    let outcome =
        Evaluation { sites, weight_gradients: false, ..Evaluation::new(backbone, weights, batch) }
            .run_as_one_graph()?;
    Ok((outcome.loss.value()?, outcome.at_sites))
}

/// Keeps only the sites of `wanted`.
fn at(mut hidden: Hidden, wanted: &Hidden) -> Hidden {
    hidden.retain(|site, _| wanted.contains_key(site));
    hidden
}

/// In each scope the perturbation is `rho g / (n + 1e-7)`: along the gradient, of that norm.
pub fn is_the_scaled_gradient(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(32, (cases(), radius_and_scope()), |(case, (rho, scope))| {
        let case = case.without_dropout();
        let backbone = case.backbone()?;
        let (weights, batch) = (case.weights(&*backbone)?, case.batch()?);
        let asked = Asked { rho, scope, sites: case.selection()? };
        let seen = record_step(&case, &*backbone, &weights, batch.clone(), make(&asked))?;

        let (_, gradient) = clean(&*backbone, &weights, &batch, &case.sites()?)?;
        let rows = batch.rows();
        let received = scope.groups(&at(seen.outer().after.clone(), &gradient), &rows)?;
        let added = scope.groups(&at(seen.added()?, &gradient), &rows)?;
        for ((added, gradient), received) in
            added.iter().zip(scope.groups(&gradient, &rows)?).zip(&received)
        {
            let n = norm(&gradient);
            let wanted: Vec<_> = gradient.iter().map(|g| rho * g / (n + GUARD)).collect();
            // The received perturbation is a difference of two tensors rounded to the model's type;
            // that error is not the perturber's.
            let rounding = case.rounding() * norm(received);
            let (norm, expected) = (norm(added), rho * n / (n + GUARD));
            assert!(norm <= rho * (1.0 + 1e-6) + rounding, "norm {norm} beyond rho {rho}");
            assert!((norm - expected).abs() <= 1e-5 * expected + rounding, "{norm} {expected}");
            let off = distance(added, &wanted);
            assert!(off <= 1e-5 * expected + rounding, "off the gradient's direction by {off}");
        }
        Ok(())
    });
}

/// If the gradient is zero, the perturbation is zero and not NaN.
pub fn vanishes_with_the_gradient(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(16, (cases(), radius_and_scope()), |(case, (rho, scope))| {
        let toy = case.backbone()?;
        let backbone = Scaled::new(&*toy, 0.0);
        let weights = case.weights(&*toy)?;
        let asked = Asked { rho, scope, sites: case.selection()? };
        let seen = record_step(&case, &backbone, &weights, case.batch()?, make(&asked))?;
        for (site, added) in seen.added()? {
            assert!(entries(&added)?.iter().all(|value| *value == 0.0), "added at {site}");
        }
        Ok(())
    });
}

/// A factor on the loss changes nothing, if the gradient's norm is at least 0.01.
pub fn ignores_the_scale_of_the_loss(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    let factor = (-3.0f64..3.0).prop_map(f64::exp2);
    property(24, (cases(), radius_and_scope(), factor), |(case, (rho, scope), factor)| {
        let case = Case { double: true, ..case.without_dropout() };
        let toy = case.backbone()?;
        let (weights, batch) = (case.weights(&*toy)?, case.batch()?);
        let asked = Asked { rho, scope, sites: case.selection()? };
        let (_, gradient) = clean(&*toy, &weights, &batch, &case.sites()?)?;
        let added = |factor: f64| -> Result<_> {
            let backbone = Scaled::new(&*toy, factor);
            let seen = record_step(&case, &backbone, &weights, batch.clone(), make(&asked))?;
            scope.groups(&at(seen.added()?, &gradient), &batch.rows())
        };
        let (one, other) = (added(1.0)?, added(factor)?);
        let gradients = scope.groups(&gradient, &batch.rows())?;
        for ((one, other), gradient) in one.iter().zip(&other).zip(gradients) {
            if norm(&gradient) * factor.min(1.0) >= 1e-2 {
                // The guard changes either side by at most 1e-7 / 1e-2 of rho.
                let off = distance(one, other);
                assert!(off <= 1.1e-5 * rho, "changed by {off} at rho {rho}");
            }
        }
        Ok(())
    });
}

/// `J(eps) - J(0) = rho n + O(rho^2)`, n summed over all scopes.
pub fn raises_the_loss_to_first_order(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(16, (cases(), radius_and_scope()), |(case, (_, scope))| {
        let case = Case { double: true, ..case.without_dropout() };
        let backbone = case.backbone()?;
        let (weights, batch) = (case.weights(&*backbone)?, case.batch()?);
        let (loss, gradient) = clean(&*backbone, &weights, &batch, &case.sites()?)?;
        let norms = scope.groups(&gradient, &batch.rows())?;
        let slope: f64 = norms.iter().map(|g| norm(g) * norm(g) / (norm(g) + GUARD)).sum();
        if slope < 1e-2 {
            return Ok(());
        }
        for rho in [1e-5, 1e-7] {
            let asked = Asked { rho, scope, sites: case.selection()? };
            let seen = record_step(&case, &*backbone, &weights, batch.clone(), make(&asked))?;
            let rise = (seen.loss - loss) / rho;
            // The second-order rest shrinks with rho; 1e-6 is the rounding of a loss near 3 divided
            // by 1e-7.
            let off = (rise / slope - 1.0).abs();
            assert!(off <= 2e3 * rho + 1e-6, "rho {rho}: rise {rise}, expected {slope}");
        }
        Ok(())
    });
}

/// More padding does not change the perturbation at real tokens.
pub fn ignores_further_padding(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(16, (cases(), radius_and_scope(), 1usize..=3), |(case, (rho, scope), extra)| {
        let case = Case { double: true, ..case.without_dropout() };
        let backbone = case.backbone()?;
        let (weights, batch) = (case.weights(&*backbone)?, case.batch()?);
        let asked = Asked { rho, scope, sites: case.selection()? };
        let added =
            |batch: Batch| record_step(&case, &*backbone, &weights, batch, make(&asked))?.added();
        let other = widened(&batch, extra)?;
        let (narrow, wide) = (added(batch.clone())?, added(other.clone())?);
        for (site, narrow) in &narrow {
            let (narrow, wide) = (real_rows(&batch, narrow)?, real_rows(&other, &wide[site])?);
            let off = distance(&entries(&narrow)?, &entries(&wide)?);
            // Matrix products of another size may add in another order.
            assert!(off <= 1e-9 * rho, "{site} changed by {off}");
        }
        Ok(())
    });
}

/// The inner passes compute no gradients of weights. The backward pass sees the same tensors as its
/// forward pass, dropout and perturbation included.
pub fn takes_no_weight_gradients(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(16, (cases(), radius_and_scope()), |(case, (rho, scope))| {
        let backbone = case.backbone()?;
        let weights = case.weights(&*backbone)?;
        let asked = Asked { rho, scope, sites: case.selection()? };
        let seen = record_step(&case, &*backbone, &weights, case.batch()?, make(&asked))?;
        let (outer, inner) = seen.forwards.split_last().expect("a step has a pass");
        assert!(outer.weight_gradients, "the outer pass trains");
        assert!(!inner.is_empty(), "a gradient perturber queries a gradient");
        assert!(inner.iter().all(|forward| !forward.weight_gradients), "needless gradients");
        assert_eq!(outer.again.is_empty(), !case.blockwise, "blocks are computed again");
        let read = outer.again.iter().filter(|(site, _)| site.kind == SiteKind::AttentionOutput);
        for (site, again) in read {
            assert_eq!(entries(again)?, entries(&outer.after[site])?, "at {site}");
        }
        Ok(())
    });
}

/// Turns the laws of inner players that follow the gradient into tests; the laws of all inner
/// players are in [`perturber_laws!`](crate::perturber_laws!).
#[macro_export]
macro_rules! gradient_perturber_laws {
    ($make:expr) => {
        mod gradient_perturber_laws {
            #[allow(unused_imports)]
            use super::*;
            $crate::gradient_perturber_laws! { @ gradient $make =>
                is_the_scaled_gradient
                vanishes_with_the_gradient
                ignores_the_scale_of_the_loss
                raises_the_loss_to_first_order
                ignores_further_padding
                takes_no_weight_gradients
            }
            $crate::gradient_perturber_laws! { @ accumulation $make =>
                equals_the_large_batch_within_samples
                is_the_weighted_sum_across_samples
            }
        }
    };
    (@ $module:ident $make:expr => $($law:ident)*) => {
        $(
            #[test]
            fn $law() {
                $crate::perturber::$module::$law($make);
            }
        )*
    };
}
