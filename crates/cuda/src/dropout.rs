//! Dropout by masks that are drawn wherever they are used.

use std::sync::Arc;

use candle_core::{CudaDevice, CudaStorage, DType, Result};
use half::bf16;

use crate::attention::{Sample, Samples};
use crate::buffer::{Operand, allocate};
use crate::launch::{DROPOUT, ENOUGH, Launch, THREADS};

/// The dropout of a tensor `[rows, width]`: 0 where the draw of ChaCha8 under a key is below `least`, else
/// `keep`. The draws are those of the CPU.
///
/// It holds no mask: each use draws it again, with the same bits.
#[derive(Clone, Debug)]
pub struct Dropout {
    device: CudaDevice,
    key: [u32; 8],
    samples: Arc<Samples>,
    dims: [usize; 2],
    least: u32,
    keep: f64,
}

impl Dropout {
    /// The dropout of the rows of `samples`, of which sample `s` draws from stream `s`.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn new(
        device: &CudaDevice,
        key: [u32; 8],
        samples: Vec<Sample>,
        width: usize,
        least: u32,
        keep: f64,
    ) -> Result<Self> {
        let samples = Samples::shared(device, samples)?;
        let dims = [samples.rows(), width];
        Ok(Self { device: device.clone(), key, samples, dims, least, keep })
    }

    /// Rows and width.
    pub fn dims(&self) -> &[usize; 2] {
        &self.dims
    }

    /// The mask itself.
    ///
    /// # Errors
    /// When a launch fails.
    pub fn mask(&self, dtype: DType) -> Result<CudaStorage> {
        let mask = allocate(&self.device, dtype, self.count())?;
        self.launch("dropout", dtype, [Operand::whole(&mask, self.count())])?;
        Ok(mask)
    }

    /// `x mask`.
    ///
    /// # Errors
    /// When a launch fails.
    pub fn applied(&self, x: Operand<'_>) -> Result<CudaStorage> {
        let y = allocate(&self.device, x.dtype(), self.count())?;
        self.launch("dropped", x.dtype(), [x, Operand::whole(&y, self.count())])?;
        Ok(y)
    }

    /// Adds `x mask` to `y`.
    ///
    /// # Errors
    /// When a launch fails.
    pub fn add_applied(&self, y: Operand<'_>, x: Operand<'_>) -> Result<()> {
        self.launch("add_dropped", x.dtype(), [x, y])
    }

    fn count(&self) -> usize {
        self.dims.iter().product()
    }

    fn launch<const N: usize>(
        &self,
        name: &str,
        dtype: DType,
        operands: [Operand<'_>; N],
    ) -> Result<()> {
        /// Draws of one block of the generator.
        const DRAWS: usize = 16;
        let [_, width] = self.dims;
        // Rounded once, as the CPU does it.
        let rounded = || bf16::from_f64(self.keep).to_f64();
        let keep = if dtype == DType::BF16 { rounded() } else { self.keep };
        let blocks = (self.samples.longest() * width).div_ceil(DRAWS * DRAWS) * DRAWS;
        Launch::of(&self.device, DROPOUT, name, dtype)?
            .words(self.key)
            .buffer(self.samples.table())?
            .buffers(operands)?
            .sizes([width, self.least as usize])?
            .single(keep)
            .grid([blocks.div_ceil(THREADS).min(ENOUGH), self.samples.count(), 1], THREADS, 0)
    }
}
