//! Rotary positions: settings, and tables of cosines and sines.

use std::f32::consts::TAU;
use std::sync::{Arc, PoisonError, RwLock};

use candle_core::{DType, Device, Tensor};
use vxf_core::Result;

/// Settings of rotary positions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// Base of the angles.
    pub theta: f64,
    /// How they are scaled to more positions than in pre-training.
    pub scaling: Scaling,
}

/// How rotary positions are scaled to longer sequences.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

impl Rope {
    /// The angle per position of each of the `half` rotated pairs of a head.
    ///
    /// Frequencies and angles are computed in f32 as in Hugging Face, to the same bits.
    fn frequencies(&self, half: usize) -> Vec<f32> {
        let plain = |pair: usize| {
            let exponent = (2 * pair) as f32 / (2 * half) as f32;
            1.0 / (self.theta as f32).powf(exponent)
        };
        (0..half).map(|pair| self.scaling.stretch(plain(pair))).collect()
    }
}

impl Scaling {
    fn stretch(&self, frequency: f32) -> f32 {
        match *self {
            Self::None => frequency,
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
        }
    }
}

/// Cosines and sines of positions from 0, `[positions, head / 2]` each.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub(crate) cos: Tensor,
    pub(crate) sin: Tensor,
}

/// The tables of a model, computed up to the longest sequence so far.
#[derive(Clone, Debug)]
pub(crate) struct Rotary {
    frequencies: Vec<f32>,
    positions: usize,
    dtype: DType,
    device: Device,
    made: Arc<RwLock<Option<Tables>>>,
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
            frequencies: rope.frequencies(head_width / 2),
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
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner).clone();
        match made {
            Some(tables) if tables.cos.dim(0)? >= length => Ok(tables),
            _ => {
                let rows = length.next_power_of_two().max(64).min(self.positions.max(length));
                let tables = self.make(rows)?;
                let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
                *made = Some(tables.clone());
                Ok(tables)
            }
        }
    }

    fn make(&self, rows: usize) -> Result<Tables> {
        let table = |of: fn(f32) -> f32| -> Result<Tensor> {
            let angles = (0..rows)
                .flat_map(|row| self.frequencies.iter().map(move |it| of(row as f32 * it)));
            let shape = (rows, self.frequencies.len());
            let table = Tensor::from_vec(angles.collect::<Vec<_>>(), shape, &Device::Cpu)?;
            Ok(table.to_dtype(self.dtype)?.to_device(&self.device)?)
        };
        Ok(Tables { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }
}
