//! Keyed randomness: a draw depends on its purpose, not on earlier draws.
//!
//! A dropout mask or a noise tensor is a function of (seed, purpose, step, ...), so that the
//! recomputation of a block draws the mask of its forward pass and a resumed run needs counters only.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::Result;

/// A node in the tree of random streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The root key of a seed.
    pub fn root(seed: u64) -> Self {
        Self(Sha256::digest([b"vxf".as_slice(), &seed.to_le_bytes()].concat()).into())
    }

    /// The stream for `purpose`, independent of all its siblings.
    pub fn child(&self, purpose: &str) -> Self {
        self.derive(b"name", purpose.as_bytes())
    }

    /// The `index`-th stream of a series.
    pub fn index(&self, index: u64) -> Self {
        self.derive(b"item", &index.to_le_bytes())
    }

    fn derive(&self, tag: &[u8], data: &[u8]) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(tag);
        hash.update(data);
        Self(hash.finalize().into())
    }

    /// A generator at the start of this stream.
    pub fn rng(&self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.0)
    }

    /// Standard normal draws, made in f64 on the CPU so that every device sees the same values.
    pub fn normal(&self, shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let count: usize = shape.iter().product();
        let mut rng = self.rng();
        let mut values = Vec::with_capacity(count + 1);
        while values.len() < count {
            // Box-Muller; 1 - u keeps the logarithm finite, as u is in [0, 1).
            let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            let angle = std::f64::consts::TAU * rng.random::<f64>();
            values.extend([radius * angle.cos(), radius * angle.sin()]);
        }
        values.truncate(count);
        self.tensor(values, shape, dtype, device)
    }

    /// Draws uniform in `[-bound, bound)`.
    pub fn uniform(
        &self,
        bound: f64,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let mut rng = self.rng();
        let values = (0..shape.iter().product())
            .map(|_| bound * (2.0 * rng.random::<f64>() - 1.0))
            .collect();
        self.tensor(values, shape, dtype, device)
    }

    /// The key as the eight words that a generator starts from.
    pub(crate) fn words(&self) -> [u32; 8] {
        let word =
            |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        std::array::from_fn(|at| word(&self.0[4 * at..][..4]))
    }

    fn tensor(
        &self,
        values: Vec<f64>,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_separate_and_repeatable() {
        let key = Key::root(7);
        let draw = |key: &Key| key.rng().random::<u64>();
        assert_eq!(draw(&key.child("a").index(1)), draw(&Key::root(7).child("a").index(1)));
        assert_ne!(draw(&key.child("a").index(1)), draw(&key.child("a").index(2)));
        assert_ne!(draw(&key.child("a")), draw(&key.child("b")));
        // `child` and `index` cannot collide, whatever bytes the name has.
        assert_ne!(key.child("\u{1}\0\0\0\0\0\0\0"), key.index(1));
    }

    #[test]
    fn draws_have_their_moments() -> Result<()> {
        let normal = Key::root(1).normal(&[20_001], DType::F64, &Device::Cpu)?.to_vec1::<f64>()?;
        let mean = normal.iter().sum::<f64>() / normal.len() as f64;
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / normal.len() as f64;
        // Five standard errors at n = 20 001.
        assert!(mean.abs() < 0.036, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
        Ok(())
    }
}
