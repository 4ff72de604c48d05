//! The gradient of harmful samples at attention outputs, and the perturbation from it.

use vxf_core::numeric::{norm, squares};
use vxf_core::prelude::*;

/// Added to a norm before dividing by it, as in Vaccine's reference.
const EPSILON: f64 = 1e-7;

/// The gradient of the harmful loss at the attention output of every layer, and its norm there.
pub(crate) fn harmful_gradients(step: &mut Step<'_>) -> Result<(Hidden, Vec<f64>)> {
    let layers = step.architecture().layers;
    let sites: Vec<_> = (0..layers).map(Site::attention_output).collect();
    let harmful = step.on("harmful").role(Role::Probe);
    let (loss, mut hidden) = harmful.site_gradients(&sites)?;
    step.record("harmful_loss", loss)?;
    // Those of the micro-batch by itself: OASIS compares their square with a constant.
    let share = step.share("harmful")?;
    if share != 1.0 && share > 0.0 {
        for tensor in hidden.values_mut() {
            *tensor = (&*tensor / share)?;
        }
    }
    let norms = squares(&hidden.values().collect::<Vec<_>>())?;
    let norms: vxf_core::Result<Vec<f64>> =
        norms.iter().map(|square| Ok(square.sqrt()?.value()?)).collect();
    let norms = norms?;
    if let Some((layer, value)) = norms.iter().enumerate().find(|(_, norm)| !norm.is_finite()) {
        let quantity = format!("the harmful gradient at attention_output.{layer}");
        step.require_finite(&quantity, " on stream `harmful`", &Scalar::from(*value))?;
    }
    Ok((hidden, norms))
}

/// Vaccine's perturbation at the attention outputs of `layers`: the gradient of the main stream's loss,
/// scaled to norm `rho` over them.
pub(crate) fn perturbation(step: &mut Step<'_>, layers: &[usize], rho: f64) -> Result<Hidden> {
    let sites: Vec<_> = layers.iter().map(|&layer| Site::attention_output(layer)).collect();
    let (loss, mut hidden) = step.on_main().role(Role::Probe).site_gradients(&sites)?;
    let norm = norm(&hidden.values().collect::<Vec<_>>())?;
    step.record("loss_clean", loss)?;
    step.record("hidden_gradient_norm", norm.clone())?;
    let place = format!(" on stream `{}`", step.main());
    step.require_finite("the norm of the loss gradient at the chosen sites", &place, &norm)?;
    let factor = norm.add(&EPSILON.into())?.rdiv(rho)?;
    for tensor in hidden.values_mut() {
        *tensor = factor.scale(tensor)?;
    }
    Ok(hidden)
}
