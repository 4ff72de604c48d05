//! The drift between two models, and the metric.

use vxf_core::config::json;
use vxf_core::metric::{Better, Model, View};
use vxf_core::prelude::*;

use crate::config::{DriftConfig, Norm, Preset};
use crate::reduction::{Reduction, squares};

/// The registered name of the metric.
const NAME: &str = "drift";

/// The distance between the hidden embeddings of two models.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    /// The norm of the change, by the given definition.
    pub change: f64,
    /// The same norm of the aligned model's hidden embeddings.
    pub aligned: f64,
    /// The sites compared, in forward order.
    pub sites: Vec<Site>,
    /// `change` of each site alone.
    pub change_at: Vec<f64>,
    /// `aligned` of each site alone.
    pub aligned_at: Vec<f64>,
    /// The number of samples.
    pub samples: usize,
    /// The number of batches.
    pub batches: usize,
}

/// The drift of `model` from `aligned` on `batches`, by `definition`, in evaluation mode.
///
/// Norms are computed in f64.
///
/// # Errors
/// When the backbone lacks a selected site, or the two models differ in shape.
pub fn drift(
    model: Model<'_>,
    aligned: Model<'_>,
    batches: &[Batch],
    definition: &DriftConfig,
) -> Result<Drift> {
    let definition = definition.resolved();
    let sites = definition.sites.resolve(model.backbone.architecture().layers)?;
    let most = if definition.max_batches == 0 { usize::MAX } else { definition.max_batches };
    let batches = &batches[..batches.len().min(most)];
    let start = Reduction::new(definition.norm, definition.reduce);
    let (mut change, mut norm) = (start, start);
    let mut change_at = vec![start; sites.len()];
    let mut norm_at = vec![start; sites.len()];
    for batch in batches {
        let batch = batch.with_padding(match definition.mask_padding {
            true => Padding::LeftOut,
            false => Padding::Seen,
        });
        let rows = batch.rows();
        let (now, then) = (model.hidden(&batch, &sites)?, aligned.hidden(&batch, &sites)?);
        let (mut changes, mut norms) = (Vec::new(), Vec::new());
        for &site in &sites {
            let (now, then) = (in_f64(&now, site)?, in_f64(&then, site)?);
            changes.push(squares(&(now - &then)?, &rows)?);
            norms.push(squares(&then, &rows)?);
        }
        change.add(&changes);
        norm.add(&norms);
        for index in 0..sites.len() {
            change_at[index].add(&changes[index..=index]);
            norm_at[index].add(&norms[index..=index]);
        }
    }
    let values = |reductions: Vec<Reduction>| reductions.iter().map(Reduction::value).collect();
    Ok(Drift {
        change: change.value(),
        aligned: norm.value(),
        change_at: values(change_at),
        aligned_at: values(norm_at),
        sites,
        samples: batches.iter().map(|batch| batch.lengths.len()).sum(),
        batches: batches.len(),
    })
}

/// The published figure: see [`DriftConfig::reference`].
///
/// # Errors
/// As for [`drift`].
pub fn reference_drift(model: Model<'_>, aligned: Model<'_>, batches: &[Batch]) -> Result<f64> {
    Ok(drift(model, aligned, batches, &DriftConfig::reference())?.change)
}

/// The hidden embedding at `site` in f64.
fn in_f64(hidden: &Hidden, site: Site) -> Result<candle_core::Tensor> {
    let found = hidden.get(&site).ok_or_else(|| Error::UnknownSite {
        site: site.to_string(),
        known: hidden.keys().map(Site::to_string).collect::<Vec<_>>().join(", "),
    })?;
    Ok(found.to_dtype(candle_core::DType::F64)?)
}

/// The drift from the reference `aligned`, on the `alignment` samples.
#[derive(Clone, Debug)]
pub struct DriftMetric {
    /// The definition, with the preset resolved.
    pub definition: DriftConfig,
}

impl Metric for DriftMetric {
    fn measure(&self, view: &View<'_>) -> Result<Vec<Measurement>> {
        let aligned = view.reference(NAME, "aligned")?;
        let batches = view.batches(NAME, "alignment")?;
        let found = drift(view.model, aligned, &batches, &self.definition)?;
        let unit = match self.definition.norm {
            Norm::L2 => "L2",
            Norm::L2Squared => "L2^2",
        };
        let mut figures = vec![
            self.figure("drift", found.change, unit, &found).with("per_layer", &*found.change_at),
        ];
        if self.definition.relative {
            let shares = found.change_at.iter().zip(&found.aligned_at);
            let shares: Vec<f64> = shares.map(|(change, aligned)| change / aligned).collect();
            let share = found.change / found.aligned;
            figures.push(
                self.figure("relative_drift", share, "ratio", &found).with("per_layer", shares),
            );
        }
        Ok(figures)
    }
}

impl DriftMetric {
    /// A figure with its definition as details; `sites` names the entries of `per_layer`.
    fn figure(&self, name: &str, value: f64, unit: &str, found: &Drift) -> Measurement {
        let sites: Vec<_> = found.sites.iter().map(Site::to_string).collect();
        let figure = Measurement::new(name, value, unit, Better::Lower, found.samples)
            .with("sites", sites)
            .with("norm", json(&self.definition.norm))
            .with("reduce", json(&self.definition.reduce))
            .with("mask_padding", self.definition.mask_padding)
            .with("batches", found.batches);
        match self.definition.preset {
            Preset::None => figure,
            preset => figure.with("preset", json(&preset)),
        }
    }
}

#[cfg(test)]
mod tests;
