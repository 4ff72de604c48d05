//! Merging an adapter of PEFT into a checkpoint.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Checkpoint;
use super::base::{HEAD, embedding};
use super::merge::Change;
use crate::peft::Adapter;
use vxf_core::{Params, Result};

/// [`Checkpoint::adapted`].
pub(super) fn adapted(base: &Checkpoint, adapter: &Adapter) -> Result<Checkpoint> {
    let outline = base.outline()?;
    let mut adapted = base.clone();
    let mut replaced = adapter.replaced.copy()?;
    let table = embedding(&outline).unwrap_or_default().to_owned();
    if outline.architecture.labels.is_none() && outline.shape(HEAD).is_none() {
        untie(base, adapter, &table, &mut replaced)?;
    }
    for (name, tensor) in replaced.iter() {
        let rows = |dims: &[usize]| dims.get(1..).map(<[usize]>::to_vec);
        let is_table = name == table || name == HEAD;
        match base.shape(name) {
            Some(shape) if shape == tensor.dims() => {}
            Some(shape) if is_table && rows(&shape) == rows(tensor.dims()) => {}
            Some(shape) => {
                let found = tensor.dims();
                let problem = format!("the adapter's `{name}` {found:?} cannot replace {shape:?}");
                return Err(base.error(problem));
            }
            None if is_table => {}
            None => {
                let problem = format!("the adapter has `{name}`, which this model does not have");
                return Err(base.error(problem));
            }
        }
    }
    let vocabulary = replaced.get(&table).map(|tensor| tensor.dims()[0]);
    if let Some(rows) = vocabulary.filter(|rows| *rows != outline.architecture.vocabulary) {
        set(&mut adapted, "vocab_size", json!(rows));
    }
    if replaced.get(HEAD).is_some() && outline.architecture.labels.is_none() {
        set(&mut adapted, "tie_word_embeddings", json!(false));
    }
    if !replaced.is_empty() {
        adapted.changes.push(Arc::new(Change::Replaced(replaced)));
    }
    let change = Change::adapted(adapter.updates.clone(), &adapted)?;
    adapted.changes.push(Arc::new(change));
    Ok(adapted)
}

/// For a tied model: gives the output projection its own matrix if the adapter changes only one of
/// the two, and drops a second copy of the same matrix.
fn untie(base: &Checkpoint, adapter: &Adapter, table: &str, replaced: &mut Params) -> Result<()> {
    let module = |name: &str| name.trim_end_matches(".weight").to_owned();
    let updates = |name: &str| adapter.updates.contains_key(&module(name));
    let same = match (replaced.get(table), replaced.get(HEAD)) {
        (Some(one), Some(other)) if one.dims() == other.dims() => {
            let differing = one.ne(other)?.to_dtype(candle_core::DType::F64)?.sum_all()?;
            differing.to_scalar::<f64>()? == 0.0
        }
        // Embeddings of a resized vocabulary stay tied.
        (Some(one), None) => base.shape(table).is_some_and(|shape| shape != one.dims()),
        (None, None) => true,
        _ => false,
    };
    if same && !updates(table) && !updates(HEAD) {
        let kept = replaced.iter().filter(|(name, _)| *name != HEAD);
        *replaced = kept.map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        return Ok(());
    }
    if replaced.get(HEAD).is_none() {
        replaced.insert(HEAD.to_owned(), base.current(table)?);
    }
    Ok(())
}

fn set(checkpoint: &mut Checkpoint, key: &str, value: Value) {
    let mut config = checkpoint.raw_config().clone();
    if let Some(config) = config.as_object_mut() {
        config.insert(key.to_owned(), value);
    }
    checkpoint.config = Some(Arc::new(config));
}
