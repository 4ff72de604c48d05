//! A part of the model as a graph of its own, and the tap inside it.

use std::cell::RefCell;

use candle_core::{Tensor, Var};

use super::Evaluation;
use crate::Result;
use crate::backbone::Tap;
use crate::perturber::perturbed;
use crate::site::{Hidden, Site};
use vxf_tensor::autograd::{self, Store, Tape};

/// The input of a block.
pub(super) struct Input {
    pub(super) layer: usize,
    pub(super) hidden: Tensor,
    /// Whether its gradient is requested.
    pub(super) differentiate: bool,
}

/// What the forward pass keeps of a block for the backward pass.
pub(super) enum Kept<'a> {
    Input(Input),
    Graph(Segment<'a>),
}

/// A part of the model as a graph of its own.
pub(super) struct Segment<'a> {
    /// The input, if its gradient is requested.
    pub(super) leaf: Option<Var>,
    pub(super) tap: Injection<'a>,
    pub(super) output: Tensor,
    pub(super) tape: Tape,
}

impl<'a> Segment<'a> {
    pub(super) fn new(
        evaluation: &'a Evaluation<'a>,
        input: Option<&Tensor>,
        make: impl FnOnce(Option<&Tensor>, &Injection<'a>) -> Result<Tensor>,
    ) -> Result<Self> {
        let leaf = input.map(Var::from_tensor).transpose()?;
        let tap = Injection::new(evaluation, true);
        let made = || make(leaf.as_ref().map(Var::as_tensor), &tap);
        let (output, tape) = autograd::record(made)?;
        Ok(Self { leaf, tap, output, tape })
    }

    /// The output, detached; also stores the visited embeddings in `seen`, detached.
    pub(super) fn output_and_sites(&self, seen: &mut Hidden) -> Tensor {
        let visited = self.tap.visited.borrow();
        seen.extend(visited.iter().map(|(site, hidden)| (*site, hidden.detach())));
        self.output.detach()
    }

    /// The known gradients to start from: of the output, and of the embeddings that a hidden loss
    /// read here.
    pub(super) fn seeds(
        &self,
        gradient: Option<Tensor>,
        cotangents: &Hidden,
    ) -> Vec<(Tensor, Tensor)> {
        let mut seeds: Vec<_> =
            gradient.map(|gradient| (self.output.clone(), gradient)).into_iter().collect();
        for (site, hidden) in self.tap.visited.borrow().iter() {
            if let Some(cotangent) = cotangents.get(site) {
                seeds.push((hidden.clone(), cotangent.clone()));
            }
        }
        seeds
    }
}

/// The engine's tap: adds the perturbation, then a zero leaf whose gradient is the site's, and
/// stores the embeddings that a loss reads.
pub(super) struct Injection<'a> {
    evaluation: &'a Evaluation<'a>,
    pub(super) differentiate: bool,
    pub(super) visited: RefCell<Hidden>,
    leaves: RefCell<Hidden>,
}

impl<'a> Injection<'a> {
    pub(super) fn new(evaluation: &'a Evaluation<'a>, differentiate: bool) -> Self {
        Self { evaluation, differentiate, visited: RefCell::default(), leaves: RefCell::default() }
    }

    pub(super) fn collect(&self, store: &mut Store, at_sites: &mut Hidden) -> Result<()> {
        for (site, leaf) in self.leaves.borrow().iter() {
            // A loss that does not depend on a site has gradient zero there.
            let gradient = store.remove(leaf).map_or_else(|| leaf.zeros_like(), Ok)?;
            at_sites.insert(*site, gradient);
        }
        Ok(())
    }
}

impl Tap for Injection<'_> {
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        let mut hidden = perturbed(site, hidden, self.evaluation.perturbation)?;
        if self.differentiate && self.evaluation.wants(site) {
            let leaf = Var::zeros(hidden.shape(), hidden.dtype(), hidden.device())?.into_inner();
            hidden = autograd::add(&hidden, &leaf)?;
            self.leaves.borrow_mut().insert(site, leaf);
        }
        if self.evaluation.objective.hidden.is_some_and(|(sites, _)| sites.contains(&site)) {
            self.visited.borrow_mut().insert(site, hidden.clone());
        }
        Ok(hidden)
    }
}
