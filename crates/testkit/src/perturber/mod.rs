//! Laws of an inner player, checked inside the loop on what the outer pass received.

pub mod accumulation;
pub mod gradient;

use proptest::prelude::*;
use vxf_core::{Backbone, Batch, Hidden, Params, Perturber, Result, SiteSelection};

use crate::case::{Case, cases, property};
use crate::numbers::{entries, first_difference};
use crate::recording::{Forward, Recording};
use crate::scope::Scope;
use crate::training::{Nothing, Plain, accumulating, training};

/// The settings of a perturber under test. A perturber without scope or sites ignores them.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The radius.
    pub rho: f64,
    /// Its scope.
    pub scope: Scope,
    /// The sites to perturb.
    pub sites: SiteSelection,
}

/// A radius between a thousandth and ten, and a scope.
pub(crate) fn radius_and_scope() -> impl Strategy<Value = (f64, Scope)> {
    let rho = (-3.0f64..1.0).prop_map(|exponent| 10f64.powf(exponent));
    (rho, proptest::sample::select(Scope::ALL.to_vec()))
}

/// A record of one step with an inner player.
pub(crate) struct Seen {
    /// All forward passes of the step; the outer one is the last.
    pub(crate) forwards: Vec<Forward>,
    /// The loss at the perturbation.
    pub(crate) loss: f64,
}

impl Seen {
    /// What the tap added at each site of the outer pass.
    pub(crate) fn added(&self) -> Result<Hidden> {
        self.outer().added()
    }

    pub(crate) fn outer(&self) -> &Forward {
        self.forwards.last().expect("a step has a pass")
    }
}

/// Records one step of plain min-max training.
pub(crate) fn record_step(
    case: &Case,
    backbone: &dyn Backbone,
    weights: &Params,
    batch: Batch,
    perturber: Box<dyn Perturber>,
) -> Result<Seen> {
    let recording = Recording::new(backbone);
    let mut stage = accumulating(&recording, weights, vec![batch], Box::new(Plain), perturber)?;
    stage.session.recompute = case.recompute();
    let observation = stage.step()?;
    Ok(Seen { forwards: recording.take(), loss: observation.loss()? })
}

/// The perturbation is zero at padding.
pub fn is_zero_on_padding(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(24, (cases(), radius_and_scope()), |(case, (rho, scope))| {
        let backbone = case.backbone()?;
        let (weights, batch) = (case.weights(&*backbone)?, case.batch()?);
        let asked = Asked { rho, scope, sites: case.selection()? };
        let seen = record_step(&case, &*backbone, &weights, batch.clone(), make(&asked))?;
        let positions: Vec<_> = batch.rows().positions().collect();
        for (site, added) in seen.added()? {
            let width = added.dim(1)?;
            for (at, value) in entries(&added)?.into_iter().enumerate() {
                let (sample, position) = positions[at / width];
                let padding = position >= batch.lengths[sample];
                assert!(value.is_finite(), "{value} added at {site}");
                assert!(!padding || value == 0.0, "{value} added to padding at {site}");
            }
        }
        Ok(())
    });
}

/// The perturbation is zero at sites that were not requested.
pub fn leaves_other_sites_alone(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    property(24, (cases(), radius_and_scope()), |(case, (rho, scope))| {
        let backbone = case.backbone()?;
        let weights = case.weights(&*backbone)?;
        let asked = Asked { rho, scope, sites: case.selection()? };
        let seen = record_step(&case, &*backbone, &weights, case.batch()?, make(&asked))?;
        let (sites, added) = (case.sites()?, seen.added()?);
        assert!(added.len() > sites.len(), "the toy has further sites");
        for (site, added) in added.iter().filter(|(site, _)| !sites.contains(site)) {
            assert!(entries(added)?.iter().all(|value| *value == 0.0), "{site} was perturbed");
        }
        Ok(())
    });
}

/// At radius 0 training is plain fine-tuning to the bit, also with dropout and accumulation.
pub fn is_plain_fine_tuning_at_radius_zero(make: impl Fn(&Asked) -> Box<dyn Perturber>) {
    let scopes = proptest::sample::select(Scope::ALL.to_vec());
    property(16, (cases(), scopes, 1usize..=2), |(case, scope, accumulation)| {
        let backbone = case.backbone()?;
        let weights = case.weights(&*backbone)?;
        let asked = Asked { rho: 0.0, scope, sites: case.selection()? };
        let run = |perturber| -> Result<Params> {
            let key = vxf_core::Key::root(case.seed);
            let mut streams = vec![("main", crate::training::samples(&*backbone, 7, &key))];
            streams.extend(crate::training::beside_main(&*backbone));
            let mut stage = training(&*backbone, &weights, streams, Box::new(Plain), perturber)?;
            stage.session.recompute = case.recompute();
            stage.session.accumulation = accumulation;
            for _ in 0..3 {
                stage.step()?;
            }
            Ok(stage.weights)
        };
        let (plain, perturbed) = (run(Box::new(Nothing))?, run(make(&asked))?);
        assert_eq!(first_difference(&plain, &perturbed)?, None, "a weight differs");
        assert!(first_difference(&plain, &weights)?.is_some(), "training changes weights");
        Ok(())
    });
}

/// Turns the laws of every inner player into tests.
///
/// Takes a function from [`Asked`](crate::perturber::Asked) to the perturber:
/// `perturber_laws!(|asked| Box::new(MyPerturber::new(asked.rho)));`
#[macro_export]
macro_rules! perturber_laws {
    ($make:expr) => {
        mod perturber_laws {
            #[allow(unused_imports)]
            use super::*;

            #[test]
            fn is_zero_on_padding() {
                $crate::perturber::is_zero_on_padding($make);
            }

            #[test]
            fn leaves_other_sites_alone() {
                $crate::perturber::leaves_other_sites_alone($make);
            }

            #[test]
            fn is_plain_fine_tuning_at_radius_zero() {
                $crate::perturber::is_plain_fine_tuning_at_radius_zero($make);
            }
        }
    };
}
