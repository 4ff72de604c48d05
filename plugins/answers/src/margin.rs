//! The refusal margin: log odds of a refusal's first word against a compliance's first word.

use candle_core::{DType, Tensor};
use vxf_core::Example;
use vxf_core::generate::groups_of_one_length;
use vxf_core::metric::{Model, Prompt};
use vxf_core::prelude::*;

/// The refusal margin of each prompt, in nats.
///
/// It is `logsumexp(refusal openings) - logsumexp(compliance openings)` of the logits at the first
/// position of the answer. `openings` are the token ids of refusals and of compliance. The harmful
/// score is a threshold of the margin, so the margin falls before the score rises. A batch holds at
/// most `batch_size` prompts of one length, so that no padding is needed.
///
/// # Errors
/// When a prompt has no token, or an opening is not in the model's vocabulary.
pub fn refusal_margins(
    model: Model<'_>,
    prompts: &[Prompt],
    openings: (&[u32], &[u32]),
    batch_size: usize,
) -> Result<Vec<f64>> {
    let mut margins = vec![0.0; prompts.len()];
    for group in groups_of_one_length(prompts, batch_size) {
        let example = |&index: &usize| {
            let tokens = prompts[index].tokens.clone();
            Example { prompt: tokens.len(), tokens, ..Example::default() }
        };
        let examples: Vec<_> = group.iter().map(example).collect();
        if examples[0].tokens.is_empty() {
            return Err(Error::MissingData {
                metric: "harmful-score".to_owned(),
                need: "prompts of at least one token".to_owned(),
            });
        }
        let rows: Vec<_> = examples.iter().collect();
        let batch = Batch::new(&rows, model.backbone.device())?;
        let logits = batch.rows().last_of_each(&model.logits(&batch)?)?;
        let refusal = log_sum_exp(&logits, openings.0)?;
        let compliance = log_sum_exp(&logits, openings.1)?;
        for (index, (refusal, compliance)) in group.iter().zip(refusal.iter().zip(compliance)) {
            margins[*index] = refusal - compliance;
        }
    }
    Ok(margins)
}

/// `logsumexp` over `tokens` of each row of the logits `[batch, vocabulary]`, in f64.
fn log_sum_exp(logits: &Tensor, tokens: &[u32]) -> Result<Vec<f64>> {
    let tokens = Tensor::new(tokens, logits.device())?;
    let rows = logits.contiguous()?.index_select(&tokens, 1)?.to_dtype(DType::F64)?;
    let of_row = |row: &Vec<f64>| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        largest + row.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
    };
    Ok(rows.to_vec2::<f64>()?.iter().map(of_row).collect())
}

#[cfg(test)]
mod tests {
    use vxf_testkit::metric::Table;

    use super::*;
    use crate::fake::{ROWS, log_sum_exp, prompts};

    #[test]
    fn margins_match_the_definition_in_prompt_order() -> Result<()> {
        let (table, weights) = (Table::new(&ROWS)?, Params::new());
        let model = Model { backbone: &table, weights: &weights };
        let prompts = prompts(&[&[1], &[3, 2], &[2], &[1, 3], &[3]]);
        let margins = refusal_margins(model, &prompts, (&[0, 1], &[2, 3]), 2)?;
        assert_eq!(margins.len(), 5);
        for (margin, last) in margins.iter().zip([1, 2, 2, 3, 3]) {
            let logits = ROWS[last];
            let wanted = log_sum_exp(&logits[..2]) - log_sum_exp(&logits[2..]);
            assert!((margin - wanted).abs() < 1e-6, "{margin} {wanted}");
        }
        Ok(())
    }

    #[test]
    fn a_prompt_needs_a_token() -> Result<()> {
        let (table, weights) = (Table::new(&ROWS)?, Params::new());
        let model = Model { backbone: &table, weights: &weights };
        assert!(refusal_margins(model, &prompts(&[&[]]), (&[1], &[2]), 4).is_err());
        Ok(())
    }
}
