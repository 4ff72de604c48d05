//! Dropout masks, keyed by sample and position: they are the same in every layout of a batch.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use crate::rng::Key;
use crate::rows::Rows;
use crate::{Result, vectorised};

/// Blocks of the generator that are computed together, and the words of each.
const LANES: usize = 16;

/// Draws of these blocks.
const GROUP: usize = LANES * LANES;

/// Draws per unit of parallel work.
const PIECE: usize = 64 * GROUP;

/// The elements of a `[positions, width]` tensor that dropout keeps, and their factor.
#[derive(Clone, Debug)]
pub struct Mask {
    held: Held,
    factor: f64,
}

#[derive(Clone, Debug)]
enum Held {
    /// 1 where an element is kept and 0 elsewhere, u8.
    Kept(Tensor),
    /// The factors themselves, on a device.
    Factors(Tensor),
    /// Nothing: a GPU draws a mask where it uses it.
    #[cfg(feature = "cuda")]
    Drawn(std::sync::Arc<vxf_cuda::Dropout>),
}

impl Mask {
    /// A mask that keeps elements where `kept`, u8, is 1, and multiplies them by `factor`.
    pub fn new(kept: Tensor, factor: f64) -> Self {
        Self { held: Held::Kept(kept), factor }
    }

    /// The u8 tensor and the factor; none on a GPU.
    pub fn kept(&self) -> Option<(&Tensor, f64)> {
        match &self.held {
            Held::Kept(kept) => Some((kept, self.factor)),
            _ => None,
        }
    }

    /// The mask as draws of a GPU, if it is one.
    #[cfg(feature = "cuda")]
    pub fn drawn(&self) -> Option<&std::sync::Arc<vxf_cuda::Dropout>> {
        match &self.held {
            Held::Drawn(dropout) => Some(dropout),
            _ => None,
        }
    }

    /// The sizes of the masked tensor.
    pub fn dims(&self) -> &[usize] {
        match &self.held {
            Held::Kept(tensor) | Held::Factors(tensor) => tensor.dims(),
            #[cfg(feature = "cuda")]
            Held::Drawn(dropout) => dropout.dims(),
        }
    }

    /// The mask as factors of type `dtype`: zero, or the factor of kept elements.
    ///
    /// # Errors
    /// When there is no such tensor.
    pub fn factors(&self, dtype: DType) -> Result<Tensor> {
        match &self.held {
            Held::Kept(kept) if dtype == DType::F32 => {
                kept.to_dtype(dtype)?.affine(f64::from(self.factor as f32), 0.0)
            }
            Held::Kept(kept) => {
                kept.to_dtype(DType::F64)?.affine(self.factor, 0.0)?.to_dtype(dtype)
            }
            Held::Factors(factors) => factors.to_dtype(dtype),
            #[cfg(feature = "cuda")]
            Held::Drawn(dropout) => {
                let drawn = if dtype == DType::BF16 { dtype } else { DType::F32 };
                vxf_cuda::tensor(dropout.mask(drawn)?, &dropout.dims()[..]).to_dtype(dtype)
            }
        }
    }
}

impl Key {
    /// An inverted-dropout mask for `[positions, width]`: an element is dropped with probability `p`,
    /// otherwise multiplied by `1 / (1 - p)`.
    ///
    /// A draw depends on this key, the sample, the position and the column alone.
    ///
    /// # Errors
    /// When the device has no memory for it.
    pub fn mask(
        &self,
        p: f64,
        rows: &Rows,
        width: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Mask> {
        let (factor, least) = (1.0 / (1.0 - p), threshold(p));
        let shape = (rows.count(), width);
        #[cfg(feature = "cuda")]
        if let (Device::Cuda(cuda), DType::F32 | DType::BF16) = (device, dtype) {
            let samples = rows.ranges().zip(rows.seen()).map(|(range, &seen)| vxf_cuda::Sample {
                first: range.start,
                first_key: range.start,
                len: range.len(),
                seen,
            });
            let samples = samples.collect();
            let dropout =
                vxf_cuda::Dropout::new(cuda, self.words(), samples, width, least, factor)?;
            return Ok(Mask { held: Held::Drawn(dropout.into()), factor });
        }
        let mut kept = vec![0u8; rows.count() * width];
        let (mut pieces, mut rest) = (Vec::new(), &mut kept[..]);
        for (sample, range) in rows.ranges().enumerate() {
            let (own, others) = rest.split_at_mut(range.len() * width);
            rest = others;
            let numbered = own.chunks_mut(PIECE).enumerate();
            pieces.extend(numbered.map(|(piece, own)| (sample, piece * PIECE / GROUP, own)));
        }
        let key = self.words();
        pieces.into_par_iter().for_each(|(sample, first, kept)| {
            vectorised!(draw(kept, &key, sample as u64, first as u64, least));
        });
        let kept = Tensor::from_vec(kept, shape, &Device::Cpu)?;
        if device.is_cpu() {
            return Ok(Mask::new(kept, factor));
        }
        let factors = Mask::new(kept, factor).factors(dtype)?;
        Ok(Mask { held: Held::Factors(factors.to_device(device)?), factor })
    }
}

/// The least 32-bit draw that keeps an element.
fn threshold(p: f64) -> u32 {
    (p * (u64::from(u32::MAX) + 1) as f64).round().min(f64::from(u32::MAX)) as u32
}

/// Fills `kept` with the draws of `sample` from its group `first` on.
#[inline(always)]
fn draw(kept: &mut [u8], key: &[u32; 8], sample: u64, first: u64, least: u32) {
    for (group, kept) in (first..).zip(kept.chunks_mut(GROUP)) {
        let words = chacha8(key, group * LANES as u64, sample);
        let mut drawn = [0u8; GROUP];
        for (drawn, words) in drawn.as_chunks_mut::<LANES>().0.iter_mut().zip(&words) {
            for (drawn, word) in drawn.iter_mut().zip(words) {
                *drawn = u8::from(*word >= least);
            }
        }
        kept.copy_from_slice(&drawn[..kept.len()]);
    }
}

/// One word of each of the blocks that are computed together.
type Words = [u32; LANES];

/// ChaCha with 8 rounds: blocks `counter` to `counter + 15` of `stream`, word by word. `counter` is a
/// multiple of 16.
#[inline(always)]
fn chacha8(key: &[u32; 8], counter: u64, stream: u64) -> [Words; 16] {
    let mut start = [[0; LANES]; 16];
    let constants = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
    for (words, constant) in start.iter_mut().zip(constants) {
        *words = [constant; LANES];
    }
    for (words, key) in start[4..].iter_mut().zip(key) {
        *words = [*key; LANES];
    }
    for (lane, low) in start[12].iter_mut().enumerate() {
        *low = counter as u32 + lane as u32;
    }
    start[13] = [(counter >> 32) as u32; LANES];
    start[14] = [stream as u32; LANES];
    start[15] = [(stream >> 32) as u32; LANES];
    let mut x = start;
    for _ in 0..4 {
        quarter_round(&mut x, [0, 4, 8, 12]);
        quarter_round(&mut x, [1, 5, 9, 13]);
        quarter_round(&mut x, [2, 6, 10, 14]);
        quarter_round(&mut x, [3, 7, 11, 15]);
        quarter_round(&mut x, [0, 5, 10, 15]);
        quarter_round(&mut x, [1, 6, 11, 12]);
        quarter_round(&mut x, [2, 7, 8, 13]);
        quarter_round(&mut x, [3, 4, 9, 14]);
    }
    for (x, start) in x.iter_mut().zip(&start) {
        for (x, start) in x.iter_mut().zip(start) {
            *x = x.wrapping_add(*start);
        }
    }
    x
}

#[inline(always)]
fn quarter_round(x: &mut [Words; 16], [a, b, c, d]: [usize; 4]) {
    mix(x, [a, b, d], 16);
    mix(x, [c, d, b], 12);
    mix(x, [a, b, d], 8);
    mix(x, [c, d, b], 7);
}

/// `to += from`, then `turned = (turned ^ to) <<< by`.
#[inline(always)]
fn mix(x: &mut [Words; 16], [to, from, turned]: [usize; 3], by: u32) {
    let (mut sums, mut words) = (x[to], x[turned]);
    for ((sum, word), term) in sums.iter_mut().zip(&mut words).zip(x[from]) {
        *sum = sum.wrapping_add(term);
        *word = (*word ^ *sum).rotate_left(by);
    }
    (x[to], x[turned]) = (sums, words);
}

#[cfg(test)]
mod tests {
    use rand::RngCore;

    use super::*;

    fn kept(mask: &Mask) -> Result<Vec<u8>> {
        mask.kept().expect("on the CPU").0.flatten_all()?.to_vec1()
    }

    /// The words are those of the published generator, block by block.
    #[test]
    fn words_are_those_of_chacha8() {
        let key = Key::root(5);
        for (stream, group) in [(0, 0), (3, 1), (7, 1 << 30)] {
            let ours = chacha8(&key.words(), group * 16, stream);
            for lane in 0..16 {
                let mut rng = key.rng();
                rng.set_stream(stream);
                rng.set_word_pos(u128::from((group * 16 + lane) * 16));
                for words in &ours {
                    assert_eq!(words[lane as usize], rng.next_u32());
                }
            }
        }
    }

    /// A position draws the same in the dense layout, in a rectangle and beside other samples.
    #[test]
    fn draws_belong_to_samples_and_positions() -> Result<()> {
        let (key, width) = (Key::root(6), 37);
        let lengths = [100, 3, 500];
        let draw = |rows: &Rows| key.mask(0.3, rows, width, DType::F32, &Device::Cpu);
        let dense = kept(&draw(&Rows::dense(&lengths))?)?;
        let wide = kept(&draw(&Rows::rectangle(3, 512))?)?;
        let picked = Rows::dense(&lengths).pick(&wide.chunks(width).collect::<Vec<_>>());
        // `pick` counts columns of the rectangle: 512 for each sample.
        assert_eq!(dense, picked.concat());
        let alone = kept(&draw(&Rows::dense(&lengths[..1]))?)?;
        assert_eq!(dense[..alone.len()], alone);
        assert_ne!(dense[..3 * width], dense[100 * width..103 * width], "samples differ");
        Ok(())
    }

    #[test]
    fn a_mask_drops_its_share() -> Result<()> {
        let (rows, p) = (Rows::dense(&[300, 700]), 0.1);
        for dtype in [DType::F32, DType::F64] {
            let mask = Key::root(1).mask(p, &rows, 100, dtype, &Device::Cpu)?;
            let factors = mask.factors(dtype)?;
            assert_eq!((factors.dims(), factors.dtype()), (&[1000, 100][..], dtype));
            let factors = factors.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            let most = factors.iter().copied().fold(0.0, f64::max);
            assert!((most - 1.0 / (1.0 - p)).abs() < 1e-7);
            let dropped = factors.iter().filter(|factor| **factor == 0.0).count() as f64 / 1e5;
            // Five standard errors of a share at n = 100 000.
            assert!((dropped - p).abs() < 5.0 * (p * (1.0 - p) / 1e5).sqrt(), "{dropped}");
        }
        Ok(())
    }
}
