//! Eight-bit integers with one scale for each row.

use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

use super::{Number, with_slice};

/// The largest code.
const LARGEST: f32 = 127.0;
/// Codes are stored as bytes with this offset, because candle has no signed ones.
const ZERO: u8 = 128;

/// Codes `[rows, columns]`, and the largest magnitude of each row.
#[derive(Debug)]
pub struct Rowwise {
    /// Codes plus 128, u8.
    codes: Tensor,
    /// `[rows]`, f32.
    largest: Tensor,
}

impl Rowwise {
    /// Quantises numbers in `rows` rows of the same length.
    pub(super) fn new(values: &[f32], rows: usize) -> Result<Self> {
        let columns = values.len() / rows.max(1);
        let largest: Vec<f32> = values
            .chunks_exact(columns.max(1))
            .map(|row| row.iter().fold(0.0, |most: f32, value| most.max(value.abs())))
            .collect();
        let code = |(at, value): (usize, &f32)| {
            let largest = largest[at / columns];
            let code = if largest > 0.0 { value * (LARGEST / largest) } else { 0.0 };
            (code.round_ties_even() as i8).cast_unsigned().wrapping_add(ZERO)
        };
        let codes: Vec<u8> = values.iter().enumerate().map(code).collect();
        Ok(Self {
            codes: Tensor::from_vec(codes, (rows, columns), &Device::Cpu)?,
            largest: Tensor::from_vec(largest, rows, &Device::Cpu)?,
        })
    }

    /// Codes -127 to 127 `[rows, columns]` and the largest magnitude of each row, as they are stored.
    ///
    /// # Errors
    /// When the counts do not fit.
    pub fn stored(codes: &[i8], largest: Vec<f32>) -> Result<Self> {
        let rows = largest.len();
        if rows == 0 || !codes.len().is_multiple_of(rows) {
            bail!("{} codes in {rows} rows", codes.len());
        }
        let shifted = codes.iter().map(|code| code.cast_unsigned().wrapping_add(ZERO)).collect();
        Ok(Self {
            codes: Tensor::from_vec::<_, u8>(shifted, (rows, codes.len() / rows), &Device::Cpu)?,
            largest: Tensor::from_vec(largest, rows, &Device::Cpu)?,
        })
    }

    /// The number of rows of `columns` codes.
    pub(super) fn check(&self, columns: usize) -> Result<usize> {
        let (rows, own) = self.codes.dims2()?;
        match own == columns {
            true => Ok(rows),
            false => bail!("rows of {own} codes for {columns} columns"),
        }
    }

    pub(super) fn device(&self) -> &Device {
        self.codes.device()
    }

    pub(super) fn to_device(&self, device: &Device) -> Result<Self> {
        let (codes, largest) = (self.codes.to_device(device)?, self.largest.to_device(device)?);
        Ok(Self { codes, largest })
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.codes.elem_count() + 4 * self.largest.elem_count()) as u64
    }

    /// Code times magnitude, times 1/127: rounded in this order, as bitsandbytes does.
    pub(super) fn composed(&self) -> Result<Tensor> {
        let codes = (self.codes.to_dtype(DType::F32)? - f64::from(ZERO))?;
        codes.broadcast_mul(&self.largest.unsqueeze(1)?)?.affine(f64::from(1.0 / LARGEST), 0.0)
    }

    pub(super) fn fill<T: Number>(&self, into: &mut [T], columns: usize) -> Result<()> {
        with_slice::<u8, _>(&self.codes, |codes| {
            with_slice::<f32, _>(&self.largest, |largest| {
                let rows = into.par_chunks_mut(columns).zip(codes.par_chunks(columns));
                rows.zip(largest).for_each(|((into, codes), &largest)| {
                    crate::vectorised!(for (into, &code) in into.iter_mut().zip(codes) {
                        let code = f32::from(code) - f32::from(ZERO);
                        *into = T::from(code * largest * (1.0 / LARGEST));
                    });
                });
            })
        })?
    }
}
