//! Finds weights that are NaN or infinite after an optimiser step.

use candle_core::{DType, Device, Tensor};

use crate::{Error, Params, Result};
use vxf_tensor::numeric::not_finite;

/// A check that all weights of a step are finite.
///
/// A non-finite loss or gradient stops the run before the step. This check finds weights that the
/// step itself breaks, such as one that overflows its type.
pub(crate) struct FiniteCheck {
    step: u64,
    /// For devices without a kernel of ours: names, and sums that are 0 unless a weight is not
    /// finite.
    sums: Vec<(String, Tensor)>,
}

impl FiniteCheck {
    /// A check of the weights that step `step` makes.
    pub(crate) fn new(step: u64) -> Self {
        Self { step, sums: Vec::new() }
    }

    /// Adds a weight to the check.
    pub(crate) fn remember(&mut self, name: &str, weight: &Tensor) -> Result<()> {
        // Zero times a number is zero, unless it is infinite or NaN.
        let sum = (weight.detach() * 0.0)?.sum_all()?.to_dtype(DType::F32)?;
        self.sums.push((name.to_owned(), sum));
        Ok(())
    }

    /// Checks all sums together, which waits for the device once.
    pub(crate) fn check(self, weights: &Params) -> Result<()> {
        if self.sums.is_empty() {
            return Ok(());
        }
        let sums: Vec<&Tensor> = self.sums.iter().map(|(_, sum)| sum).collect();
        let sums = Tensor::stack(&sums, 0)?.to_vec1::<f32>()?;
        let bad = self.sums.iter().zip(sums).find(|(_, sum)| *sum != 0.0);
        match bad.and_then(|((name, _), _)| Some((name, weights.get(name)?))) {
            Some((name, weight)) => Err(self.error(name, weight)),
            None => Ok(()),
        }
    }

    /// Checks every weight, on the host.
    pub(crate) fn search(&self, weights: &Params) -> Result<()> {
        for (name, weight) in weights.iter() {
            if not_finite(&weight.to_device(&Device::Cpu)?)?.is_some() {
                return Err(self.error(name, weight));
            }
        }
        Ok(())
    }

    /// The error for a weight that is not finite.
    pub(crate) fn error(&self, name: &str, weight: &Tensor) -> Error {
        let on_host = weight.to_device(&Device::Cpu);
        let value = on_host.and_then(|weight| not_finite(&weight)).ok().flatten();
        Error::NotFinite {
            quantity: format!("a weight of `{name}`"),
            value: value.unwrap_or(f64::NAN),
            step: self.step,
            place: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_checked_on_any_device() -> Result<()> {
        let value = |value: f32| Tensor::full(value, 40_000, &Device::Cpu);
        for (bad, found) in [(f32::NAN, true), (f32::INFINITY, true), (3e38, false)] {
            let weights: Params = [("w".to_owned(), value(bad)?)].into_iter().collect();
            let mut finite = FiniteCheck::new(7);
            finite.remember("w", &value(bad)?)?;
            let message = finite.check(&weights).err().map(|error| error.to_string());
            assert_eq!(message.is_some(), found, "{bad}");
            assert!(
                message.is_none_or(|message| message.contains("`w`") && message.contains("step 7"))
            );
        }
        Ok(())
    }
}
