//! Keyed randomness: a draw depends on its purpose, not on earlier draws.
//!
//! A dropout mask or a noise tensor is a function of (seed, purpose, step, ...), so that the
//! recomputation of a block draws the mask of its forward pass and a resumed run needs counters only.

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
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

    /// An inverted-dropout mask: 0 with probability `p`, else `1 / (1 - p)`.
    pub fn dropout(
        &self,
        p: f64,
        shape: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(cuda), DType::F32 | DType::BF16) = (device, dtype) {
            let mask = vxf_cuda::dropout(cuda, self.0, p, shape.iter().product(), dtype)?;
            return Ok(vxf_cuda::tensor(mask, shape));
        }
        let keep = 1.0 / (1.0 - p);
        let mask = match dtype {
            DType::F32 => Tensor::from_vec(self.mask(p, keep as f32, shape), shape, &Device::Cpu)?,
            _ => Tensor::from_vec(self.mask(p, keep, shape), shape, &Device::Cpu)?,
        };
        mask.to_dtype(dtype)?.to_device(device)
    }

    /// Zeros with probability `p`, else `keep`: one generator's draws, computed in pieces on all
    /// threads.
    fn mask<T: Copy + Default + Send + Sync>(&self, p: f64, keep: T, shape: &[usize]) -> Vec<T> {
        const PIECE: usize = 1 << 12;
        /// Generator words per draw.
        const WORDS: usize = 2;
        let mut mask = vec![T::default(); shape.iter().product()];
        mask.par_chunks_mut(PIECE).enumerate().for_each(|(piece, mask)| {
            let mut rng = self.rng();
            rng.set_word_pos((piece * PIECE * WORDS) as u128);
            for value in mask {
                if rng.random::<f64>() >= p {
                    *value = keep;
                }
            }
        });
        mask
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

    /// Drawing in pieces equals one long draw.
    #[test]
    fn a_mask_is_one_draw() -> Result<()> {
        let (key, count) = (Key::root(5), 20_001);
        let mut rng = key.rng();
        let drawn: Vec<f64> = (0..count).map(|_| rng.random()).collect();
        for dtype in [DType::F64, DType::F32] {
            let mask = key.dropout(0.1, &[count], dtype, &Device::Cpu)?;
            let mask = mask.to_dtype(DType::F64)?.to_vec1::<f64>()?;
            let kept = drawn.iter().zip(&mask).all(|(&draw, &mask)| (draw >= 0.1) == (mask > 0.0));
            assert!(kept);
            let most = mask.iter().copied().fold(0.0, f64::max);
            assert!((most - 1.0 / 0.9).abs() < 1e-7);
        }
        Ok(())
    }

    #[test]
    fn draws_have_their_moments() -> Result<()> {
        let normal = Key::root(1).normal(&[20_001], DType::F64, &Device::Cpu)?.to_vec1::<f64>()?;
        let mean = normal.iter().sum::<f64>() / normal.len() as f64;
        let variance = normal.iter().map(|x| x * x).sum::<f64>() / normal.len() as f64;
        // Five standard errors at n = 20 001.
        assert!(mean.abs() < 0.036, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
        let mask = Key::root(1).dropout(0.25, &[10_000], DType::F32, &Device::Cpu)?;
        assert!((mask.mean_all()?.to_scalar::<f32>()? - 1.0).abs() < 0.03);
        Ok(())
    }
}
