//! Whether a directory holds the same experiment as a recipe.

use std::path::Path;

use serde_json::Value;
use vxf_recipe::Experiment;
use vxf_recipe::diff::{self, Difference};

use super::finished;
use super::manifest::Manifest;
use crate::{Error, Result};

/// Settings named in an error.
const NAMED: usize = 3;
/// Characters shown of a setting that differs.
const LONGEST: usize = 120;

/// Checks that `root` holds the same experiment: same settings, same model, same data. Paths are not
/// compared.
///
/// # Errors
/// Names the first settings that differ, or else whether the model, the data or the run that it starts from
/// has changed.
pub(super) fn same_experiment(
    root: &Path,
    experiment: &Experiment,
    manifest: &Manifest,
) -> Result<()> {
    let other = |difference: String| Error::OtherExperiment { path: root.to_owned(), difference };
    let before = finished::manifest(root)?;
    let there = finished::experiment(root);
    let there = there.map_err(|error| other(format!("its recipe cannot be read ({error})")))?;
    if before.schema_version < manifest.schema_version && before.finished.is_none() {
        return Err(other(format!(
            "it was started by {} with schema version {}, and this program continues only version {}; \
             finish it with that program, or use another directory",
            before.program, before.schema_version, manifest.schema_version
        )));
    }
    let mut differences = differences((&there, &before), (experiment, manifest));
    if differences.is_empty() {
        return Ok(());
    }
    let rest = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    let rest = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    Err(other(differences.join("; ") + &rest))
}

/// The settings that differ, or else the first of model, start and data that does.
fn differences(
    (there, before): (&Experiment, &Manifest),
    (here, now): (&Experiment, &Manifest),
) -> Vec<String> {
    let (model, source, data) =
        (before.model == now.model, before.source == now.source, before.data == now.data);
    // The same files may have moved.
    let settings = |experiment: &Experiment| match model && source && data {
        true => Value::Object(experiment.essence_by_content()),
        false => Value::Object(experiment.essence()),
    };
    let named: Vec<_> = diff::differences(&settings(there), &settings(here))
        .into_iter()
        .map(|Difference { key, first, second }| {
            format!("{key} is {} there, {} here", shown(first.as_ref()), shown(second.as_ref()))
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    let changed = [
        (model, "the model's files have changed"),
        (source, "the run that it starts from has changed"),
        (data, "the data has changed"),
    ];
    changed.iter().find(|(same, _)| !same).map(|(_, text)| (*text).to_owned()).into_iter().collect()
}

/// A value, cut where it is long.
fn shown(value: Option<&Value>) -> String {
    let text = Difference::show(value);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text,
    }
}
