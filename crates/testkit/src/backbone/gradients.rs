//! Laws of gradients: complete, exact, and computed only on request.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use proptest::prelude::*;
use rand::Rng;
use vxf_core::engine::{Evaluation, Recompute, Subset};
use vxf_core::numeric::sum_of_squares;
use vxf_core::{Backbone, Batch, Hidden, Key, Padding, Params, Result};

use super::{all_sites, samples};
use crate::batches::real_rows;
use crate::case::property;
use crate::numbers::{distance, entries, first_difference, norm, nudged};
use crate::training::weights;

/// The steps of central differences, in f64, the first that agrees decides. A shorter step follows
/// because a ReLU may have its kink inside a longer one; a wrong gradient agrees with none.
const STEPS: [f64; 3] = [1e-5, 1e-6, 1e-7];

/// The entry of a gradient is the derivative of `loss_at` at 0. The error of a central difference
/// is the third derivative times the step squared, plus the rounding of a loss near 4 divided by
/// twice the step, about 2e-8 at the shortest.
fn assert_derivative(
    what: &str,
    gradient: f64,
    loss_at: impl Fn(f64) -> Result<f64>,
) -> Result<()> {
    let bound = 1e-7 + 1e-5 * gradient.abs();
    let mut differences = vec![];
    for step in STEPS {
        let difference = (loss_at(step)? - loss_at(-step)?) / (2.0 * step);
        if (gradient - difference).abs() <= bound {
            return Ok(());
        }
        differences.push(difference);
    }
    panic!("{what}: {gradient}, by differences of steps {STEPS:?} {differences:?}");
}

/// The index of the largest gradient, and a random one.
fn sampled(gradient: &[f64], key: &Key) -> [usize; 2] {
    let largest =
        (0..gradient.len()).max_by(|&a, &b| gradient[a].abs().total_cmp(&gradient[b].abs()));
    [largest.unwrap_or(0), key.rng().random_range(0..gradient.len())]
}

/// Random perturbations at all sites, the same at real positions in every layout.
fn noise(backbone: &dyn Backbone, batch: &Batch, key: &Key) -> Result<Hidden> {
    let shape = [batch.lengths.iter().sum(), backbone.architecture().width];
    let drawn = all_sites(backbone)?.into_iter().map(|site| {
        let key = key.child(&site.to_string());
        let noise = (key.normal(&shape, backbone.dtype(), backbone.device())? * 0.1)?;
        Ok((site, batch.laid_out(&noise)?))
    });
    drawn.collect()
}

/// Each parameter, and nothing else, gets a finite gradient that agrees with central differences in
/// f64, with dropout and a constant perturbation. If an operation cuts a gradient, the failure
/// names the parameter.
pub fn every_parameter_has_its_gradient(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F64);
    property(3, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let key = Key::root(samples.seed);
        let masks = key.child("dropout");
        let added = noise(&*backbone, &batch, &key)?;
        let evaluation = Evaluation {
            dropout: Some(&masks),
            perturbation: Some(&added),
            ..Evaluation::new(&*backbone, &weights, &batch)
        };
        let at = |weights: &Params| -> Result<f64> {
            Ok(Evaluation { weights, weight_gradients: false, ..evaluation }.run()?.loss.value()?)
        };
        let outcome = evaluation.run()?;

        let parameters = backbone.parameters();
        for parameter in &parameters {
            let name = &parameter.name;
            let gradient = outcome.gradients.get(name);
            let gradient = gradient.unwrap_or_else(|| panic!("`{name}` gets no gradient"));
            assert_eq!(gradient.dims(), parameter.shape, "shape of `{name}`");
            let gradient = entries(gradient)?;
            assert!(gradient.iter().all(|value| value.is_finite()), "`{name}` is not finite");
            let weight = weights.get(name).expect("drawn for every parameter");
            for index in sampled(&gradient, &key.child(name)) {
                let moved = |by| -> Result<f64> {
                    let mut moved = weights.clone();
                    moved.insert(name.clone(), nudged(weight, index, by)?);
                    at(&moved)
                };
                assert_derivative(&format!("`{name}`[{index}]"), gradient[index], moved)?;
            }
        }
        assert_eq!(outcome.gradients.len(), parameters.len(), "frozen tensors get no gradient");
        Ok(())
    });
}

/// The gradient at every site agrees with central differences in f64.
pub fn site_gradients_are_right(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F64);
    property(3, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let sites = all_sites(&*backbone)?;
        let key = Key::root(samples.seed);
        let masks = key.child("dropout");
        let quiet = Evaluation {
            dropout: Some(&masks),
            weight_gradients: false,
            ..Evaluation::new(&*backbone, &weights, &batch)
        };
        let gradients = Evaluation { sites: &sites, ..quiet }.run()?.at_sites;
        for site in sites {
            let gradient = gradients.get(&site);
            let tensor = gradient.unwrap_or_else(|| panic!("{site} gets no gradient"));
            let gradient = entries(tensor)?;
            for index in sampled(&gradient, &key.child(&site.to_string())) {
                let at = |by| -> Result<f64> {
                    let added = nudged(&tensor.zeros_like()?, index, by)?;
                    let added = Hidden::from([(site, added)]);
                    Ok(Evaluation { perturbation: Some(&added), ..quiet }.run()?.loss.value()?)
                };
                assert_derivative(&format!("{site}[{index}]"), gradient[index], at)?;
            }
        }
        Ok(())
    });
}

/// Block by block and over one graph, loss and all gradients agree to the bit, with dropout, with
/// a perturbation, in f32.
pub fn block_by_block_is_one_graph_to_the_bit(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    property(12, (samples(), any::<bool>(), any::<bool>()), |(samples, perturbed, masked)| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let sites = all_sites(&*backbone)?;
        let key = Key::root(samples.seed);
        let added = noise(&*backbone, &batch, &key)?;
        let evaluation = Evaluation {
            perturbation: perturbed.then_some(&added),
            sites: &sites,
            dropout: masked.then_some(&key),
            ..Evaluation::new(&*backbone, &weights, &batch)
        };
        let graph = evaluation.run_as_one_graph()?;
        for recompute in [Recompute::Block, Recompute::None] {
            let blocks = Evaluation { recompute, ..evaluation }.run()?;
            assert_eq!(blocks.loss.value()?.to_bits(), graph.loss.value()?.to_bits(), "loss");
            let differs = first_difference(&blocks.gradients, &graph.gradients)?;
            assert_eq!(differs, None, "a gradient differs");
            for (site, gradient) in &blocks.at_sites {
                assert_eq!(entries(gradient)?, entries(&graph.at_sites[site])?, "at {site}");
            }
            assert_eq!(blocks.at_sites.len(), graph.at_sites.len());
        }
        Ok(())
    });
}

/// A pass with gradients at sites alone computes none of the weights, and the site gradients are
/// the same as with them.
pub fn computes_only_requested_gradients(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    let sites = all_sites(&*backbone).expect("the model's own sites");
    let some = proptest::sample::subsequence(sites.clone(), 1..=sites.len());
    property(8, (samples(), some), |(samples, sites)| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        for recompute in [Recompute::Block, Recompute::None] {
            let all = Evaluation {
                sites: &sites,
                recompute,
                ..Evaluation::new(&*backbone, &weights, &batch)
            };
            let few = Evaluation { weight_gradients: false, ..all }.run()?;
            assert!(few.gradients.is_empty(), "gradients of weights without a request");
            let all = all.run()?;
            assert_eq!(few.at_sites.len(), sites.len(), "a gradient at each requested site");
            for (site, gradient) in &few.at_sites {
                assert_eq!(entries(gradient)?, entries(&all.at_sites[site])?, "at {site}");
                assert!(sum_of_squares(gradient)? > 0.0, "the gradient at {site} is zero");
            }
        }
        Ok(())
    });
}

/// The gradient of each parameter alone, and of several together, has the same bits as among all,
/// and there are no others. This fails if the backbone gives a parameter a wrong layer or part.
pub fn a_subset_has_the_gradients_of_all(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    let parameters = backbone.parameters();
    let names: Vec<_> = parameters.iter().map(|parameter| parameter.name.clone()).collect();
    let some = proptest::sample::subsequence(names.clone(), 1..=names.len());
    property(3, (samples(), some), |(samples, some)| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let key = Key::root(samples.seed);
        let whole =
            Evaluation { dropout: Some(&key), ..Evaluation::new(&*backbone, &weights, &batch) };
        let all = whole.run()?;
        for chosen in names.iter().map(std::slice::from_ref).chain([&some[..]]) {
            let subset = Subset::of(&parameters, &|parameter| chosen.contains(&parameter.name));
            for recompute in [Recompute::Block, Recompute::None] {
                let part = Evaluation { subset: Some(&subset), recompute, ..whole }.run()?;
                assert_eq!(part.loss.value()?.to_bits(), all.loss.value()?.to_bits(), "loss");
                let among = |(name, _): &(String, Tensor)| chosen.contains(name);
                let expected: Params = all.gradients.clone().into_iter().filter(among).collect();
                let differs = first_difference(&part.gradients, &expected)?;
                assert_eq!(differs, None, "the gradient of a subset, {chosen:?}");
            }
        }
        Ok(())
    });
}

/// Loss and gradients are the same in every layout: dense, in a rectangle, and in a rectangle with
/// visible padding; in f64, with dropout and a perturbation. The gradient at padding is zero.
pub fn every_layout_is_the_same_step(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F64);
    let same = |what: &str, a: &[f64], b: &[f64]| {
        let (off, size) = (distance(a, b), norm(b));
        assert!(off <= 1e-12 * (1.0 + size), "{what} in another layout: off by {off} of {size}");
    };
    property(8, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let sites = all_sites(&*backbone)?;
        let key = Key::root(samples.seed);
        let run = |padding| -> Result<_> {
            let batch = batch.with_padding(padding);
            let added = noise(&*backbone, &batch, &key)?;
            let mut outcome = Evaluation {
                sites: &sites,
                dropout: Some(&key),
                perturbation: Some(&added),
                ..Evaluation::new(&*backbone, &weights, &batch)
            }
            .run()?;
            for (site, gradient) in &mut outcome.at_sites {
                let real = real_rows(&batch, gradient)?;
                let rest = norm(&entries(gradient)?).powi(2) - norm(&entries(&real)?).powi(2);
                assert!(rest.abs() <= 1e-12, "padding at {site} has a gradient");
                *gradient = real;
            }
            Ok(outcome)
        };
        let dense = run(Padding::LeftOut)?;
        for padding in [Padding::Hidden, Padding::Seen] {
            let wide = run(padding)?;
            same("the loss", &[dense.loss.value()?], &[wide.loss.value()?]);
            for (name, gradient) in wide.gradients.iter() {
                let own = dense.gradients.get(name);
                let own = own.unwrap_or_else(|| panic!("`{name}` is missing"));
                same(name, &entries(own)?, &entries(gradient)?);
            }
            for (site, gradient) in &wide.at_sites {
                same(&site.to_string(), &entries(&dense.at_sites[site])?, &entries(gradient)?);
            }
        }
        Ok(())
    });
}
