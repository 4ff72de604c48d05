//! Multiplies the change of weights since a reference model from the left.

use candle_core::Tensor;
use vxf_core::prelude::*;

/// What becomes of the change `D` of a weight.
pub(crate) enum Left {
    /// `factor * D`.
    Times(f64),
    /// `M D`.
    Matrix(Tensor),
}

impl Left {
    fn of(&self, change: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Times(factor) => (change * *factor)?,
            Self::Matrix(matrix) => matrix.matmul(change)?,
        })
    }
}

/// Where an adapter's own product stands for the change of a weight, the model below it may differ from
/// the reference by at most this share of the change.
const NEAR: f64 = 0.1;

/// The modules with a change: all that are trained, or those with an adapter.
pub(crate) fn modules(step: &Step<'_>) -> Vec<Parameter> {
    let changed = |parameter: &&Parameter| match step.trainable() {
        Trainable::Full => parameter.name.ends_with(".weight"),
        Trainable::Lora(_) => parameter.name.ends_with(".lora_B"),
    };
    step.parameters().iter().filter(changed).cloned().collect()
}

/// The change of a linear layer's weight `[out, in]`, or of an embedding's or a norm's, since `reference`.
///
/// # Errors
/// When an adapter is trained that does not stand on the reference model.
pub(crate) fn change(
    step: &Step<'_>,
    weights: &Params,
    module: &str,
    reference: Reference,
) -> Result<Tensor> {
    let before = step.reference(reference)?.weight(module)?;
    let now = step.merged(weights, module)?;
    let change = (&now - &before)?;
    let Trainable::Lora(lora) = step.trainable() else { return Ok(change) };
    let part = |name: String| {
        weights.get(&name).map(Tensor::detach).ok_or(Error::ParameterMismatch { name })
    };
    let product = part(Lora::b_of(module))?.matmul(&part(Lora::a_of(module))?)?;
    let product = (product.to_dtype(change.dtype())? * lora.scale())?;
    let length = |tensor: &Tensor| vxf_core::numeric::sum_of_squares(tensor).map(f64::sqrt);
    if length(&(&change - &product)?)? > NEAR * length(&product)? {
        let problem = format!(
            "the adapter on `{module}` is not the change since the {reference} model, so it cannot carry \
             this edit: set `trainable = \"full\"` for this stage, or `continue_adapter = true` if the \
             adapter was trained on the {reference} model"
        );
        return Err(Error::Plugin { plugin: "an edit of weights", source: problem.into() });
    }
    Ok(product)
}

/// Replaces the change of `module` since `reference`.
pub(crate) fn apply(
    step: &Step<'_>,
    weights: &mut Params,
    parameter: &Parameter,
    reference: Reference,
    left: &Left,
) -> Result<()> {
    let (name, module) = (parameter.name.as_str(), parameter.module());
    let missing = || Error::ParameterMismatch { name: name.to_owned() };
    let old = weights.get(name).ok_or_else(missing)?.detach();
    let new = match step.trainable() {
        Trainable::Lora(_) => left.of(&old)?,
        Trainable::Full => {
            let before = step.reference(reference)?.weight(module)?;
            let now = old.to_dtype(before.dtype())?;
            (&before + left.of(&(now - &before)?)?)?.to_dtype(old.dtype())?
        }
    };
    weights.insert(name, new);
    Ok(())
}
