use std::collections::BTreeMap;

use vxf_core::Example;
use vxf_testkit::metric::{Table, probes};

use super::*;

/// Logits after each token.
const ROWS: [[f32; 3]; 3] = [[0.5, -1.0, 2.0], [0.0, 1.0, -0.5], [1.5, 0.25, 0.0]];

/// Three predictions in the first batch of two samples, one in the second batch.
fn samples() -> Vec<Example> {
    vec![
        Example { tokens: vec![1, 2, 0], prompt: 1, ..Example::default() },
        Example { tokens: vec![1, 2], prompt: 1, ..Example::default() },
        Example { tokens: vec![0, 0], prompt: 1, ..Example::default() },
    ]
}

/// Cross-entropy of `class` under the logits of [`ROWS`], by its definition.
fn by_hand(token: usize, class: usize) -> f64 {
    let logits = ROWS[token].map(f64::from);
    logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[class]
}

fn measure(metric: &dyn Metric, name: &str) -> Result<Measurement> {
    let (table, weights) = (Table::new(&ROWS)?, Params::new());
    let probes = probes(BTreeMap::from([(name.to_owned(), samples())]), 2);
    let view = View::new(Model { backbone: &table, weights: &weights }, &probes);
    Ok(metric.measure(&view)?.remove(0))
}

#[test]
fn the_default_averages_over_tokens() -> Result<()> {
    let figure = measure(&AlignmentLoss { average: Average::Token }, "alignment")?;
    let sum = by_hand(1, 2) + by_hand(2, 0) + by_hand(1, 2) + by_hand(0, 0);
    assert!((figure.value - sum / 4.0).abs() < 1e-6, "{} {}", figure.value, sum / 4.0);
    assert_eq!((figure.n, figure.unit.as_str()), (3, "nats"));
    assert_eq!((figure.name.as_str(), figure.better), ("alignment_loss", Better::Lower));
    assert_eq!(figure.details["tokens"], 4);
    Ok(())
}

#[test]
fn the_reference_averages_batches() -> Result<()> {
    let figure = measure(&AlignmentLoss { average: Average::Batch }, "alignment")?;
    let first = (by_hand(1, 2) + by_hand(2, 0) + by_hand(1, 2)) / 3.0;
    let wanted = (2.0 * first + by_hand(0, 0)) / 3.0;
    assert!((figure.value - wanted).abs() < 1e-6, "{} {wanted}", figure.value);
    assert_eq!(figure.details["average"], "batch");
    Ok(())
}

#[test]
fn perplexity_is_the_exponential_of_the_mean() -> Result<()> {
    let figure = measure(&Perplexity, "fluency")?;
    let mean = measure(&AlignmentLoss { average: Average::Token }, "alignment")?.value;
    assert!((figure.value - mean.exp()).abs() < 1e-9);
    assert_eq!((figure.unit.as_str(), figure.better), ("ppl", Better::Lower));
    Ok(())
}

#[test]
fn batches_without_answers_are_left_out() -> Result<()> {
    let (table, weights) = (Table::new(&ROWS)?, Params::new());
    let model = Model { backbone: &table, weights: &weights };
    let full = Batch::new(&[&samples()[0]], table.device())?;
    let bare = Batch::new(
        &[&Example { tokens: vec![1, 2], prompt: 2, ..Example::default() }],
        table.device(),
    )?;
    let alone = mean_loss(model, std::slice::from_ref(&full), Average::Batch)?;
    assert_eq!(mean_loss(model, &[full, bare.clone()], Average::Batch)?, alone);
    assert_eq!(mean_loss(model, &[bare], Average::Token)?, None);
    Ok(())
}

#[test]
fn missing_samples_are_named() {
    let error = measure(&Perplexity, "alignment").expect_err("no `fluency` samples");
    assert!(error.to_string().contains("`fluency` samples"), "{error}");
}

#[test]
fn settings_are_parsed_by_name() -> Result<()> {
    let entry = vxf_core::registry::find::<dyn MetricConfig>("alignment-loss")?;
    let config = (entry.parse)(serde_json::json!({ "average": "batch" }))?;
    assert!(config.follows_training());
    let written = serde_json::to_value(&config).expect("settings are plain");
    assert_eq!(written, serde_json::json!({ "name": "alignment-loss", "average": "batch" }));
    assert!((entry.parse)(serde_json::json!({ "average": "tokens" })).is_err());
    assert!((entry.parse)(serde_json::json!({ "mean": "token" })).is_err());
    vxf_core::registry::default_of::<dyn MetricConfig>("perplexity").map(drop)
}
