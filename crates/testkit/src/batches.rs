//! Random samples: several lengths, padding, ignored labels.

use candle_core::{Device, Tensor};
use rand::Rng;
use vxf_core::batch::IGNORED;
use vxf_core::{Batch, Example, Key, Result};

/// Samples before padding.
#[derive(Clone, Debug)]
pub struct Rows {
    tokens: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
    mask_padding: bool,
}

impl Rows {
    /// `count` samples of 2 to `longest` tokens below `vocabulary`.
    ///
    /// The first sample has a label. About two fifths of all other positions have none, so that
    /// sometimes a whole sample has none.
    pub fn random(count: usize, longest: usize, vocabulary: usize, key: &Key) -> Self {
        let mut rng = key.child("rows").rng();
        let mut rows = Self { tokens: Vec::new(), labels: Vec::new(), mask_padding: true };
        for row in 0..count {
            let length = rng.random_range(2..=longest.max(2));
            let tokens: Vec<_> =
                (0..length).map(|_| rng.random_range(0..vocabulary as u32)).collect();
            let mut labels: Vec<_> = tokens
                .iter()
                .map(|&token| if rng.random_bool(0.4) { IGNORED } else { i64::from(token) })
                .collect();
            if row == 0 {
                labels[length - 1] = i64::from(tokens[length - 1]);
            }
            rows.tokens.push(tokens);
            rows.labels.push(labels);
        }
        rows
    }

    /// Sets whether padded keys are hidden from attention.
    pub fn with_mask_padding(self, mask_padding: bool) -> Self {
        Self { mask_padding, ..self }
    }

    /// All of them as one batch.
    pub fn batch(&self, device: &Device) -> Result<Batch> {
        let tokens: Vec<_> = self.tokens.iter().map(Vec::as_slice).collect();
        let batch = Batch::from_rows(&tokens, &self.labels, device)?;
        Ok(Batch { mask_padding: self.mask_padding, ..batch })
    }

    /// The samples as `parts` batches of about equal size.
    pub fn parts(&self, parts: usize, device: &Device) -> Result<Vec<Batch>> {
        let size = self.tokens.len().div_ceil(parts);
        let part = |(tokens, labels): (&[Vec<u32>], &[Vec<i64>])| {
            let rows = Self { tokens: tokens.to_vec(), labels: labels.to_vec(), ..*self };
            rows.batch(device)
        };
        self.tokens.chunks(size).zip(self.labels.chunks(size)).map(part).collect()
    }
}

/// A random batch.
pub fn batch(rows: usize, longest: usize, vocabulary: usize, key: &Key) -> Result<Batch> {
    Rows::random(rows, longest, vocabulary, key).batch(crate::device())
}

/// `count` random samples with a prompt and an answer, for a stream.
pub fn examples(count: usize, longest: usize, vocabulary: usize, key: &Key) -> Vec<Example> {
    let mut rng = key.child("examples").rng();
    (0..count)
        .map(|_| {
            let length = rng.random_range(3..=longest.max(3));
            let tokens = (0..length).map(|_| rng.random_range(0..vocabulary as u32)).collect();
            Example { tokens, prompt: rng.random_range(1..length - 1) }
        })
        .collect()
}

/// The same batch with `extra` further columns of padding.
pub fn widened(batch: &Batch, extra: usize) -> Result<Batch> {
    let (rows, columns) = batch.shape();
    let targets = batch
        .targets
        .chunks(columns)
        .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(IGNORED, extra)));
    let padding = Tensor::zeros((rows, extra), batch.tokens.dtype(), batch.tokens.device())?;
    Ok(Batch {
        tokens: Tensor::cat(&[&batch.tokens, &padding], 1)?,
        targets: targets.collect(),
        lengths: batch.lengths.clone(),
        mask_padding: batch.mask_padding,
    })
}
