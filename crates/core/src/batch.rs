//! Tokenised samples and the batches made of them.

use candle_core::{Device, Tensor};

use crate::Result;

/// The label of a position that does not count in the loss.
pub const IGNORED: i64 = -100;

/// One tokenised sample: a prompt and the answer that is trained on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Prompt and answer tokens, special tokens included.
    pub tokens: Vec<u32>,
    /// The number of prompt tokens.
    pub prompt: usize,
}

impl Example {
    /// The number of tokens in the loss: those of the answer that have a predecessor.
    pub fn labelled(&self) -> usize {
        self.tokens.len().saturating_sub(self.prompt.max(1))
    }
}

/// A batch of right-padded samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Token ids, u32 `[batch, sequence]`; padding holds 0.
    pub tokens: Tensor,
    /// The token to predict at each position, row by row; [`IGNORED`] where there is no label.
    pub targets: Vec<i64>,
    /// The number of real tokens in each row.
    pub lengths: Vec<usize>,
    /// Whether padded keys are hidden from attention.
    ///
    /// Real positions cannot see them in either case (causal attention, right padding). The values
    /// at padded positions differ, and two published formulas read them.
    pub mask_padding: bool,
}

impl Batch {
    /// A batch from examples, padded to the longest.
    pub fn new(examples: &[&Example], device: &Device) -> Result<Self> {
        let tokens: Vec<_> = examples.iter().map(|example| example.tokens.as_slice()).collect();
        let labels: Vec<Vec<i64>> = examples
            .iter()
            .map(|example| {
                let label =
                    |(i, &token)| if i < example.prompt { IGNORED } else { i64::from(token) };
                example.tokens.iter().enumerate().map(label).collect()
            })
            .collect();
        Self::from_rows(&tokens, &labels, device)
    }

    /// A batch from rows of tokens and their unshifted labels ([`IGNORED`] where none).
    pub fn from_rows(tokens: &[&[u32]], labels: &[Vec<i64>], device: &Device) -> Result<Self> {
        let length = tokens.iter().map(|row| row.len()).max().unwrap_or(0);
        let mut ids = vec![0u32; tokens.len() * length];
        let mut targets = vec![IGNORED; tokens.len() * length];
        for (row, (tokens, labels)) in tokens.iter().zip(labels).enumerate() {
            let start = row * length;
            ids[start..start + tokens.len()].copy_from_slice(tokens);
            // Position t predicts token t + 1.
            for (target, &label) in targets[start..].iter_mut().zip(labels.iter().skip(1)) {
                *target = label;
            }
        }
        Ok(Self {
            tokens: Tensor::from_vec(ids, (tokens.len(), length), device)?,
            targets,
            lengths: tokens.iter().map(|row| row.len()).collect(),
            mask_padding: true,
        })
    }

    /// The number of labelled positions.
    pub fn labelled(&self) -> usize {
        self.targets.iter().filter(|&&target| target >= 0).count()
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        let rows = self.lengths.len();
        (rows, self.targets.len().checked_div(rows).unwrap_or(0))
    }

    /// 1 at real tokens, 0 at padding, `[batch, sequence, 1]` in `like`'s type and on its device.
    pub fn token_mask(&self, like: &Tensor) -> Result<Tensor> {
        let (rows, columns) = self.shape();
        let real = |row: usize| (0..columns).map(move |column| (row, column));
        let mask: Vec<f32> = (0..rows)
            .flat_map(real)
            .map(|(row, column)| f32::from(u8::from(column < self.lengths[row])))
            .collect();
        Ok(Tensor::from_vec(mask, (rows, columns, 1), &Device::Cpu)?
            .to_dtype(like.dtype())?
            .to_device(like.device())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_shifted_and_prompts_ignored() -> Result<()> {
        let a = Example { tokens: vec![1, 5, 2, 7, 3], prompt: 3 };
        let b = Example { tokens: vec![1, 2, 9], prompt: 2 };
        let batch = Batch::new(&[&a, &b], &Device::Cpu)?;
        assert_eq!(batch.targets, [-100, -100, 7, 3, -100, -100, 9, -100, -100, -100]);
        assert_eq!((batch.labelled(), batch.shape()), (3, (2, 5)));
        assert_eq!((a.labelled(), b.labelled()), (2, 1));
        assert_eq!(batch.tokens.to_vec2::<u32>()?[1], [1, 2, 9, 0, 0]);
        Ok(())
    }
}
