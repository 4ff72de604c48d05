//! Frozen matrices in four or eight bits, dequantised where they are used.
//!
//! A matrix is stored in the layout of bitsandbytes and read as f32 or f64, a whole matrix at a time: the
//! caller gives the buffer. Low-rank updates lie on top of the codes, so that an adapter is merged without
//! quantising anything again.

mod blockwise;
mod rowwise;

use std::fmt;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Storage, Tensor, WithDType, bail};
use rayon::prelude::*;

use crate::vectorised;

pub use blockwise::{Blockwise, Scales};
pub use rowwise::Rowwise;

/// How the numbers of a matrix are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Four bits: quantiles of a normal distribution, blocks of 64 numbers, scales in eight bits (Dettmers et
    /// al. 2023, arXiv 2305.14314, section 3).
    Nf4,
    /// Eight bits: integers, one scale for each row (Dettmers et al. 2022, arXiv 2208.07339, section 2).
    Int8,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nf4 => "nf4",
            Self::Int8 => "int8",
        })
    }
}

impl Scheme {
    /// The bytes of a matrix `[rows, columns]`.
    pub fn bytes(self, rows: usize, columns: usize) -> u64 {
        let bytes = match self {
            Self::Nf4 => blockwise::bytes(rows * columns),
            Self::Int8 => rows * columns + 4 * rows,
        };
        bytes as u64
    }
}

/// A number that a matrix can be read as.
pub trait Number: WithDType + From<f32> {}

impl Number for f32 {}
impl Number for f64 {}

/// A matrix `[rows, columns]` in few bits. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// Matrices of the same width, one below the other.
    parts: Vec<Part>,
    columns: usize,
}

#[derive(Clone, Debug)]
struct Part {
    rows: usize,
    codes: Codes,
    updates: Vec<Arc<Update>>,
}

#[derive(Clone, Debug)]
enum Codes {
    Blockwise(Arc<Blockwise>),
    Rowwise(Arc<Rowwise>),
}

/// `B A` with the scale in `B`, both f32.
#[derive(Debug)]
struct Update {
    /// A `[rank, columns]`.
    a: Tensor,
    /// B `[rows, rank]`.
    b: Tensor,
}

impl Quantized {
    /// Quantises the matrix `w` `[rows, columns]`.
    ///
    /// # Errors
    /// When `w` is no matrix of floating-point numbers.
    pub fn new(w: &Tensor, scheme: Scheme) -> Result<Self> {
        let (rows, columns) = w.dims2()?;
        let values = w.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?;
        let values = values.to_vec1::<f32>()?;
        match scheme {
            Scheme::Nf4 => Self::blockwise(Blockwise::nf4(&values)?, rows, columns),
            Scheme::Int8 => Self::rowwise(Rowwise::new(&values, rows)?, columns),
        }
        .and_then(|made| made.to_device(w.device()))
    }

    /// The matrix `[rows, columns]` with these codes.
    ///
    /// # Errors
    /// When there are fewer codes than numbers.
    pub fn blockwise(codes: Blockwise, rows: usize, columns: usize) -> Result<Self> {
        codes.check(rows * columns)?;
        let codes = Codes::Blockwise(Arc::new(codes));
        Ok(Self { parts: vec![Part { rows, codes, updates: Vec::new() }], columns })
    }

    /// The matrix with these codes and `columns` columns.
    ///
    /// # Errors
    /// When there are not as many codes as numbers.
    pub fn rowwise(codes: Rowwise, columns: usize) -> Result<Self> {
        let rows = codes.check(columns)?;
        let codes = Codes::Rowwise(Arc::new(codes));
        Ok(Self { parts: vec![Part { rows, codes, updates: Vec::new() }], columns })
    }

    /// These matrices, one below the other. The codes are shared.
    ///
    /// # Errors
    /// When their widths or devices differ.
    pub fn stacked(all: &[&Self]) -> Result<Self> {
        let Some(first) = all.first() else { bail!("a stack of no matrices") };
        for other in all {
            if other.columns != first.columns || !other.device().same_device(first.device()) {
                bail!("matrices of {} and {} columns in one stack", first.columns, other.columns);
            }
        }
        let parts = all.iter().flat_map(|one| one.parts.iter().cloned()).collect();
        Ok(Self { parts, columns: first.columns })
    }

    /// `W + scale B A`, for `a` `[rank, columns]` and `b` `[rows, rank]`. The product is kept beside the
    /// codes, in f32.
    ///
    /// # Errors
    /// When the shapes do not fit, or this is a stack.
    pub fn updated(&self, a: &Tensor, b: &Tensor, scale: f64) -> Result<Self> {
        let [part] = &self.parts[..] else { bail!("an update of a stack of matrices") };
        let (rank, columns) = a.dims2()?;
        if columns != self.columns || b.dims() != [part.rows, rank] {
            let (a, b, rows) = (a.dims(), b.dims(), part.rows);
            bail!("a is {a:?} and b is {b:?}, which do not fit [{rows}, {}]", self.columns);
        }
        let own = |tensor: &Tensor, factor: f64| {
            let wide = (tensor.detach().to_dtype(DType::F64)? * factor)?;
            wide.to_dtype(DType::F32)?.to_device(self.device())?.force_contiguous()
        };
        let update = Update { a: own(a, 1.0)?, b: own(b, scale)? };
        let mut part = part.clone();
        part.updates.push(Arc::new(update));
        Ok(Self { parts: vec![part], columns })
    }

    /// `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.parts.iter().map(|part| part.rows).sum(), self.columns]
    }

    /// How its numbers are stored; any table of four bits counts as NF4.
    pub fn scheme(&self) -> Scheme {
        match &self.parts[0].codes {
            Codes::Blockwise(_) => Scheme::Nf4,
            Codes::Rowwise(_) => Scheme::Int8,
        }
    }

    /// The device it is on.
    pub fn device(&self) -> &Device {
        match &self.parts[0].codes {
            Codes::Blockwise(codes) => codes.device(),
            Codes::Rowwise(codes) => codes.device(),
        }
    }

    /// The same matrix on `device`.
    ///
    /// # Errors
    /// When the device is full.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        if self.device().same_device(device) {
            return Ok(self.clone());
        }
        let moved = |part: &Part| {
            let codes = match &part.codes {
                Codes::Blockwise(codes) => Codes::Blockwise(Arc::new(codes.to_device(device)?)),
                Codes::Rowwise(codes) => Codes::Rowwise(Arc::new(codes.to_device(device)?)),
            };
            let own = |update: &Arc<Update>| -> Result<Arc<Update>> {
                let (a, b) = (update.a.to_device(device)?, update.b.to_device(device)?);
                Ok(Arc::new(Update { a, b }))
            };
            let updates = part.updates.iter().map(own).collect::<Result<_>>()?;
            Ok(Part { rows: part.rows, codes, updates })
        };
        Ok(Self { parts: self.parts.iter().map(moved).collect::<Result<_>>()?, ..*self })
    }

    /// The bytes of codes, scales and updates.
    pub fn bytes(&self) -> u64 {
        let own = |part: &Part| {
            let codes = match &part.codes {
                Codes::Blockwise(codes) => codes.bytes(),
                Codes::Rowwise(codes) => codes.bytes(),
            };
            let updates = part.updates.iter().map(|it| it.a.elem_count() + it.b.elem_count());
            codes + 4 * updates.sum::<usize>() as u64
        };
        self.parts.iter().map(own).sum()
    }

    /// The matrix as a tensor.
    ///
    /// # Errors
    /// When the device is full.
    pub fn dense(&self, dtype: DType) -> Result<Tensor> {
        if matches!(self.device(), Device::Cpu) {
            let [rows, columns] = self.dims();
            return match dtype {
                DType::F64 => {
                    let mut values = vec![0.0_f64; rows * columns];
                    self.fill(&mut values)?;
                    Tensor::from_vec(values, (rows, columns), &Device::Cpu)
                }
                _ => {
                    let mut values = vec![0.0_f32; rows * columns];
                    self.fill(&mut values)?;
                    Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.to_dtype(dtype)
                }
            };
        }
        self.composed()?.to_dtype(dtype)
    }

    /// The matrix as f32, by candle's operations on any device.
    fn composed(&self) -> Result<Tensor> {
        let own = |part: &Part| {
            let shape = (part.rows, self.columns);
            let mut w = match &part.codes {
                Codes::Blockwise(codes) => codes.composed(shape.0 * shape.1)?.reshape(shape)?,
                Codes::Rowwise(codes) => codes.composed()?,
            };
            for update in &part.updates {
                w = (w + update.b.matmul(&update.a)?)?;
            }
            Ok(w)
        };
        Tensor::cat(&self.parts.iter().map(own).collect::<Result<Vec<_>>>()?, 0)
    }

    /// Writes the numbers of a matrix on the CPU into `into`, row by row.
    ///
    /// # Errors
    /// When `into` has another size, or the matrix is on another device.
    pub fn fill<T: Number>(&self, mut into: &mut [T]) -> Result<()> {
        let [rows, columns] = self.dims();
        if into.len() != rows * columns {
            bail!("a buffer of {} numbers for [{rows}, {columns}]", into.len());
        }
        for part in &self.parts {
            let (own, rest) = into.split_at_mut(part.rows * columns);
            into = rest;
            match &part.codes {
                Codes::Blockwise(codes) => codes.fill(own)?,
                Codes::Rowwise(codes) => codes.fill(own, columns)?,
            }
            for update in &part.updates {
                with_slice::<f32, _>(&update.a, |a| {
                    with_slice::<f32, _>(&update.b, |b| add_product(own, columns, a, b))
                })??;
            }
        }
        Ok(())
    }
}

/// Rows that one thread adds a product to.
const ROWS: usize = 16;

/// Adds `b a` to `w`, whose rows have `columns` numbers.
fn add_product<T: Number>(w: &mut [T], columns: usize, a: &[f32], b: &[f32]) {
    if columns == 0 || a.is_empty() {
        return;
    }
    let rank = a.len() / columns;
    let blocks = w.par_chunks_mut(ROWS * columns).zip(b.par_chunks(ROWS * rank));
    blocks.for_each(|(w, b)| {
        vectorised!(for (w, b) in w.chunks_exact_mut(columns).zip(b.chunks_exact(rank)) {
            for (&b, a) in b.iter().zip(a.chunks_exact(columns)) {
                for (w, &a) in w.iter_mut().zip(a) {
                    *w += T::from(b) * T::from(a);
                }
            }
        });
    });
}

/// Calls `work` with the numbers of a contiguous CPU tensor.
fn with_slice<T: WithDType, R>(tensor: &Tensor, work: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        bail!("a quantised matrix is read on the CPU, but it is on another device");
    };
    Ok(work(&storage.as_slice::<T>()?[start..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    /// What candle's operations make of the codes on any device is what the loops make on the CPU.
    #[test]
    fn both_ways_to_dequantise_agree() -> Result<()> {
        let draw = |name: &str, shape: &[usize]| {
            Key::root(1).child(name).normal(shape, DType::F32, &Device::Cpu)
        };
        for (rows, columns) in [(300, 64), (5, 7), (1, 1), (3, 130)] {
            for scheme in [Scheme::Nf4, Scheme::Int8] {
                let one = Quantized::new(&draw("one", &[rows, columns])?, scheme)?;
                let two = one.updated(&draw("a", &[2, columns])?, &draw("b", &[rows, 2])?, 0.5)?;
                let both = Quantized::stacked(&[&one, &two])?;
                let (loops, composed) = (both.dense(DType::F32)?, both.composed()?);
                let off = (loops - composed)?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(off < 1e-5, "{scheme:?} [{rows}, {columns}]: {off}");
                assert_eq!(
                    one.dense(DType::F32)?.to_vec2::<f32>()?,
                    one.composed()?.to_vec2::<f32>()?
                );
            }
        }
        Ok(())
    }
}
