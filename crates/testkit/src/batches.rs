//! Random samples: several lengths, padding, ignored labels.

use candle_core::{Device, Tensor};
use proptest::strategy::Strategy;
use rand::Rng;
use vxf_core::batch::IGNORED;
use vxf_core::{Batch, Example, Key, Padding, Result};

/// Samples before padding.
#[derive(Clone, Debug)]
pub struct Rows {
    tokens: Vec<Vec<u32>>,
    labels: Vec<Vec<i64>>,
    padding: Padding,
}

impl Rows {
    /// `count` samples of 2 to `longest` tokens below `vocabulary`.
    ///
    /// The first sample has a label. About two fifths of all other positions have none, so that
    /// sometimes a whole sample has none.
    pub fn random(count: usize, longest: usize, vocabulary: usize, key: &Key) -> Self {
        let mut rng = key.child("rows").rng();
        let mut rows = Self { tokens: Vec::new(), labels: Vec::new(), padding: Padding::LeftOut };
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

    /// Sets the treatment of padding.
    pub fn with_padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// All of them as one batch.
    pub fn batch(&self, device: &Device) -> Result<Batch> {
        let tokens: Vec<_> = self.tokens.iter().map(Vec::as_slice).collect();
        Ok(Batch::from_rows(&tokens, &self.labels, device)?.with_padding(self.padding))
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

/// Every treatment of padding.
pub fn paddings() -> impl Strategy<Value = Padding> {
    proptest::sample::select(vec![Padding::LeftOut, Padding::Hidden, Padding::Seen])
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
            Example { tokens, prompt: rng.random_range(1..length - 1), ..Example::default() }
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
        ..batch.clone()
    })
}

/// The rows of `x` `[positions, width]` that belong to real positions of `batch`.
pub fn real_rows(batch: &Batch, x: &Tensor) -> Result<Tensor> {
    let real = |&(_, (sample, at)): &(u32, (usize, usize))| at < batch.lengths[sample];
    let rows = batch.rows();
    let rows: Vec<u32> = (0..).zip(rows.positions()).filter(real).map(|(row, _)| row).collect();
    Ok(x.index_select(&Tensor::new(rows, x.device())?, 0)?)
}
