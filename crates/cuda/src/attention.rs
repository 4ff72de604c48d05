//! Causal attention in tiles.

use candle_core::cuda_backend::WrapErr;
use candle_core::{CudaDevice, CudaStorage, DType, Result, bail};

use crate::buffer::{Operand, allocate};
use crate::launch::{ATTENTION, Launch, THREADS};

/// The sizes of an attention: `q` is `[batch, heads, len, d]`, `k` and `v` are
/// `[batch, kv_heads, keys, d]`.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// Samples.
    pub batch: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Queries.
    pub len: usize,
    /// Keys, at least as many as queries.
    pub keys: usize,
    /// Width of a head.
    pub d: usize,
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

    fn window(&self) -> usize {
        // A window larger than the number of keys hides none.
        self.window.map_or(0, |window| window.min(self.keys))
    }
}

/// The result `[batch, len, heads d]`, and the log-sum-exp of each query's scores,
/// `[batch, heads, len]` in `f32`.
///
/// Query `t` has position `keys - len + t` and sees the keys up to there that are below its
/// sample's number in `lengths`; at least one. `pitch` is the stride between heads of `k` and `v`.
///
/// # Errors
/// When a head is too wide, or a launch fails.
pub fn attention(
    [q, k, v]: [Operand<'_>; 3],
    pitch: usize,
    lengths: &CudaStorage,
    sizes: Attention,
) -> Result<[CudaStorage; 2]> {
    let Attention { batch, heads, kv_heads, len, keys, d, scale, .. } = sizes;
    let (device, dtype) = (q.device(), q.dtype());
    let y = allocate(device, dtype, q.count())?;
    let lse = allocate(device, DType::F32, batch * heads * len)?;
    let Shape { tile, threads, width } = sizes.forward_shape()?;
    let shared =
        2 * tile * sizes.line(dtype) * dtype.size_in_bytes() + 4 * tile * (tile + 8) + 4 * tile;
    Launch::of(device, ATTENTION, &format!("attention_{width}"), dtype)?
        .buffers([q, k, v, Operand::whole(lengths, batch)])?
        .buffers([Operand::whole(&y, q.count()), Operand::whole(&lse, batch * heads * len)])?
        .sizes([heads, kv_heads, len, keys])?
        .count(pitch)
        .sizes([d, sizes.window()])?
        .single(scale)
        .grid([len.div_ceil(tile), heads, batch], threads, shared)?;
    Ok([y, lse])
}

/// The needed gradients of `q`, `k` and `v`, for `dy`; all operands are contiguous.
///
/// # Errors
/// When a head is too wide, or a launch fails.
pub fn attention_back(
    [q, k, v]: [Operand<'_>; 3],
    [y, dy, lse]: [Operand<'_>; 3],
    lengths: &CudaStorage,
    sizes: Attention,
    [need_q, need_kv]: [bool; 2],
) -> Result<[Option<CudaStorage>; 3]> {
    let Attention { batch, heads, kv_heads, len, keys, d, scale, .. } = sizes;
    let (device, dtype) = (q.device(), q.dtype());
    let lengths = Operand::whole(lengths, batch);
    let rows = batch * heads * len;
    let dots = allocate(device, DType::F32, rows)?;
    let dots = Operand::whole(&dots, rows);
    Launch::of(device, ATTENTION, "attention_dot", dtype)?
        .buffers([y, dy, dots])?
        .sizes([heads, len, d])?
        .grid([len.div_ceil(THREADS / 32), heads, batch], THREADS, 0)?;

    let Shape { tile, threads, width } = sizes.back_shape(dtype)?;
    let each = dtype.size_in_bytes();
    let shared = 4 * tile * sizes.line(dtype) * each + tile * (tile + 16 / each) * each + 8 * tile;
    let launch = |name: &str| {
        Launch::of(device, ATTENTION, &format!("{name}_{width}"), dtype)?
            .buffers([q, k, v, lengths, dy, lse, dots])
    };
    let finish = |launch: Launch, grid| {
        launch
            .sizes([heads, kv_heads, len, keys, d, sizes.window()])?
            .single(scale)
            .grid(grid, threads, shared)
    };
    let mut dq = None;
    if need_q {
        let made = allocate(device, dtype, q.count())?;
        let launch = launch("attention_back_q")?.buffer(Operand::whole(&made, q.count()))?;
        finish(launch, [len.div_ceil(tile), heads, batch])?;
        dq = Some(made);
    }
    let (mut dk, mut dv) = (None, None);
    if need_kv {
        let made = [allocate(device, dtype, k.count())?, allocate(device, dtype, v.count())?];
        let [of_k, of_v] = &made;
        let launch = launch("attention_back_kv")?
            .buffers([Operand::whole(of_k, k.count()), Operand::whole(of_v, v.count())])?;
        finish(launch, [keys.div_ceil(tile), kv_heads, batch])?;
        let [of_k, of_v] = made;
        (dk, dv) = (Some(of_k), Some(of_v));
    }
    Ok([dq, dk, dv])
}

/// Copies numbers of keys to the device, as `u32`.
///
/// # Errors
/// When there is not enough memory.
pub fn counts(device: &CudaDevice, counts: &[usize]) -> Result<CudaStorage> {
    let counts: Vec<u32> = counts.iter().map(|&count| count as u32).collect();
    let slice = device.cuda_stream().clone_htod(&counts).w()?;
    Ok(CudaStorage::wrap_cuda_slice(slice, device.clone()))
}
