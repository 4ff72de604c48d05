//! Causal attention in tiles.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, CudaStorage, DType, Result, bail};

use crate::buffer::{Operand, allocate};
use crate::launch::{ATTENTION, Launch, THREADS};

/// Where a sample lies, counted in rows: a row has as many elements as all heads have at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// The row at which its queries begin.
    pub first: usize,
    /// The row at which its keys begin.
    pub first_key: usize,
    /// Its queries; at least one for attention.
    pub len: usize,
    /// Its keys that are not hidden.
    pub seen: usize,
}

/// The rows of all samples, on a device.
#[derive(Debug)]
pub struct Samples {
    table: CudaStorage,
    count: usize,
    rows: usize,
    longest: usize,
}

impl Samples {
    fn new(device: &CudaDevice, samples: &[Sample]) -> Result<Self> {
        let of = |sample: &Sample| [sample.first, sample.first_key, sample.len, sample.seen];
        let table = counts(device, &samples.iter().flat_map(of).collect::<Vec<_>>())?;
        let lengths = || samples.iter().map(|sample| sample.len);
        let (rows, longest) = (lengths().sum(), lengths().max().unwrap_or(0));
        Ok(Self { table, count: samples.len(), rows, longest })
    }

    /// Copies the samples to the device, unless they are those of the last call: all layers of a pass have
    /// the same ones, and so have their dropout masks.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn shared(device: &CudaDevice, samples: Vec<Sample>) -> Result<Arc<Self>> {
        type Last = Option<(CudaDevice, Vec<Sample>, Arc<Samples>)>;
        static LAST: Mutex<Last> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((on, of, there)) = &*last
            && on.id() == device.id()
            && *of == samples
        {
            return Ok(there.clone());
        }
        let there = Arc::new(Self::new(device, &samples)?);
        *last = Some((device.clone(), samples, there.clone()));
        Ok(there)
    }

    /// The number of samples.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The number of all rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The number of queries of the longest sample.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Four numbers for each sample.
    pub(crate) fn table(&self) -> Operand<'_> {
        Operand::whole(&self.table, 4 * self.count)
    }
}

/// Elements from one position, and from one head, to the next within a sample.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// From a position to the next.
    pub position: usize,
    /// From a head to the next.
    pub head: usize,
}

/// The sizes of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Keys of each sample before its first query.
    pub past: usize,
    /// Width of a head.
    pub d: usize,
    /// Those of queries and their gradient.
    pub queries: Strides,
    /// Those of keys, values and their gradients.
    pub keys: Strides,
    /// The number of last keys that a query sees, its own included; none is no limit.
    pub window: Option<usize>,
    /// The factor on scores.
    pub scale: f64,
}

/// The widest head that the kernels support.
pub const WIDEST: usize = 256;

/// Tile size, threads and head width of a kernel.
struct Shape {
    tile: usize,
    threads: usize,
    width: usize,
}

// The numbers are those in the head of `kernels/attention.cu`.
impl Attention {
    fn width(&self) -> Result<usize> {
        match [64, 128, WIDEST].into_iter().find(|&width| width >= self.d) {
            Some(width) => Ok(width),
            None => bail!("attention: heads of width {} on CUDA, at most {WIDEST}", self.d),
        }
    }

    fn forward_shape(&self) -> Result<Shape> {
        let width = self.width()?;
        Ok(Shape { tile: if width == WIDEST { 32 } else { 64 }, threads: 128, width })
    }

    fn back_shape(&self, dtype: DType) -> Result<Shape> {
        let width = self.width()?;
        let (tile, threads) = match (dtype, width == WIDEST) {
            (DType::BF16, false) => (64, 256),
            (DType::BF16, true) | (_, false) => (32, 128),
            (_, true) => (16, 128),
        };
        Ok(Shape { tile, threads, width })
    }

    /// The stride between lines of a tile.
    fn line(&self, dtype: DType) -> usize {
        self.d.next_multiple_of(16) + 16 / dtype.size_in_bytes()
    }

    /// Adds the sizes and launches a block for each tile, head and sample.
    fn launch(
        &self,
        launch: Launch,
        samples: &Samples,
        [tiles, heads]: [usize; 2],
        (threads, shared): (usize, usize),
    ) -> Result<()> {
        // A window larger than the number of keys hides none.
        let window = self.window.map_or(0, |window| window.min(self.past + samples.longest));
        let grid = [tiles, heads, samples.count];
        launch
            .sizes([self.heads, self.kv_heads, samples.rows, self.past])?
            .sizes([self.queries.position, self.keys.position])?
            .counts([self.queries.head, self.keys.head])
            .sizes([self.d, window])?
            .single(self.scale)
            .grid(grid, threads, shared)
    }
}

/// The result `[rows, heads d]`, and the log-sum-exp of each query's scores, `[heads, rows]` in `f32`.
///
/// Query `t` of a sample has position `past + t` and sees its keys up to there that are not hidden; at
/// least one. Nothing is computed beyond the rows of a sample.
///
/// # Errors
/// When a head is too wide, or a launch fails.
pub fn attention(
    [q, k, v]: [Operand<'_>; 3],
    samples: &Samples,
    sizes: Attention,
) -> Result<[CudaStorage; 2]> {
    let (device, dtype) = (q.device(), q.dtype());
    let (elements, sums) = (samples.rows * sizes.heads * sizes.d, samples.rows * sizes.heads);
    let y = allocate(device, dtype, elements)?;
    let lse = allocate(device, DType::F32, sums)?;
    let Shape { tile, threads, width } = sizes.forward_shape()?;
    let shared =
        2 * tile * sizes.line(dtype) * dtype.size_in_bytes() + 4 * tile * (tile + 8) + 4 * tile;
    let launch = Launch::of(device, ATTENTION, &format!("attention_{width}"), dtype)?
        .buffers([q, k, v, samples.table()])?
        .buffers([Operand::whole(&y, elements), Operand::whole(&lse, sums)])?;
    let blocks = [samples.longest.div_ceil(tile), sizes.heads];
    sizes.launch(launch, samples, blocks, (threads, shared))?;
    Ok([y, lse])
}

/// The needed gradients of `q`, `k` and `v`, for `dy`, where the rows of samples fill each of them.
///
/// # Errors
/// When a head is too wide, or a launch fails.
pub fn attention_back(
    [q, k, v]: [Operand<'_>; 3],
    [y, dy, lse]: [Operand<'_>; 3],
    samples: &Samples,
    sizes: Attention,
    [need_q, need_kv]: [bool; 2],
) -> Result<[Option<CudaStorage>; 3]> {
    let Attention { heads, kv_heads, past, d, .. } = sizes;
    let Samples { rows, longest, .. } = *samples;
    let (device, dtype) = (q.device(), q.dtype());
    let dots = allocate(device, DType::F32, rows * heads)?;
    let dots = Operand::whole(&dots, rows * heads);
    Launch::of(device, ATTENTION, "attention_dot", dtype)?
        .buffers([y, dy, dots])?
        .sizes([heads, rows, d])?
        .grid([rows.div_ceil(THREADS / 32), heads, 1], THREADS, 0)?;

    let Shape { tile, threads, width } = sizes.back_shape(dtype)?;
    let each = dtype.size_in_bytes();
    let shared = 4 * tile * sizes.line(dtype) * each + tile * (tile + 16 / each) * each + 8 * tile;
    let launch = |name: &str| {
        Launch::of(device, ATTENTION, &format!("{name}_{width}"), dtype)?
            .buffers([q, k, v, samples.table()])?
            .buffers([dy, lse, dots])
    };
    let finish = |launch, blocks| sizes.launch(launch, samples, blocks, (threads, shared));
    let mut dq = None;
    if need_q {
        let made = allocate(device, dtype, q.count())?;
        let launch = launch("attention_back_q")?.buffer(Operand::whole(&made, q.count()))?;
        finish(launch, [longest.div_ceil(tile), heads])?;
        dq = Some(made);
    }
    let (mut dk, mut dv) = (None, None);
    if need_kv {
        let made = [allocate(device, dtype, k.count())?, allocate(device, dtype, v.count())?];
        let [of_k, of_v] = &made;
        let launch = launch("attention_back_kv")?
            .buffers([Operand::whole(of_k, k.count()), Operand::whole(of_v, v.count())])?;
        finish(launch, [(past + longest).div_ceil(tile), kv_heads])?;
        let [of_k, of_v] = made;
        (dk, dv) = (Some(of_k), Some(of_v));
    }
    Ok([dq, dk, dv])
}

/// Copies numbers to the device, as `u32`.
///
/// # Errors
/// When there is not enough memory.
pub(crate) fn counts(device: &CudaDevice, counts: &[usize]) -> Result<CudaStorage> {
    let counts: Vec<u32> = counts.iter().map(|&count| count as u32).collect();
    let slice = device.cuda_stream().clone_htod(&counts).w()?;
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}
