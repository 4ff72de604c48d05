//! Generation with a cache where the rotation depends on the length of a text.

use candle_core::{DType, Tensor};
use serde_json::{Value, json};
use vxf_core::backbone::Pass;
use vxf_core::{Backbone, Params, Result, Rows};
use vxf_testkit::numbers::entries;

use crate::shapes::{checkpoint, model, phi3, with};

/// The number of positions in pre-training.
const ORIGINAL: usize = 7;

/// A Phi-3 with other factors for texts of more than seven tokens.
fn config() -> Value {
    let scaling = json!({
        "type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.5, 9.0],
    });
    let changes = json!({
        "rope_scaling": scaling, "original_max_position_embeddings": ORIGINAL,
    });
    with(phi3(), changes)
}

/// The logits after the last token of `text`, of a forward of it alone.
fn alone(model: &dyn Backbone, weights: &Params, text: &[u32]) -> Result<Vec<f64>> {
    let rows = Rows::dense(&[text.len()]);
    let pass = Pass::new(weights, &rows);
    let mut hidden = model.embed(&Tensor::new(text, model.device())?, &pass)?;
    for layer in 0..model.architecture().layers {
        hidden = model.block(layer, &hidden, &pass)?;
    }
    entries(&model.head(&rows.last_of_each(&hidden)?, &pass)?)
}

/// Feeds `texts` token by token after their beginnings of these lengths, and holds each step's logits
/// to those of each text alone; forgets the text `ended` after the third step.
fn law(beginnings: &[usize], ended: Option<usize>) -> Result<()> {
    let model = model(&checkpoint(config()));
    assert_eq!(model.dtype(), DType::F64);
    let weights = Params::new();
    let token = |sample: usize, at: usize| ((3 + 5 * sample + 7 * at + at * at) % 23) as u32;
    let text = |sample, length| (0..length).map(|at| token(sample, at)).collect::<Vec<_>>();
    let mut live: Vec<usize> = (0..beginnings.len()).collect();
    let mut decoder = model.decoder(&weights).expect("a cache");
    for step in 0..8 {
        let new = |&sample: &usize| match step {
            0 => text(sample, beginnings[sample]),
            _ => vec![token(sample, beginnings[sample] + step - 1)],
        };
        let new: Vec<_> = live.iter().map(new).collect();
        let rows = Rows::dense(&new.iter().map(Vec::len).collect::<Vec<_>>());
        let logits = decoder.advance(&Tensor::new(new.concat(), model.device())?, &rows)?;
        assert_eq!(logits.dims(), [live.len(), 23]);
        for (place, &sample) in live.iter().enumerate() {
            let text = text(sample, beginnings[sample] + step);
            let alone = alone(&*model, &weights, &text)?;
            for (ours, alone) in entries(&logits.get(place)?)?.iter().zip(alone) {
                let length = text.len();
                assert!((ours - alone).abs() < 1e-9, "{sample} at {length}: {ours} {alone}");
            }
        }
        if let (3, Some(ended)) = (step, ended) {
            live.retain(|&sample| sample != ended);
            assert!(decoder.keep(&live)?);
        }
    }
    Ok(())
}

/// The rotation does differ beyond the length: otherwise these laws say nothing.
#[test]
fn long_texts_are_rotated_otherwise() -> Result<()> {
    let (long, weights) = (model(&checkpoint(config())), Params::new());
    let mut same = config();
    same["rope_scaling"]["long_factor"] = same["rope_scaling"]["short_factor"].clone();
    let same = model(&checkpoint(same));
    for (length, differs) in [(ORIGINAL, false), (ORIGINAL + 1, true)] {
        let text: Vec<u32> = (0..length as u32).collect();
        let far = alone(&*long, &weights, &text)? != alone(&*same, &weights, &text)?;
        assert_eq!(far, differs, "{length}");
    }
    Ok(())
}

#[test]
fn a_text_that_grows_long_is_computed_anew() -> Result<()> {
    law(&[4], None)
}

#[test]
fn each_text_has_the_rotation_of_its_own_length() -> Result<()> {
    if !model(&checkpoint(config()))
        .decoder(&Params::new())
        .is_some_and(|it| it.takes_any_lengths())
    {
        return law(&[4, 4, 4], Some(1));
    }
    // Long from the start, never long, and two that grow long, one of them before the other.
    law(&[9, 1, 4, 6], None)?;
    law(&[2, 9, 5, 3], Some(1))?;
    law(&[6, 1, 4], Some(0))
}
