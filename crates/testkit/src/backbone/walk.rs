//! Laws of the forward pass: sites, causality, padding, dropout.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use vxf_core::backbone::Untouched;
use vxf_core::engine::Evaluation;
use vxf_core::metric::Model;
use vxf_core::{Backbone, Batch, Key, Params, Pass, Result, Trainable};

use super::{forward_order, samples};
use crate::batches::widened;
use crate::case::property;
use crate::numbers::{entries, first_difference};
use crate::recording::Recording;
use crate::training::weights;

fn logits(backbone: &dyn Backbone, weights: &Params, batch: &Batch) -> Result<Tensor> {
    Model { backbone, weights }.logits(batch)
}

/// Sites are visited once each, in order, with tensors `[batch, sequence, width]`, and the model
/// continues with the tap's result.
pub fn visits_every_site_once(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    property(4, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let recording = Recording::new(&*backbone);
        logits(&recording, &weights, &batch)?;
        let forwards = recording.take();
        assert_eq!(forwards.len(), 1);
        assert_eq!(forwards[0].visits, forward_order(&*backbone));
        let (rows, columns) = batch.shape();
        for (site, hidden) in &forwards[0].before {
            let wanted = [rows, columns, backbone.architecture().width];
            assert_eq!(hidden.dims(), wanted, "shape at {site}");
            assert_eq!(hidden.dtype(), backbone.dtype(), "type at {site}");
        }
        Ok(())
    });
}

/// Logits do not depend on later tokens.
pub fn does_not_see_the_future(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    property(6, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let (_, columns) = batch.shape();
        let cut = columns / 2;
        let vocabulary = backbone.architecture().vocabulary as u32;
        let rows = batch.tokens.to_vec2::<u32>()?;
        let other = rows.iter().flat_map(|row| {
            let changed = |(at, token)| if at < cut { token } else { (token + 1) % vocabulary };
            row.iter().copied().enumerate().map(changed)
        });
        let tokens = other.collect::<Vec<_>>();
        let tokens = Tensor::from_vec(tokens, batch.tokens.shape(), batch.tokens.device())?;
        let changed = Batch { tokens, ..batch.clone() };
        let past =
            |batch: &Batch| entries(&logits(&*backbone, &weights, batch)?.narrow(1, 0, cut)?);
        assert_eq!(past(&batch)?, past(&changed)?, "the past before token {cut}");
        let whole = |batch: &Batch| entries(&logits(&*backbone, &weights, batch)?);
        assert_ne!(whole(&batch)?, whole(&changed)?, "tokens matter");
        Ok(())
    });
}

/// Outputs at real positions do not depend on the amount of padding, nor on whether padded keys are
/// hidden.
pub fn padding_is_inert(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F64);
    property(6, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        if batch.shape().1 + 2 > backbone.architecture().positions {
            return Ok(());
        }
        let wide = widened(&batch, 2)?;
        let (shown, hidden) = (false, true);
        let of = |batch: &Batch, mask_padding| -> Result<Vec<Vec<f64>>> {
            let batch = Batch { mask_padding, ..batch.clone() };
            let logits = logits(&*backbone, &weights, &batch)?;
            let real =
                |(row, &length): (usize, &usize)| entries(&logits.get(row)?.narrow(0, 0, length)?);
            batch.lengths.iter().enumerate().map(real).collect()
        };
        let reference = of(&batch, hidden)?;
        for other in [of(&batch, shown)?, of(&wide, hidden)?, of(&wide, shown)?] {
            for (a, b) in reference.iter().flatten().zip(other.iter().flatten()) {
                // Matrix products of other sizes may add in another order.
                assert!((a - b).abs() <= 1e-10, "a real position changed: {a} {b}");
            }
        }
        Ok(())
    });
}

/// The same key gives the same masks: the forward pass is repeatable, and the backward pass
/// recomputes each block from the same tensors. An adapter with dropout drops elements.
pub fn recompute_draws_the_same_dropout(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    property(6, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let key = Key::root(samples.seed);
        let recording = Recording::new(&*backbone);
        let evaluation = Evaluation::new(&recording, &weights, &batch);
        let masked = Evaluation { dropout: Some(&key), ..evaluation };
        let (one, two) = (masked.run()?, masked.run()?);
        assert_eq!(first_difference(&one.gradients, &two.gradients)?, None, "gradients repeat");
        for forward in recording.take() {
            for (site, again) in &forward.again {
                assert_eq!(entries(again)?, entries(&forward.after[site])?, "at {site}");
            }
            let layers = backbone.architecture().layers;
            assert!(forward.again.len() >= 3 * layers, "every block is computed again");
        }
        let Trainable::Lora(lora) = backbone.trainable() else { return Ok(()) };
        if lora.dropout > 0.0 {
            let other = Evaluation { dropout: Some(&key.child("other")), ..evaluation }.run()?;
            let differ = |gradients| first_difference(&one.gradients, gradients);
            assert!(differ(&other.gradients)?.is_some(), "another key is another mask");
            assert!(differ(&evaluation.run()?.gradients)?.is_some(), "a mask drops something");
        }
        Ok(())
    });
}

/// The decoder's logits equal those of the forward pass at each prefix, token by token or several
/// at once.
pub fn decoding_is_the_forward_pass(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    property(6, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let weights = weights.detach();
        let columns = batch.shape().1;
        let pass = Pass::new(&weights).with_tap(&Untouched);
        let mut hidden = backbone.embed(&batch.tokens, &pass)?;
        for layer in 0..backbone.architecture().layers {
            hidden = backbone.block(layer, &hidden, &pass)?;
        }
        let full = backbone.head(&hidden, &pass)?;
        for first in 1..=columns {
            let Some(mut decoder) = backbone.decoder(&weights) else { return Ok(()) };
            let mut taken = 0;
            for next in std::iter::once(first).chain(std::iter::repeat_n(1, columns - first)) {
                let logits = decoder.advance(&batch.tokens.narrow(1, taken, next)?)?;
                taken += next;
                let wanted = full.narrow(1, taken - 1, 1)?.squeeze(1)?;
                assert_eq!(logits.dims(), wanted.dims(), "one row of logits per sample");
                for (a, b) in entries(&logits)?.iter().zip(entries(&wanted)?) {
                    // f32 sums of some dozen products in another order: the error is a few units in
                    // the last place, relative to their size.
                    let tolerance = 1e-5 * b.abs().max(1.0);
                    assert!((a - b).abs() <= tolerance, "after {taken} tokens: {a} {b}");
                }
            }
        }
        Ok(())
    });
}
