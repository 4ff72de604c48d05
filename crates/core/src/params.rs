//! Named tensors in a fixed order, with the operations of a vector space.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::{Error, Result};
use vxf_tensor::Scalar;

/// Trainable weights, gradients, moments: an ordered map from name to tensor.
///
/// They are ordered by name, so that sums over tensors are the same in every process.
#[derive(Clone, Debug, Default)]
pub struct Params(BTreeMap<String, Tensor>);

/// Gradients are named like the weights they belong to.
pub type Gradients = Params;

impl Params {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) {
        self.0.insert(name.into(), tensor);
    }

    /// All tensors, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of elements in all tensors.
    pub fn count(&self) -> usize {
        self.0.values().map(Tensor::elem_count).sum()
    }

    /// The tensors detached from any graph; storage is shared.
    pub fn detach(&self) -> Self {
        Self(self.0.iter().map(|(name, tensor)| (name.clone(), tensor.detach())).collect())
    }

    /// Differentiable leaves with these values; existing leaves are shared.
    pub fn leaves(&self) -> Result<Self> {
        self.map(|tensor| Ok(Var::from_tensor(tensor)?.into_inner()))
    }

    /// An independent copy with storage of its own, detached from any graph. (A clone shares
    /// storage with the original.)
    pub fn copy(&self) -> Result<Self> {
        self.map(|tensor| Ok(tensor.detach().copy()?))
    }

    /// Zeros in these shapes.
    pub fn zeros_like(&self) -> Result<Self> {
        self.map(|tensor| Ok(tensor.detach().zeros_like()?))
    }

    /// Applies `f` to each tensor.
    pub fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        self.0.iter().map(|(name, tensor)| Ok((name.clone(), f(tensor)?))).collect()
    }

    /// Applies `f` to each pair of tensors of one name.
    ///
    /// # Errors
    /// When a name is in one of the sets only.
    pub fn zip(
        &self,
        other: &Self,
        f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        if let Some(name) = other.names().find(|name| self.get(name).is_none()) {
            return Err(Error::ParameterMismatch { name: name.to_owned() });
        }
        self.0
            .iter()
            .map(|(name, a)| {
                let b = other
                    .get(name)
                    .ok_or_else(|| Error::ParameterMismatch { name: name.clone() })?;
                Ok((name.clone(), f(&a.detach(), &b.detach())?))
            })
            .collect()
    }

    /// `self + factor * other`.
    pub fn add_scaled(&self, other: &Self, factor: f64) -> Result<Self> {
        self.zip(other, |a, b| Ok(if factor == 1.0 { (a + b)? } else { (a + (b * factor)?)? }))
    }

    /// `self - other`.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.zip(other, |a, b| Ok((a - b)?))
    }

    /// `factor * self`; a factor of one changes no bit.
    pub fn scale(&self, factor: f64) -> Result<Self> {
        if factor == 1.0 {
            return Ok(self.clone());
        }
        self.map(|tensor| Ok((tensor.detach() * factor)?))
    }

    /// The same without the tensors of these names.
    #[must_use]
    pub fn without<'n>(mut self, names: impl IntoIterator<Item = &'n str>) -> Self {
        for name in names {
            self.0.remove(name);
        }
        self
    }

    /// The inner product, per-tensor partial sums taken in f64.
    pub fn dot(&self, other: &Self) -> Result<f64> {
        let products = self.zip(other, |a, b| {
            let f64 = candle_core::DType::F64;
            Ok((a.to_dtype(f64)? * b.to_dtype(f64)?)?.sum_all()?)
        })?;
        let sum: candle_core::Result<f64> =
            products.0.values().map(vxf_tensor::numeric::scalar).sum();
        Ok(sum?)
    }

    /// The L2 norm over all tensors, in f64.
    pub fn norm(&self) -> Result<f64> {
        Ok(self.pending_norm()?.value()?)
    }

    /// The same, without waiting for the device.
    pub fn pending_norm(&self) -> Result<Scalar> {
        Ok(vxf_tensor::numeric::norm(&self.0.values().collect::<Vec<_>>())?)
    }

    /// Adds `gradient` into the entry called `name`.
    pub(crate) fn accumulate(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        let sum = match self.0.get(name) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        self.0.insert(name.to_owned(), sum);
        Ok(())
    }

    /// Adds all `gradients` into the entries of their names.
    pub fn accumulate_all(&mut self, gradients: Self) -> Result<()> {
        gradients.into_iter().try_for_each(|(name, gradient)| self.accumulate(&name, gradient))
    }
}

impl FromIterator<(String, Tensor)> for Params {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}

impl IntoIterator for Params {
    type Item = (String, Tensor);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
