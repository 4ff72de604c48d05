//! Tokenised samples and the batches made of them.

use std::ops::Range;

use candle_core::{Device, Tensor};

use crate::Result;
use vxf_tensor::Rows;
use vxf_tensor::numeric::widened;

/// The label of a position that does not count in the loss.
pub const IGNORED: i64 = -100;

/// One tokenised sample: a prompt and the answer that is trained on, or a conversation with several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    /// Prompt and answer tokens, special tokens included.
    pub tokens: Vec<u32>,
    /// The number of prompt tokens.
    pub prompt: usize,
    /// The tokens that are trained on, in ascending order; all after the prompt if there are none.
    pub trained: Vec<Range<usize>>,
}

impl Example {
    /// The number of tokens in the loss: those of the answer that have a predecessor.
    pub fn labelled(&self) -> usize {
        let all = self.tokens.len();
        let from = |range: &Range<usize>| range.end.min(all).saturating_sub(range.start.max(1));
        match self.trained.is_empty() {
            true => from(&(self.prompt..all)),
            false => self.trained.iter().map(from).sum(),
        }
    }

    /// Whether the token at `index` is trained on.
    fn trains(&self, index: usize) -> bool {
        match self.trained.is_empty() {
            true => index >= self.prompt,
            false => self.trained.iter().any(|range| range.contains(&index)),
        }
    }
}

/// How positions after a sample's last token are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Padding {
    /// They are not computed: the rows of a batch are dense.
    #[default]
    LeftOut,
    /// They are computed, in a rectangle, and their keys are hidden from attention.
    Hidden,
    /// They are computed, and their keys are visible.
    ///
    /// Real positions cannot see them in either case (causal attention, right padding). The values
    /// at padded positions differ, and a published formula reads them.
    Seen,
}

/// A batch of samples.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Token ids, u32 `[batch, sequence]`, right-padded with 0.
    pub tokens: Tensor,
    /// The token to predict at each position of `tokens`, row by row; [`IGNORED`] where there is no
    /// label.
    pub targets: Vec<i64>,
    /// The number of real tokens in each row.
    pub lengths: Vec<usize>,
    /// How padding is treated.
    pub padding: Padding,
    /// The index of each sample in its set, from 0; of existing batches, in the order of their stream.
    pub samples: Vec<usize>,
}

impl Batch {
    /// A batch from examples.
    pub fn new(examples: &[&Example], device: &Device) -> Result<Self> {
        let tokens: Vec<_> = examples.iter().map(|example| example.tokens.as_slice()).collect();
        let labels: Vec<Vec<i64>> = examples
            .iter()
            .map(|example| {
                let label = |(i, &token): (usize, &u32)| match example.trains(i) {
                    true => i64::from(token),
                    false => IGNORED,
                };
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
            padding: Padding::default(),
            samples: (0..tokens.len()).collect(),
        })
    }

    /// The tokens of the sample in `row`, and its unshifted labels.
    pub(crate) fn row_of(&self, row: usize) -> Result<(Vec<u32>, Vec<i64>)> {
        let (_, columns) = self.shape();
        let length = self.lengths[row];
        let tokens = self.tokens.get(row)?.narrow(0, 0, length)?.to_vec1()?;
        let targets = &self.targets[row * columns..][..length.saturating_sub(1)];
        let labels = std::iter::once(IGNORED).chain(targets.iter().copied());
        Ok((tokens, labels.take(length).collect()))
    }

    /// The number of tokens before the first one that is trained on, of each sample; all of them if none
    /// is.
    pub fn prompts(&self) -> Vec<usize> {
        let (_, columns) = self.shape();
        let prompt = |(row, &length): (usize, &usize)| {
            let mut targets = self.targets[row * columns..][..length].iter();
            targets.position(|target| *target >= 0).map_or(length, |at| at + 1)
        };
        self.lengths.iter().enumerate().map(prompt).collect()
    }

    /// The prompt of each sample, followed by what `others` trains on in the sample of the same place: its
    /// tokens from the first one that is trained on. A pair is cut off after `longest` tokens.
    ///
    /// # Errors
    /// When `others` has fewer samples.
    pub fn with_answers_of(&self, others: &Self, longest: usize) -> Result<Self> {
        if others.lengths.len() < self.lengths.len() {
            let problem =
                format!("{} answers for {} prompts", others.lengths.len(), self.lengths.len());
            return Err(candle_core::Error::Msg(problem).into());
        }
        let (prompts, answers) = (self.prompts(), others.prompts());
        let rows = (0..self.lengths.len()).map(|row| {
            let (mut tokens, _) = self.row_of(row)?;
            let (answer, trained) = others.row_of(row)?;
            tokens.truncate(prompts[row]);
            let mut labels = vec![IGNORED; tokens.len()];
            tokens.extend(&answer[answers[row]..]);
            labels.extend(&trained[answers[row]..]);
            tokens.truncate(longest);
            labels.truncate(longest);
            Ok((tokens, labels))
        });
        Self::of_rows(rows, self.tokens.device())
    }

    /// Each sample without the beginning of its prompt: the last `kept` tokens of it, at least one, and what
    /// follows.
    ///
    /// # Errors
    /// When the device fails.
    pub fn with_endings_of_prompts(&self, kept: usize) -> Result<Self> {
        let prompts = self.prompts();
        let rows = (0..self.lengths.len()).map(|row| {
            let (mut tokens, mut labels) = self.row_of(row)?;
            let left_out = prompts[row].saturating_sub(kept.max(1));
            tokens.drain(..left_out);
            labels.drain(..left_out);
            Ok((tokens, labels))
        });
        Self::of_rows(rows, self.tokens.device())
    }

    /// A batch from tokens and unshifted labels of each sample.
    fn of_rows(
        rows: impl Iterator<Item = Result<(Vec<u32>, Vec<i64>)>>,
        device: &Device,
    ) -> Result<Self> {
        let (tokens, labels): (Vec<_>, Vec<_>) =
            rows.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        Self::from_rows(&tokens, &labels, device)
    }

    /// The mean of the rows `[positions, width]` of each sample for which `counts` holds, `[samples, width]`
    /// in `f32` or wider; zero where there is none. `counts` takes the sample and the position.
    pub fn means(&self, rows: &Tensor, counts: &dyn Fn(usize, usize) -> bool) -> Result<Tensor> {
        let index = self.rows();
        let mut shares = vec![0.0f64; index.samples() * index.count()];
        for (sample, own) in shares.chunks_mut(index.count().max(1)).enumerate() {
            let range = index.range(sample);
            let length = range.len().min(self.lengths[sample]);
            let chosen: Vec<usize> = (0..length).filter(|at| counts(sample, *at)).collect();
            chosen.iter().for_each(|at| own[range.start + at] = 1.0 / chosen.len() as f64);
        }
        let rows = widened(rows)?;
        let shares = Tensor::from_vec(shares, (index.samples(), index.count()), &Device::Cpu)?;
        Ok(shares.to_dtype(rows.dtype())?.to_device(rows.device())?.matmul(&rows)?)
    }

    /// The same samples with another treatment of padding.
    #[must_use]
    pub fn with_padding(&self, padding: Padding) -> Self {
        Self { padding, ..self.clone() }
    }

    /// The number of labelled positions.
    pub fn labelled(&self) -> usize {
        self.targets.iter().filter(|&&target| target >= 0).count()
    }

    /// Rows and columns of `tokens`.
    pub fn shape(&self) -> (usize, usize) {
        let rows = self.lengths.len();
        (rows, self.targets.len().checked_div(rows).unwrap_or(0))
    }

    /// The sample and the position of each row of a hidden embedding `[positions, width]`.
    pub fn rows(&self) -> Rows {
        let (samples, columns) = self.shape();
        match self.padding {
            Padding::LeftOut => Rows::dense(&self.lengths),
            Padding::Hidden => Rows::rectangle(samples, columns).hiding(&self.lengths),
            Padding::Seen => Rows::rectangle(samples, columns),
        }
    }

    /// The token of each row, u32 `[positions]`.
    pub fn row_tokens(&self) -> Result<Tensor> {
        // On the device: reading tokens back would wait for it.
        let rows = self.rows();
        Ok(rows.packed(&self.tokens.narrow(1, 0, rows.longest())?.contiguous()?)?)
    }

    /// The token to predict at each row; [`IGNORED`] where there is no label.
    pub fn row_targets(&self) -> Vec<i64> {
        self.rows().pick(&self.targets)
    }

    /// Puts rows of the real positions `[real positions, width]` into the layout of this batch; padding
    /// is zero.
    pub fn laid_out(&self, real: &Tensor) -> Result<Tensor> {
        match self.padding {
            Padding::LeftOut => Ok(real.clone()),
            Padding::Hidden | Padding::Seen => {
                Ok(self.rows().packed(&Rows::dense(&self.lengths).padded(real)?)?)
            }
        }
    }

    /// 1 at real tokens, 0 at padding, `[positions, 1]` in `like`'s type and on its device.
    pub fn token_mask(&self, like: &Tensor) -> Result<Tensor> {
        let rows = self.rows();
        let real = |(sample, at): (usize, usize)| f32::from(u8::from(at < self.lengths[sample]));
        let mask: Vec<f32> = rows.positions().map(real).collect();
        Ok(Tensor::from_vec(mask, (rows.count(), 1), &Device::Cpu)?
            .to_dtype(like.dtype())?
            .to_device(like.device())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_shifted_and_prompts_ignored() -> Result<()> {
        let a = Example { tokens: vec![1, 5, 2, 7, 3], prompt: 3, ..Example::default() };
        let b = Example { tokens: vec![1, 2, 9], prompt: 2, ..Example::default() };
        let batch = Batch::new(&[&a, &b], &Device::Cpu)?;
        assert_eq!(batch.targets, [-100, -100, 7, 3, -100, -100, 9, -100, -100, -100]);
        assert_eq!((batch.labelled(), batch.shape()), (3, (2, 5)));
        assert_eq!((a.labelled(), b.labelled()), (2, 1));
        assert_eq!(batch.tokens.to_vec2::<u32>()?[1], [1, 2, 9, 0, 0]);
        assert_eq!(batch.row_tokens()?.to_vec1::<u32>()?, [1, 5, 2, 7, 3, 1, 2, 9]);
        assert_eq!(batch.row_targets(), [-100, -100, 7, 3, -100, -100, 9, -100]);
        assert_eq!(batch.prompts(), [3, 2]);
        let swapped = Batch::new(&[&b, &a], &Device::Cpu)?;
        let pairs = batch.with_answers_of(&swapped, 9)?;
        assert_eq!(pairs.row_tokens()?.to_vec1::<u32>()?, [1, 5, 2, 9, 1, 2, 7, 3]);
        assert_eq!(pairs.row_targets(), [-100, -100, 9, -100, -100, 7, 3, -100]);
        assert_eq!(batch.with_answers_of(&swapped, 3)?.lengths, [3, 3]);
        assert!(batch.with_answers_of(&Batch::new(&[&b], &Device::Cpu)?, 9).is_err());
        let endings = batch.with_endings_of_prompts(2)?;
        assert_eq!(endings.row_tokens()?.to_vec1::<u32>()?, [5, 2, 7, 3, 1, 2, 9]);
        assert_eq!(endings.row_targets(), [-100, 7, 3, -100, -100, 9, -100]);
        assert_eq!(batch.with_endings_of_prompts(0)?.lengths, [3, 2]);
        let values =
            Tensor::new(&[[1f32], [2.0], [3.0], [4.0], [5.0], [6.0], [7.0], [8.0]], &Device::Cpu)?;
        let answers = |_: usize, at: usize| at >= 2;
        assert_eq!(batch.means(&values, &answers)?.flatten_all()?.to_vec1::<f32>()?, [4.0, 8.0]);
        let none = batch.means(&values, &|sample, _| sample == 0)?;
        assert_eq!(none.flatten_all()?.to_vec1::<f32>()?, [3.0, 0.0]);
        let wide = batch.with_padding(Padding::Hidden);
        assert_eq!(wide.row_targets(), batch.targets);
        let real = Tensor::arange(0u32, 8, &Device::Cpu)?.to_dtype(candle_core::DType::F32)?;
        let real = real.reshape((8, 1))?;
        let rows = wide.laid_out(&real)?.flatten_all()?.to_vec1::<f32>()?;
        assert_eq!(rows, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0, 0.0]);
        assert_eq!(batch.laid_out(&real)?.dims(), [8, 1]);
        Ok(())
    }
}
