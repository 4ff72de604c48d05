//! Launches a kernel.

use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, LaunchConfig, PushKernelArg,
};
use candle_core::{CudaDevice, DType, Result, bail};

use crate::buffer::Operand;
use crate::device::bind;

#[allow(unreachable_pub, reason = "generated")]
mod ptx {
    include!(concat!(env!("OUT_DIR"), "/ptx.rs"));
}

/// A file of kernels.
#[derive(Clone, Copy)]
pub(crate) struct File {
    name: &'static str,
    ptx: &'static str,
}

pub(crate) const ADAMW: File = File { name: "vxf-adamw", ptx: ptx::ADAMW };
pub(crate) const ATTENTION: File = File { name: "vxf-attention", ptx: ptx::ATTENTION };
pub(crate) const CROSS_ENTROPY: File = File { name: "vxf-cross-entropy", ptx: ptx::CROSS_ENTROPY };
pub(crate) const DROPOUT: File = File { name: "vxf-dropout", ptx: ptx::DROPOUT };
pub(crate) const ELEMENTWISE: File = File { name: "vxf-elementwise", ptx: ptx::ELEMENTWISE };
pub(crate) const HEADS: File = File { name: "vxf-heads", ptx: ptx::HEADS };
pub(crate) const NORM: File = File { name: "vxf-norm", ptx: ptx::NORM };
pub(crate) const REDUCE: File = File { name: "vxf-reduce", ptx: ptx::REDUCE };
pub(crate) const SWIGLU: File = File { name: "vxf-swiglu", ptx: ptx::SWIGLU };

/// The default number of threads in a block.
pub(crate) const THREADS: usize = 256;

/// Elements that a thread of an element-wise kernel moves at a time, `RUN` of `common.cuh`.
pub(crate) const RUN: usize = 4;

/// More than enough blocks to fill any device.
pub(crate) const ENOUGH: usize = 1 << 14;

/// Shared memory of a block that needs no opt-in.
const SHARED_BY_DEFAULT: usize = 48 << 10;

/// A kernel argument: a scalar, an address, or the words of a key.
#[derive(Clone, Copy)]
pub(crate) enum Argument {
    U32(u32),
    U64(u64),
    I32(i32),
    F32(f32),
    Words([u32; 8]),
}

/// A kernel with its arguments, before the launch.
pub(crate) struct Launch {
    function: CudaFunction,
    stream: Arc<CudaStream>,
    arguments: Vec<Argument>,
}

impl Launch {
    /// The kernel `name` of `file`.
    pub(crate) fn new(device: &CudaDevice, file: File, name: &str) -> Result<Self> {
        bind(device)?;
        let function = device.get_or_load_custom_func(name, file.name, file.ptx)?;
        let function = function.into_cuda_function();
        Ok(Self { function, stream: device.cuda_stream(), arguments: Vec::new() })
    }

    /// The variant of the kernel `name` for elements of `dtype`.
    pub(crate) fn of(device: &CudaDevice, file: File, name: &str, dtype: DType) -> Result<Self> {
        let suffix = match dtype {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            other => bail!("the kernel `{name}` does not support the type {other:?}"),
        };
        Self::new(device, file, &format!("{name}_{suffix}"))
    }

    fn with(mut self, argument: Argument) -> Self {
        self.arguments.push(argument);
        self
    }

    /// Adds a buffer.
    pub(crate) fn buffer(self, operand: Operand<'_>) -> Result<Self> {
        let address = operand.address()?;
        Ok(self.with(Argument::U64(address)))
    }

    /// Adds buffers.
    pub(crate) fn buffers<const N: usize>(self, operands: [Operand<'_>; N]) -> Result<Self> {
        operands.into_iter().try_fold(self, Self::buffer)
    }

    /// Adds the address of an operand's element at `offset`; an element has `width` bytes.
    pub(crate) fn at_offset(
        self,
        operand: Operand<'_>,
        offset: usize,
        width: usize,
    ) -> Result<Self> {
        let address = operand.address()? + (offset * width) as u64;
        Ok(self.with(Argument::U64(address)))
    }

    /// Adds an address that the kernel does not read.
    pub(crate) fn null(self) -> Self {
        self.with(Argument::U64(0))
    }

    /// Adds sizes as 32-bit numbers.
    pub(crate) fn sizes<const N: usize>(self, sizes: [usize; N]) -> Result<Self> {
        sizes.into_iter().try_fold(self, |launch, size| match u32::try_from(size) {
            Ok(size) => Ok(launch.with(Argument::U32(size))),
            Err(_) => bail!("a size of {size} exceeds the kernels' 32-bit sizes"),
        })
    }

    /// Adds a count as a 64-bit number.
    pub(crate) fn count(self, count: usize) -> Self {
        self.with(Argument::U64(count as u64))
    }

    /// Adds counts as 64-bit numbers.
    pub(crate) fn counts<const N: usize>(self, counts: [usize; N]) -> Self {
        counts.into_iter().fold(self, Self::count)
    }

    /// Adds a flag.
    pub(crate) fn flag(self, flag: bool) -> Self {
        self.with(Argument::I32(i32::from(flag)))
    }

    /// Adds the words of a key, by value.
    pub(crate) fn words(self, words: [u32; 8]) -> Self {
        self.with(Argument::Words(words))
    }

    /// Adds a number in single precision.
    pub(crate) fn single(self, number: f64) -> Self {
        self.with(Argument::F32(number as f32))
    }

    /// Launches a thread for each of `count` elements, or fewer that loop over several.
    pub(crate) fn over(self, count: usize) -> Result<()> {
        self.grid([count.div_ceil(THREADS).min(ENOUGH), 1, 1], THREADS, 0)
    }

    /// As [`over`](Self::over), for kernels whose threads move [`RUN`] elements at a time.
    pub(crate) fn over_runs(self, count: usize) -> Result<()> {
        self.over(count.div_ceil(RUN))
    }

    /// Launches `grid` blocks of `threads` with `shared` bytes of shared memory each.
    pub(crate) fn grid(self, grid: [usize; 3], threads: usize, shared: usize) -> Result<()> {
        if grid.contains(&0) {
            return Ok(());
        }
        if shared > SHARED_BY_DEFAULT {
            let limit = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function.set_attribute(limit, shared as i32).w()?;
        }
        let config = LaunchConfig {
            grid_dim: grid.map(|blocks| blocks as u32).into(),
            block_dim: (threads as u32, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        let mut builder = self.stream.launch_builder(&self.function);
        for argument in &self.arguments {
            match argument {
                Argument::U32(value) => builder.arg(value),
                Argument::U64(value) => builder.arg(value),
                Argument::I32(value) => builder.arg(value),
                Argument::F32(value) => builder.arg(value),
                Argument::Words(value) => builder.arg(value),
            };
        }
        // SAFETY: the functions of this crate pass arguments that match their kernel's signature,
        // and buffers as long as their sizes say; `tests/` runs each of them.
        unsafe { builder.launch(config) }.w()?;
        Ok(())
    }
}
