use std::collections::BTreeMap;

use vxf_core::Example;
use vxf_testkit::metric::probes;

use super::*;
use crate::config::Reduce;
use crate::fake::{blocks, scales};

/// A full sample, and one that is padded by one position.
fn samples() -> Vec<Example> {
    vec![
        Example { tokens: vec![1, 2], prompt: 1, ..Example::default() },
        Example { tokens: vec![3], prompt: 0, ..Example::default() },
    ]
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} is not {b}");
}

/// The drift from attention scales (1, 1) to (1, 2), by `definition`, in batches of two.
///
/// [`blocks`] embeds tokens 0 to 3 as (0, 1), (3, 4), (0, 2), (1, 0), then zeros. Layer 0 maps h to
/// 2h, so layer 1's attention output changes from 2h to 4h. The change 2h has squared norm 100 and
/// 16 in the first sample, 4 and (padding) 4 in the second. The aligned model's outputs are h in
/// layer 0 and 2h in layer 1, together 5 h^2: 125 and 20, 5 and (padding) 5.
fn figures(definition: &DriftConfig) -> Result<Drift> {
    let blocks = blocks()?;
    let (aligned, tuned) = (scales([1.0, 1.0])?, scales([1.0, 2.0])?);
    let samples = samples();
    let batch = Batch::new(&samples.iter().collect::<Vec<_>>(), blocks.device())?;
    let aligned = Model { backbone: &blocks, weights: &aligned };
    let tuned = Model { backbone: &blocks, weights: &tuned };
    drift(tuned, aligned, &[batch], definition)
}

#[test]
fn the_drift_from_the_same_model_is_zero() -> Result<()> {
    let (blocks, weights) = (blocks()?, scales([1.0, 0.5])?);
    let samples = samples();
    let batch = Batch::new(&samples.iter().collect::<Vec<_>>(), blocks.device())?;
    let model = Model { backbone: &blocks, weights: &weights };
    for definition in [DriftConfig::default(), DriftConfig::reference()] {
        let found = drift(model, model, std::slice::from_ref(&batch), &definition)?;
        assert_eq!((found.change, found.change_at), (0.0, vec![0.0, 0.0]));
        assert!(found.aligned > 0.0);
    }
    Ok(())
}

#[test]
fn the_default_averages_one_norm_per_sample() -> Result<()> {
    let found = figures(&DriftConfig::default())?;
    close(found.change, (116f64.sqrt() + 2.0) / 2.0);
    close(found.aligned, (145f64.sqrt() + 5f64.sqrt()) / 2.0);
    close(found.change_at[0], 0.0);
    close(found.change_at[1], found.change);
    assert_eq!((found.samples, found.batches), (2, 1));
    Ok(())
}

#[test]
fn other_definitions_match_hand_computed_values() -> Result<()> {
    let with = |norm, reduce| {
        figures(&DriftConfig { norm, reduce, ..DriftConfig::default() }).map(|found| found.change)
    };
    close(with(Norm::L2Squared, Reduce::MeanSample)?, (116.0 + 4.0) / 2.0);
    close(with(Norm::L2, Reduce::MeanToken)?, (10.0 + 4.0 + 2.0) / 3.0);
    close(with(Norm::L2, Reduce::Sum)?, 120f64.sqrt());
    close(with(Norm::L2Squared, Reduce::Sum)?, 120.0);
    Ok(())
}

#[test]
fn padding_counts_only_if_it_is_not_masked() -> Result<()> {
    let squared =
        DriftConfig { norm: Norm::L2Squared, reduce: Reduce::Sum, ..DriftConfig::default() };
    close(figures(&squared)?.change, 100.0 + 16.0 + 4.0);
    // Without a mask the attention output at padding is doubled in every layer: layer 0 maps the
    // padding's h to 3h, and layer 1's output changes from 6h to 12h.
    let found = figures(&DriftConfig { mask_padding: false, ..squared })?;
    close(found.change, 100.0 + 16.0 + 4.0 + 36.0);
    let token =
        DriftConfig { mask_padding: false, reduce: Reduce::MeanToken, ..Default::default() };
    close(figures(&token)?.change, (10.0 + 4.0 + 2.0 + 6.0) / 4.0);
    Ok(())
}

#[test]
fn the_reference_sums_squares_of_ten_batches() -> Result<()> {
    let blocks = blocks()?;
    let (aligned, tuned) = (scales([1.0, 1.0])?, scales([1.0, 2.0])?);
    let samples = samples();
    let batch = Batch::new(&samples.iter().collect::<Vec<_>>(), blocks.device())?;
    let aligned = Model { backbone: &blocks, weights: &aligned };
    let tuned = Model { backbone: &blocks, weights: &tuned };
    close(reference_drift(tuned, aligned, &vec![batch.clone(); 3])?, 3.0 * 156.0);
    close(reference_drift(tuned, aligned, &vec![batch; 12])?, 10.0 * 156.0);
    Ok(())
}

#[test]
fn the_residual_stream_drifts_as_well() -> Result<()> {
    let sites = SiteSelection::try_from(vec!["block_output.1".to_owned()])?;
    let found = figures(&DriftConfig { sites, ..DriftConfig::default() })?;
    assert_eq!(found.sites, [Site::block_output(1)]);
    // The residual stream adds the attention output to the input, so its change is also 2h.
    close(found.change, (116f64.sqrt() + 2.0) / 2.0);
    Ok(())
}

#[test]
fn a_site_that_the_backbone_lacks_is_an_error() -> Result<()> {
    let sites = SiteSelection::all(SiteKind::MlpOutput);
    let error = figures(&DriftConfig { sites, ..DriftConfig::default() });
    assert!(matches!(error, Err(Error::UnknownSite { site, .. }) if site == "mlp_output.0"));
    Ok(())
}

#[test]
fn the_metric_reports_both_figures_and_their_definition() -> Result<()> {
    let blocks = blocks()?;
    let (aligned, tuned) = (scales([1.0, 1.0])?, scales([1.0, 2.0])?);
    let probes = probes(BTreeMap::from([("alignment".to_owned(), samples())]), 2);
    let view = View::new(Model { backbone: &blocks, weights: &tuned }, &probes);
    let metric = DriftConfig::default().build(&BuildContext::bare())?;
    let error = metric.measure(&view).expect_err("there is no aligned model");
    assert!(error.to_string().contains("`aligned`"), "{error}");

    let view = view.with_reference("aligned", Model { backbone: &blocks, weights: &aligned });
    let [drift, relative] = <[_; 2]>::try_from(metric.measure(&view)?).expect("two figures");
    assert_eq!((drift.name.as_str(), drift.unit.as_str(), drift.n), ("drift", "L2", 2));
    assert_eq!((relative.name.as_str(), relative.better), ("relative_drift", Better::Lower));
    let change = (116f64.sqrt() + 2.0) / 2.0;
    close(drift.value, change);
    close(relative.value, change / ((145f64.sqrt() + 5f64.sqrt()) / 2.0));
    assert_eq!(drift.details["sites"][1], "attention_output.1");
    close(drift.details["per_layer"][1].as_f64().expect("a number"), change);
    assert_eq!(drift.details["reduce"], "mean_sample");

    let metric =
        DriftConfig { relative: false, ..DriftConfig::reference() }.build(&BuildContext::bare())?;
    let figures = metric.measure(&view)?;
    assert_eq!((figures.len(), figures[0].unit.as_str()), (1, "L2^2"));
    assert_eq!(figures[0].details["preset"], "reference");
    close(figures[0].value, 156.0);
    Ok(())
}
