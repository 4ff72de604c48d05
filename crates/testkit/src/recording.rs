//! A backbone that records what every forward pass received at its sites.

use std::cell::RefCell;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Tensor};
use vxf_core::backbone::Tap;
use vxf_core::{Backbone, Hidden, Pass, Result, Site};

/// The record of one forward pass.
#[derive(Clone, Debug, Default)]
pub struct Forward {
    /// Sites in the order of their visits.
    pub visits: Vec<Site>,
    /// The tap's input, by site.
    pub before: Hidden,
    /// The tap's output, by site.
    pub after: Hidden,
    /// The tap's output when the backward pass computed a block again, by site.
    pub again: Hidden,
    /// Whether gradients of the weights were computed.
    pub weight_gradients: bool,
}

impl Forward {
    /// The perturbation at every visited site, in f64.
    pub fn added(&self) -> Result<Hidden> {
        let difference = |(site, after): (&Site, &Tensor)| {
            let before = self.before[site].to_dtype(DType::F64)?;
            Ok((*site, (after.to_dtype(DType::F64)? - before)?))
        };
        self.after.iter().map(difference).collect()
    }
}

/// A wrapper that runs another backbone and records its sites.
///
/// A forward pass starts at each `embed`. Blocks that run after the head belong to the backward
/// pass of the same forward, which computes them again.
pub struct Recording<'a> {
    inner: &'a dyn Backbone,
    trained: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    forwards: Vec<Forward>,
    /// Whether the head has run in the present forward pass.
    headed: bool,
}

impl<'a> Recording<'a> {
    /// Records `inner`.
    pub fn new(inner: &'a dyn Backbone) -> Self {
        let trained = inner.parameters().into_iter().map(|parameter| parameter.name).collect();
        Self { inner, trained, state: Mutex::default() }
    }

    /// All forward passes since the last call.
    pub fn take(&self) -> Vec<Forward> {
        std::mem::take(&mut *self.state()).forwards
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn differentiates(&self, pass: &Pass<'_>) -> bool {
        let variable = |name: &String| pass.weight(name).is_some_and(Tensor::is_variable);
        self.trained.iter().any(variable)
    }
}

impl State {
    fn store(&mut self, seen: Vec<Visit>, recompute: bool, weight_gradients: bool) {
        let Some(forward) = self.forwards.last_mut() else { return };
        forward.weight_gradients |= weight_gradients;
        for Visit { site, before, after } in seen {
            if recompute {
                forward.again.insert(site, after);
            } else {
                forward.visits.push(site);
                forward.before.insert(site, before);
                forward.after.insert(site, after);
            }
        }
    }
}

impl Backbone for Recording<'_> {
    describe_as!(inner);

    fn embed(&self, tokens: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let spy = Spy { outer: pass, seen: RefCell::default() };
        let hidden = self.inner.embed(tokens, &listening(pass, &spy))?;
        let differentiates = self.differentiates(pass);
        let mut state = self.state();
        state.forwards.push(Forward::default());
        state.headed = false;
        state.store(spy.seen.take(), false, differentiates);
        Ok(hidden)
    }

    fn block(&self, layer: usize, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let spy = Spy { outer: pass, seen: RefCell::default() };
        let hidden = self.inner.block(layer, hidden, &listening(pass, &spy))?;
        let differentiates = self.differentiates(pass);
        let mut state = self.state();
        let recompute = state.headed;
        state.store(spy.seen.take(), recompute, differentiates);
        Ok(hidden)
    }

    fn head(&self, hidden: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        self.state().headed = true;
        self.inner.head(hidden, pass)
    }

    fn head_loss(&self, hidden: &Tensor, targets: &[i64], pass: &Pass<'_>) -> Result<Tensor> {
        let differentiates = self.differentiates(pass);
        let mut state = self.state();
        state.headed = true;
        state.store(Vec::new(), false, differentiates);
        drop(state);
        self.inner.head_loss(hidden, targets, pass)
    }
}

fn listening<'b>(pass: &Pass<'b>, spy: &'b Spy<'b>) -> Pass<'b> {
    pass.with_tap(spy)
}

struct Visit {
    site: Site,
    before: Tensor,
    after: Tensor,
}

/// Calls the loop's own tap and records what it did.
struct Spy<'p> {
    outer: &'p Pass<'p>,
    seen: RefCell<Vec<Visit>>,
}

impl Tap for Spy<'_> {
    fn tap(&self, site: Site, hidden: &Tensor) -> Result<Tensor> {
        let after = self.outer.tap(site, hidden)?;
        let visit = Visit { site, before: hidden.detach(), after: after.detach() };
        self.seen.borrow_mut().push(visit);
        Ok(after)
    }
}
