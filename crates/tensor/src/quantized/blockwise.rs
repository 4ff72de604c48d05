//! Four-bit codes of a table, with a scale for each block of numbers.

use std::sync::LazyLock;

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::{Number, with_slice};

/// The sixteen values of NF4 (arXiv 2305.14314, appendix E), rounded to f32.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];
/// Numbers of a block.
const BLOCK: usize = 64;
/// Scales of a block of scales.
const SCALES: usize = 256;

/// Codes of four bits; the first number of two has the higher bits.
#[derive(Debug)]
pub struct Blockwise {
    /// u8, two codes each, in whole blocks.
    codes: Tensor,
    scales: Scales,
    /// Numbers of a block.
    block: usize,
    /// The value of each code.
    table: [f32; 16],
}

/// The scales of blocks.
#[derive(Debug)]
pub enum Scales {
    /// As they are, f32.
    Plain(Tensor),
    /// In eight bits: `map[code] * state of 256 scales + offset`.
    Quantized {
        /// u8, one for each block.
        codes: Tensor,
        /// The values of the codes, `[256]`, f32.
        map: Tensor,
        /// One for every 256 blocks, f32.
        states: Tensor,
        /// What is added to each scale.
        offset: f32,
    },
}

/// The bytes of so many numbers in NF4.
pub(super) fn bytes(numbers: usize) -> usize {
    let blocks = numbers.div_ceil(BLOCK);
    blocks * BLOCK / 2 + blocks + 4 * blocks.div_ceil(SCALES)
}

/// The values of an eight-bit code whose exponent takes as many bits as it needs (Dettmers 2016, arXiv
/// 1511.04561; dynamic tree quantisation): signed, sorted, in the arithmetic of f32.
static DYNAMIC: LazyLock<Vec<f32>> = LazyLock::new(|| {
    let mut values = vec![0.0, 1.0];
    for exponent in 0..7 {
        let steps = 1_usize << exponent;
        let step = (1.0_f32 - 0.1) / steps as f32;
        // From both ends, as the reference's evenly spaced boundaries are computed.
        let bound = |at: usize| match at < steps.div_ceil(2).max(1) {
            true => 0.1 + step * at as f32,
            false => 1.0 - step * (steps - at) as f32,
        };
        let power = 10.0_f64.powi(exponent - 6) as f32;
        for at in 0..steps {
            let value = power * ((bound(at) + bound(at + 1)) / 2.0);
            values.extend([value, -value]);
        }
    }
    values.sort_by(f32::total_cmp);
    values
});

/// The points between neighbours of a sorted table.
fn bounds(table: &[f32]) -> Vec<f32> {
    table.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect()
}

/// The code of the nearest value.
fn nearest(bounds: &[f32], value: f32) -> u8 {
    bounds.partition_point(|bound| *bound < value) as u8
}

/// The largest magnitude of each block, and the number by which its elements are multiplied.
fn largest(block: &[f32]) -> (f32, f32) {
    let most = block.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    (most, 1.0 / most.max(1e-38))
}

impl Blockwise {
    /// Quantises numbers to NF4 with scales in eight bits.
    pub(super) fn nf4(values: &[f32]) -> Result<Self> {
        let bounds = bounds(&NF4);
        let (mut codes, mut scales) = (Vec::new(), Vec::new());
        for block in values.chunks(BLOCK) {
            let (most, factor) = largest(block);
            scales.push(most);
            let code = |at: usize| {
                let value = block.get(at).map_or(0.0, |value| (value * factor).clamp(-1.0, 1.0));
                nearest(&bounds, value)
            };
            codes.extend((0..BLOCK / 2).map(|at| code(2 * at) << 4 | code(2 * at + 1)));
        }
        let wide: f64 = scales.iter().copied().map(f64::from).sum();
        let offset = (wide / scales.len().max(1) as f64) as f32;
        let scales = Scales::new(&scales, offset)?;
        let codes =
            Tensor::from_vec(codes, values.len().div_ceil(BLOCK) * BLOCK / 2, &Device::Cpu)?;
        Self::stored(codes, scales, BLOCK, &NF4)
    }

    /// Codes as they are stored: `codes` u8 `[bytes]`, blocks of `block` numbers, the value of each code in
    /// `table`. All are on the CPU.
    ///
    /// # Errors
    /// When the table has not sixteen values, or the block's size is odd.
    pub fn stored(codes: Tensor, scales: Scales, block: usize, table: &[f32]) -> Result<Self> {
        /// The largest block that bitsandbytes knows.
        const LARGEST: usize = 4096;
        let known = (1..=LARGEST).contains(&block) && block.is_multiple_of(2);
        let (Ok(table), true) = (table.try_into(), known) else {
            bail!("a table of {} values, blocks of {block}", table.len());
        };
        Ok(Self { codes: codes.flatten_all()?.force_contiguous()?, scales, block, table })
    }

    /// The values of the two codes of each byte.
    fn pairs(&self) -> [[f32; 2]; 256] {
        std::array::from_fn(|byte| [self.table[byte >> 4], self.table[byte & 15]])
    }

    /// Checks that there are codes and scales for so many numbers.
    pub(super) fn check(&self, numbers: usize) -> Result<()> {
        let (bytes, blocks) = (self.codes.elem_count(), numbers.div_ceil(self.block));
        if bytes < numbers.div_ceil(2) || self.scales.count() != blocks {
            let scales = self.scales.count();
            bail!("{bytes} bytes and {scales} scales for {numbers} numbers in {blocks} blocks");
        }
        Ok(())
    }

    pub(super) fn device(&self) -> &Device {
        self.codes.device()
    }

    pub(super) fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            codes: self.codes.to_device(device)?,
            scales: self.scales.to_device(device)?,
            block: self.block,
            table: self.table,
        })
    }

    pub(super) fn bytes(&self) -> u64 {
        self.codes.elem_count() as u64 + self.scales.bytes()
    }

    /// The first `numbers` values as f32, by candle's operations on any device.
    pub(super) fn composed(&self, numbers: usize) -> Result<Tensor> {
        let pairs = Tensor::new(&self.pairs(), self.device())?;
        let values = looked_up(&pairs, &self.codes)?.flatten_all()?;
        let blocks = self.scales.count();
        let lacking = (blocks * self.block).saturating_sub(values.elem_count());
        let values = values.pad_with_zeros(0, 0, lacking)?.narrow(0, 0, blocks * self.block)?;
        let scaled = values
            .reshape((blocks, self.block))?
            .broadcast_mul(&self.scales.composed()?.unsqueeze(1)?)?;
        scaled.flatten_all()?.narrow(0, 0, numbers)
    }

    /// Writes the first values into `into`.
    pub(super) fn fill<T: Number>(&self, into: &mut [T]) -> Result<()> {
        let scales = self.scales.values()?;
        let (block, pairs) = (self.block, &self.pairs());
        with_slice::<u8, _>(&self.codes, |codes| {
            let work = into.par_chunks_mut(AT_ONCE * block).enumerate();
            work.for_each(|(part, into)| {
                crate::vectorised!(fill_blocks(into, part * AT_ONCE, block, codes, &scales, pairs));
            });
        })
    }
}

/// Blocks that one thread dequantises before it looks for more work.
const AT_ONCE: usize = 256;

#[inline(always)]
fn fill_blocks<T: Number>(
    into: &mut [T],
    first: usize,
    block: usize,
    codes: &[u8],
    scales: &[f32],
    pairs: &[[f32; 2]; 256],
) {
    for ((into, codes), &scale) in into
        .chunks_mut(block)
        .zip(codes[first * block / 2..].chunks(block / 2))
        .zip(&scales[first..])
    {
        let (whole, last) = into.as_chunks_mut::<2>();
        for (into, &code) in whole.iter_mut().zip(codes) {
            let [high, low] = pairs[usize::from(code)];
            *into = [T::from(high * scale), T::from(low * scale)];
        }
        if let ([last], Some(&code)) = (last, codes.get(whole.len())) {
            *last = T::from(pairs[usize::from(code)][0] * scale);
        }
    }
}

/// The rows of `table` that `codes` name. As bytes, the code 255 would be read as no row at all.
fn looked_up(table: &Tensor, codes: &Tensor) -> Result<Tensor> {
    table.index_select(&codes.to_dtype(DType::U32)?, 0)
}

impl Scales {
    /// Quantises scales after `offset` is taken away.
    fn new(scales: &[f32], offset: f32) -> Result<Self> {
        let bounds = bounds(&DYNAMIC);
        let (mut codes, mut states) = (Vec::new(), Vec::new());
        for block in scales.chunks(SCALES) {
            let block: Vec<f32> = block.iter().map(|scale| scale - offset).collect();
            let (most, factor) = largest(&block);
            states.push(most);
            let code = |value: &f32| nearest(&bounds, (value * factor).clamp(-1.0, 1.0));
            codes.extend(block.iter().map(code));
        }
        let (blocks, blocks_of_blocks) = (codes.len(), states.len());
        Ok(Self::Quantized {
            codes: Tensor::from_vec::<_, u8>(codes, blocks, &Device::Cpu)?,
            map: Tensor::from_slice(&DYNAMIC, 256, &Device::Cpu)?,
            states: Tensor::from_vec(states, blocks_of_blocks, &Device::Cpu)?,
            offset,
        })
    }

    fn count(&self) -> usize {
        match self {
            Self::Plain(scales) => scales.elem_count(),
            Self::Quantized { codes, .. } => codes.elem_count(),
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Plain(scales) => 4 * scales.elem_count() as u64,
            Self::Quantized { codes, states, .. } => {
                (codes.elem_count() + 4 * states.elem_count()) as u64
            }
        }
    }

    fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::Plain(scales) => Self::Plain(scales.to_device(device)?),
            Self::Quantized { codes, map, states, offset } => Self::Quantized {
                codes: codes.to_device(device)?,
                map: map.to_device(device)?,
                states: states.to_device(device)?,
                offset: *offset,
            },
        })
    }

    /// All scales as f32, by candle's operations on any device.
    fn composed(&self) -> Result<Tensor> {
        match self {
            Self::Plain(scales) => Ok(scales.clone()),
            Self::Quantized { codes, map, states, offset } => {
                let (blocks, of_blocks) = (codes.elem_count(), states.elem_count());
                let states = states.unsqueeze(1)?.broadcast_as((of_blocks, SCALES))?;
                let states = states.flatten_all()?.narrow(0, 0, blocks)?;
                let offset = Tensor::new(*offset, codes.device())?.to_dtype(DType::F32)?;
                (looked_up(map, codes)? * states)?.broadcast_add(&offset)
            }
        }
    }

    /// All scales, on the CPU.
    fn values(&self) -> Result<Vec<f32>> {
        self.composed()?.to_vec1()
    }
}

#[cfg(test)]
mod tests {
    use super::DYNAMIC;

    #[test]
    fn the_dynamic_code_has_256_values() {
        assert_eq!(DYNAMIC.len(), 256);
        assert!(DYNAMIC.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!((DYNAMIC[0] < -0.99, DYNAMIC[255]), (true, 1.0));
    }
}
