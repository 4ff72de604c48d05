//! Several methods in one stage: one makes the gradient, the others adjust it, follow the weights or
//! edit them at the end.

use serde_json::{Map, Value};

use crate::backbone::Parameter;
use crate::defense::{Defense, State};
use crate::perturber::Perturber;
use crate::step::Step;
use crate::{Error, Gradients, Params, Result};

/// A defence composed of several, in the order in which they act.
pub struct Composition {
    members: Vec<Member>,
}

struct Member {
    name: String,
    method: Box<dyn Defense>,
    /// Whether this member makes the gradient.
    makes: bool,
}

impl Composition {
    /// A composition without members, which is plain training.
    pub fn new() -> Self {
        Self { members: Vec::new() }
    }

    /// Adds a member; `makes` says whether it makes the gradient.
    #[must_use]
    pub fn with(mut self, name: &str, method: Box<dyn Defense>, makes: bool) -> Self {
        self.members.push(Member { name: name.to_owned(), method, makes });
        self
    }

    fn maker(&mut self) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.makes)
    }
}

impl Default for Composition {
    fn default() -> Self {
        Self::new()
    }
}

/// Training under the perturbation, without a method.
fn plain(inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
    let perturbation = inner.perturb(step)?;
    step.gradients(&perturbation)
}

impl Defense for Composition {
    fn prepare(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| member.method.prepare(step))
    }

    fn per_step(&self) -> bool {
        self.members.iter().any(|member| member.method.per_step())
    }

    fn gradients(&mut self, inner: &mut dyn Perturber, step: &mut Step<'_>) -> Result<Gradients> {
        let whole = self.per_step();
        let mut gradients = match self.maker() {
            // Another member may need the whole step where the maker works on one micro-batch.
            Some(member) if whole && !member.method.per_step() => {
                step.accumulate(|step| member.method.gradients(inner, step))?
            }
            Some(member) => member.method.gradients(inner, step)?,
            None if whole => step.accumulate(|step| plain(inner, step))?,
            None => plain(inner, step)?,
        };
        for member in self.members.iter_mut().filter(|member| !member.makes) {
            gradients = member.method.adjust(gradients, step)?;
        }
        Ok(gradients)
    }

    fn freezes(&self, parameter: &Parameter) -> bool {
        self.members.iter().any(|member| member.method.freezes(parameter))
    }

    fn keeps(&self) -> Option<Vec<usize>> {
        let all = self.members.iter().filter_map(|member| member.method.keeps());
        all.reduce(|one, other| one.into_iter().filter(|it| other.contains(it)).collect())
    }

    fn after_step(&mut self, step: &mut Step<'_>) -> Result<()> {
        self.members.iter_mut().try_for_each(|member| member.method.after_step(step))
    }

    fn finish(&mut self, step: &mut Step<'_>, mut weights: Params) -> Result<Params> {
        for member in &mut self.members {
            weights = member.method.finish(step, weights)?;
        }
        Ok(weights)
    }

    fn state(&self) -> Result<State> {
        let (mut tensors, mut values) = (Params::new(), Map::new());
        for member in &self.members {
            let state = member.method.state()?;
            for (name, tensor) in state.tensors {
                tensors.insert(format!("{}/{name}", member.name), tensor);
            }
            if !state.values.is_null() {
                values.insert(member.name.clone(), state.values);
            }
        }
        let values = if values.is_empty() { Value::Null } else { Value::Object(values) };
        Ok(State { tensors, values })
    }

    fn restore(&mut self, state: State) -> Result<()> {
        let mut values = match state.values {
            Value::Null => Map::new(),
            Value::Object(map) => map,
            other => {
                return Err(Error::State(format!("{other} is not the state of a composition")));
            }
        };
        let mut tensors: Vec<_> = state.tensors.into_iter().collect();
        for member in &mut self.members {
            let prefix = format!("{}/", member.name);
            let (own, rest): (Vec<_>, Vec<_>) =
                tensors.into_iter().partition(|(name, _)| name.starts_with(&prefix));
            tensors = rest;
            let own =
                own.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor));
            let values = values.remove(&member.name).unwrap_or_default();
            member.method.restore(State { tensors: own.collect(), values })?;
        }
        match tensors.first().map(|(name, _)| name).or_else(|| values.keys().next()) {
            Some(name) => Err(Error::State(format!("`{name}` belongs to no member"))),
            None => Ok(()),
        }
    }
}
