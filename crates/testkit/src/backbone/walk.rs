//! Laws of the forward pass: sites, causality, padding, dropout.

use std::sync::Arc;

use candle_core::{DType, Tensor};
use vxf_core::backbone::Untouched;
use vxf_core::engine::Evaluation;
use vxf_core::metric::Model;
use vxf_core::{
    Backbone, Batch, Key, Padding, Params, Pass, Result, Rows, Site, SiteKind, Trainable,
};

use super::{forward_order, samples};
use crate::batches::{real_rows, widened};
use crate::case::property;
use crate::numbers::{entries, first_difference};
use crate::recording::Recording;
use crate::training::weights;

fn logits(backbone: &dyn Backbone, weights: &Params, batch: &Batch) -> Result<Tensor> {
    Model { backbone, weights }.logits(batch)
}

/// Sites are visited once each, in order, with tensors `[positions, width]`, and the model
/// goes on with what the tap returns.
pub fn visits_every_site_once(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F32);
    property(4, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        let recording = Recording::new(&*backbone);
        logits(&recording, &weights, &batch)?;
        let forwards = recording.take();
        assert_eq!(forwards.len(), 1);
        let visits = &forwards[0].visits;
        let (inputs, others): (Vec<Site>, Vec<Site>) =
            visits.iter().partition(|site| site.kind.is_input());
        assert_eq!(others, forward_order(&*backbone));
        // All inputs of linear layers, in order, or none.
        assert!(inputs.is_sorted() && visits.is_sorted(), "{visits:?}");
        let layers = backbone.architecture().layers;
        assert!(inputs.is_empty() || inputs.len() == 4 * layers, "{inputs:?}");
        for (site, hidden) in &forwards[0].before {
            let (rows, width) = (batch.rows().count(), backbone.architecture().width);
            match site.kind.is_input() {
                true => assert_eq!(hidden.dim(0)?, rows, "rows at {site}"),
                false => assert_eq!(hidden.dims(), [rows, width], "shape at {site}"),
            }
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
        let past = |batch: &Batch| -> Result<Vec<f64>> {
            let wide = batch.rows().padded(&logits(&*backbone, &weights, batch)?.detach())?;
            entries(&wide.narrow(1, 0, cut)?)
        };
        assert_eq!(past(&batch)?, past(&changed)?, "the past before token {cut}");
        let whole = |batch: &Batch| entries(&logits(&*backbone, &weights, batch)?);
        assert_ne!(whole(&batch)?, whole(&changed)?, "tokens matter");
        Ok(())
    });
}

/// Outputs at real positions do not depend on padding: whether it is computed, how much there is, and
/// whether it is hidden.
pub fn padding_is_inert(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    let backbone = make(DType::F64);
    property(6, samples(), |samples| {
        let (weights, batch) = (weights(&*backbone, samples.seed)?, samples.batch(&*backbone)?);
        if batch.shape().1 + 2 > backbone.architecture().positions {
            return Ok(());
        }
        let wide = widened(&batch, 2)?;
        let of = |batch: &Batch, padding| -> Result<Vec<f64>> {
            let batch = batch.with_padding(padding);
            entries(&real_rows(&batch, &logits(&*backbone, &weights, &batch)?)?)
        };
        let reference = of(&batch, Padding::Hidden)?;
        let others = [
            of(&batch, Padding::LeftOut)?,
            of(&batch, Padding::Seen)?,
            of(&wide, Padding::Hidden)?,
            of(&wide, Padding::Seen)?,
        ];
        for other in others {
            for (a, b) in reference.iter().zip(&other) {
                // Matrix products of other sizes may add in another order.
                assert!((a - b).abs() <= 1e-10, "a real position moved: {a} {b}");
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
            // Values after the feed-forward block need not be recomputed.
            let read =
                forward.again.iter().filter(|(site, _)| site.kind == SiteKind::AttentionOutput);
            for (site, again) in read {
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

/// The decoder's logits equal those of the forward pass at each prefix, token by token or several at
/// once; also for samples of different lengths, if the decoder supports that.
pub fn decoding_is_the_forward_pass(make: impl Fn(DType) -> Arc<dyn Backbone>) {
    // Sums of some dozen products, added in another order: the error grows with their size. In f64 it is far
    // below any mistake.
    decodes(&*make(DType::F32), 1e-4);
    decodes(&*make(DType::F64), 1e-11);
}

fn decodes(backbone: &dyn Backbone, tolerance: f64) {
    property(4, samples(), |samples| {
        let (weights, batch) = (weights(backbone, samples.seed)?, samples.batch(backbone)?);
        let weights = weights.detach();
        let (count, columns) = batch.shape();
        let rows = batch.with_padding(Padding::Seen).rows();
        let pass = Pass::new(&weights, &rows).with_tap(&Untouched);
        let mut hidden = backbone.embed(&batch.tokens.flatten_all()?, &pass)?;
        for layer in 0..backbone.architecture().layers {
            hidden = backbone.block(layer, &hidden, &pass)?;
        }
        let full = rows.padded(&backbone.head(&hidden, &pass)?)?;
        let tokens = batch.tokens.to_vec2::<u32>()?;
        let mut starts: Vec<Vec<usize>> = (1..=columns).map(|first| vec![first; count]).collect();
        let ragged = backbone.decoder(&weights).is_some_and(|it| it.takes_any_lengths());
        starts.extend(ragged.then(|| batch.lengths.clone()));
        for start in starts {
            let Some(mut decoder) = backbone.decoder(&weights) else { return Ok(()) };
            let (mut taken, mut next) = (vec![0; count], start);
            while taken.iter().zip(&next).all(|(taken, next)| taken + next <= columns) {
                let new = (0..count).flat_map(|at| &tokens[at][taken[at]..taken[at] + next[at]]);
                let new: Vec<u32> = new.copied().collect();
                let new = Tensor::new(new, backbone.device())?;
                let logits = decoder.advance(&new, &Rows::dense(&next))?;
                taken.iter_mut().zip(&next).for_each(|(taken, next)| *taken += next);
                assert_eq!(logits.dims()[0], count, "one row of logits per sample");
                for (sample, &taken) in taken.iter().enumerate() {
                    let wanted = full.get(sample)?.get(taken - 1)?;
                    for (a, b) in entries(&logits.get(sample)?)?.iter().zip(entries(&wanted)?) {
                        let tolerance = tolerance * b.abs().max(1.0);
                        assert!((a - b).abs() <= tolerance, "after {taken} tokens: {a} {b}");
                    }
                }
                next = vec![1; count];
            }
        }
        Ok(())
    });
}
