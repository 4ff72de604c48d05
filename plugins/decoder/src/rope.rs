//! Rotary positions: settings, and tables of cosines and sines.

use std::collections::BTreeMap;
use std::f32::consts::TAU;
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{DType, Device, Tensor};
use vxf_core::Result;

/// Settings of rotary positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the angles.
    pub theta: f64,
    /// The part of a head, from its first element on, that is rotated; mostly 1.
    pub share: f64,
    /// How they are scaled to more positions than in pre-training.
    pub scaling: Scaling,
}

/// How rotary positions are scaled to longer sequences.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// All frequencies are divided by a factor.
    Linear(f64),
    /// Low frequencies are divided by a factor, high ones are kept, those between are interpolated.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low_frequency` are low frequencies.
        low_frequency: f64,
        /// Wavelengths below `original / high_frequency` are high frequencies.
        high_frequency: f64,
        /// The number of positions in pre-training.
        original: f64,
    },
    /// YaRN: low frequencies are divided by a factor, high ones are kept, those between are a mix.
    Yarn {
        /// The factor.
        factor: f64,
        /// The factor on cosines and sines.
        attention: f64,
        /// Pairs before `fast` times the width of a head are high frequencies.
        fast: f64,
        /// Pairs after `slow` times the width of a head are low frequencies.
        slow: f64,
        /// Whether these two borders are rounded outwards.
        truncate: bool,
    },
    /// LongRoPE: each frequency is divided by a factor of its own.
    Long {
        /// The factors for sequences of up to `original` positions.
        short: Vec<f64>,
        /// The factors for longer sequences.
        long: Vec<f64>,
        /// The number of positions in pre-training.
        original: usize,
        /// The factor on cosines and sines.
        attention: f64,
    },
}

impl Rope {
    /// A rotation that is not scaled.
    pub fn plain(theta: f64) -> Self {
        Self { theta, share: 1.0, scaling: Scaling::None }
    }

    /// The number of rotated elements of a head.
    pub(crate) fn width(&self, head_width: usize) -> usize {
        (head_width as f64 * self.share) as usize
    }

    /// The angle per position of each of the `half` rotated pairs of a head, for sequences of
    /// `length` positions.
    ///
    /// Frequencies and angles are computed in f32 as in Hugging Face, to the same bits.
    fn frequencies(&self, half: usize, length: usize) -> Vec<f32> {
        let power = |pair: usize| {
            let exponent = (2 * pair) as f32 / (2 * half) as f32;
            (self.theta as f32).powf(exponent)
        };
        let factors = match &self.scaling {
            Scaling::Long { short, long, original, .. } => {
                if length > *original {
                    long
                } else {
                    short
                }
            }
            _ => {
                return (0..half)
                    .map(|pair| self.scaling.stretch(power(pair), pair, half))
                    .collect();
            }
        };
        (0..half).map(|pair| 1.0 / (factors[pair] as f32 * power(pair))).collect()
    }

    /// The factor on cosines and sines.
    fn attention(&self) -> f32 {
        match self.scaling {
            Scaling::Yarn { attention, .. } | Scaling::Long { attention, .. } => attention as f32,
            Scaling::None | Scaling::Linear(_) | Scaling::Llama3 { .. } => 1.0,
        }
    }

    /// Whether sequences of some lengths have other frequencies.
    pub(crate) fn depends_on_length(&self) -> bool {
        matches!(self.scaling, Scaling::Long { .. })
    }

    /// The longest sequence that needs the same frequencies as one of `length` positions.
    pub(crate) fn regime(&self, length: usize) -> usize {
        match self.scaling {
            Scaling::Long { original, .. } if length <= original => original,
            _ => usize::MAX,
        }
    }
}

impl Scaling {
    /// The scaled frequency of pair `pair` of `half`; `power` is the inverse of the plain one.
    fn stretch(&self, power: f32, pair: usize, half: usize) -> f32 {
        let frequency = 1.0 / power;
        match *self {
            Self::None | Self::Long { .. } => frequency,
            Self::Linear(factor) => frequency / factor as f32,
            Self::Llama3 { factor, low_frequency, high_frequency, original } => {
                let (factor, original) = (factor as f32, original as f32);
                let (low, high) = (low_frequency as f32, high_frequency as f32);
                let wavelength = TAU / frequency;
                if wavelength < original / high {
                    frequency
                } else if wavelength > original / low {
                    frequency / factor
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
            Self::Yarn { factor, fast, slow, truncate, .. } => {
                let width = (2 * half) as f64;
                let (low, high) = (fast * width, slow * width);
                let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
                let (low, high) = (low.max(0.0), high.min(width - 1.0));
                let high = if low == high { high + 0.001 } else { high };
                let ramp = (pair as f32 - low as f32) / (high - low) as f32;
                let kept = 1.0 - ramp.clamp(0.0, 1.0);
                1.0 / (factor as f32 * power) * (1.0 - kept) + frequency * kept
            }
        }
    }
}

/// Cosines and sines of positions from 0, `[positions, half]` each.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

/// The tables of a model, computed up to the longest sequence so far.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    pub(crate) rope: Rope,
    half: usize,
    positions: usize,
    dtype: DType,
    device: Device,
    /// The last tables, by the longest sequence that they are for.
    made: Arc<RwLock<BTreeMap<usize, Tables>>>,
}

impl Rotary {
    pub(crate) fn new(
        rope: &Rope,
        head_width: usize,
        positions: usize,
        dtype: DType,
        device: &Device,
    ) -> Self {
        Self {
            rope: rope.clone(),
            half: rope.width(head_width) / 2,
            positions,
            dtype,
            device: device.clone(),
            made: Arc::default(),
        }
    }

    /// Tables of at least `length` positions.
    ///
    /// Models of a hundred thousand positions mostly get a few hundred. Computing all rows at once
    /// would take longer than loading a small model.
    pub(crate) fn tables(&self, length: usize) -> Result<Tables> {
        let regime = self.rope.regime(length);
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner).get(&regime).cloned();
        match made {
            Some(tables) if tables.cos.dim(0)? >= length => Ok(tables),
            _ => {
                let rows = length.next_power_of_two().max(64).min(self.positions.max(length));
                let tables = self.make(rows, length)?;
                let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
                made.insert(regime, tables.clone());
                Ok(tables)
            }
        }
    }

    /// Tables of `rows` positions for sequences of `length`.
    fn make(&self, rows: usize, length: usize) -> Result<Tables> {
        let (frequencies, factor) =
            (&self.rope.frequencies(self.half, length), self.rope.attention());
        let table = |of: fn(f32) -> f32| -> Result<Tensor> {
            let angles = (0..rows)
                .flat_map(|row| frequencies.iter().map(move |it| of(row as f32 * it) * factor));
            let shape = (rows, frequencies.len());
            let table = Tensor::from_vec(angles.collect::<Vec<_>>(), shape, &Device::Cpu)?;
            Ok(table.to_dtype(self.dtype)?.to_device(&self.device)?)
        };
        Ok(Tables { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }
}
