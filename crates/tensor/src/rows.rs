//! The index of the rows of a `[positions, width]` tensor.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};

use crate::autograd::apply1;

/// The sample and the position of each row: sample after sample, each in the order of its positions.
///
/// In the dense layout a sample has a row for each of its tokens. In a rectangle all samples have as many
/// rows as the longest one has tokens; the rows after a sample's last token are padding.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The first row of each sample, and the number of all rows.
    starts: Vec<usize>,
    /// The number of visible keys of each sample.
    seen: Vec<usize>,
    /// The position of the first row of each sample.
    past: Vec<usize>,
    /// The place of each row in the rectangle, on the first device that needed it.
    places: Arc<OnceLock<Tensor>>,
}

impl Rows {
    /// The dense layout of samples of these lengths.
    pub fn dense(lengths: &[usize]) -> Self {
        let mut starts = Vec::with_capacity(lengths.len() + 1);
        starts.push(0);
        for length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        let (seen, past) = (lengths.to_vec(), vec![0; lengths.len()]);
        Self { starts, seen, past, places: Arc::default() }
    }

    /// A rectangle of `columns` rows for each of `samples`, whose keys are all visible.
    pub fn rectangle(samples: usize, columns: usize) -> Self {
        Self::dense(&vec![columns; samples])
    }

    /// The same rows with only the first `lengths` keys of each sample visible.
    ///
    /// # Panics
    /// When there are more keys than rows, or not one length for each sample.
    pub fn hiding(self, lengths: &[usize]) -> Self {
        assert_eq!(lengths.len(), self.samples(), "one length for each sample");
        let fits = |(length, range): (&usize, Range<usize>)| *length <= range.len();
        assert!(lengths.iter().zip(self.ranges()).all(fits), "lengths {lengths:?}");
        Self { seen: lengths.to_vec(), ..self }
    }

    /// The same rows after `past` earlier positions of each sample, whose keys a cache has.
    ///
    /// # Panics
    /// When there is not one number for each sample.
    pub fn after(self, past: &[usize]) -> Self {
        assert_eq!(past.len(), self.samples(), "one number for each sample");
        let seen = self.seen.iter().zip(past).map(|(seen, past)| seen + past).collect();
        Self { seen, past: past.to_vec(), ..self }
    }

    /// The position of the first row of each sample.
    pub fn past(&self) -> &[usize] {
        &self.past
    }

    /// The largest number of positions of a sample, earlier ones included.
    pub fn furthest(&self) -> usize {
        let ends = self.ranges().zip(&self.past).map(|(range, past)| range.len() + past);
        ends.max().unwrap_or(0)
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.seen.len()
    }

    /// The rows of a sample.
    pub fn range(&self, sample: usize) -> Range<usize> {
        self.starts[sample]..self.starts[sample + 1]
    }

    /// The rows of each sample, in order.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        self.starts.windows(2).map(|pair| pair[0]..pair[1])
    }

    /// The number of visible keys of each sample.
    pub fn seen(&self) -> &[usize] {
        &self.seen
    }

    /// The number of rows of the longest sample.
    pub fn longest(&self) -> usize {
        self.ranges().map(|range| range.len()).max().unwrap_or(0)
    }

    /// Whether all samples have the same number of rows.
    pub fn is_rectangle(&self) -> bool {
        self.count() == self.samples() * self.longest()
    }

    /// Sample and position of each row, in order.
    pub fn positions(&self) -> impl Iterator<Item = (usize, usize)> {
        let of =
            |(sample, range): (usize, Range<usize>)| (0..range.len()).map(move |at| (sample, at));
        self.ranges().enumerate().flat_map(of)
    }

    /// The entry of a `[samples, columns]` list for each row.
    pub fn pick<T: Copy>(&self, rectangle: &[T]) -> Vec<T> {
        let columns = rectangle.len().checked_div(self.samples()).unwrap_or(0);
        self.positions().map(|(sample, at)| rectangle[sample * columns + at]).collect()
    }

    /// The sample of each row, u32 `[positions]`.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn samples_of(&self, device: &Device) -> Result<Tensor> {
        let samples: Vec<u32> = self.positions().map(|(sample, _)| sample as u32).collect();
        Tensor::from_vec(samples, self.count(), device)
    }

    /// The last row of each sample of `x` `[positions, width]`.
    ///
    /// # Errors
    /// When a sample has no row.
    pub fn last_of_each(&self, x: &Tensor) -> Result<Tensor> {
        if self.ranges().any(|range| range.is_empty()) {
            bail!("last_of_each: a sample without a row");
        }
        let last: Vec<u32> = self.ranges().map(|range| range.end as u32 - 1).collect();
        match last.len() == self.count() {
            true => Ok(x.clone()),
            false => x.index_select(&Tensor::new(last, x.device())?, 0),
        }
    }

    /// The place of each row in a rectangle of `longest` columns, u32 `[positions]`.
    fn places(&self, device: &Device) -> Result<Tensor> {
        if let Some(places) = self.places.get()
            && places.device().same_device(device)
        {
            return Ok(places.clone());
        }
        let columns = self.longest();
        let places = self.positions().map(|(sample, at)| (sample * columns + at) as u32);
        let places = Tensor::from_vec(places.collect::<Vec<_>>(), self.count(), device)?;
        Ok(self.places.get_or_init(|| places.clone()).clone())
    }

    /// Maps `[positions, width]` to `[samples, longest, width]`, zero where a sample has no row.
    ///
    /// # Errors
    /// When `x` has another number of rows.
    pub fn padded(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, width) = x.dims2()?;
        if rows != self.count() {
            bail!("padded: {rows} rows for an index of {}", self.count());
        }
        let shape = (self.samples(), self.longest(), width);
        if self.is_rectangle() && !x.track_op() {
            return x.contiguous()?.reshape(shape);
        }
        if ours(x) {
            let move_rows = Moved { rows: self.clone(), width, back: false };
            return apply1(&x.contiguous()?, move_rows);
        }
        let none = Tensor::zeros((1, width), x.dtype(), x.device())?;
        let mut from = vec![rows as u32; self.samples() * self.longest()];
        for (row, (sample, at)) in self.positions().enumerate() {
            from[sample * self.longest() + at] = row as u32;
        }
        let from = Tensor::new(from, x.device())?;
        Tensor::cat(&[x, &none], 0)?.index_select(&from, 0)?.reshape(shape)
    }

    /// Maps `[samples, longest, ..]` to `[positions, ..]`: the transpose of [`Rows::padded`].
    ///
    /// # Errors
    /// When `x` has other sizes.
    pub fn packed(&self, x: &Tensor) -> Result<Tensor> {
        let expected = [self.samples(), self.longest()];
        if x.rank() < 2 || x.dims()[..2] != expected {
            bail!(
                "packed: {:?} for {} samples of up to {} rows",
                x.dims(),
                expected[0],
                expected[1]
            );
        }
        let shape = [&[self.count()], &x.dims()[2..]].concat();
        if self.is_rectangle() && !x.track_op() {
            return x.contiguous()?.reshape(shape);
        }
        if let (&[_, _, width], true) = (x.dims(), ours(x)) {
            let move_rows = Moved { rows: self.clone(), width, back: true };
            return apply1(&x.contiguous()?, move_rows);
        }
        let flat = [&[expected[0] * expected[1]], &x.dims()[2..]].concat();
        x.reshape(flat)?.contiguous()?.index_select(&self.places(x.device())?, 0)
    }
}

/// Whether the operation below supports this tensor.
fn ours(x: &Tensor) -> bool {
    #[cfg(feature = "cuda")]
    if crate::numeric::in_kernels(x) {
        return true;
    }
    x.device().is_cpu() && matches!(x.dtype(), DType::F32 | DType::F64)
}

/// Moves rows into the rectangle, or `back`; either is the other's transpose.
struct Moved {
    rows: Rows,
    width: usize,
    back: bool,
}

impl Moved {
    fn shape(&self) -> Shape {
        match self.back {
            false => Shape::from((self.rows.samples(), self.rows.longest(), self.width)),
            true => Shape::from((self.rows.count(), self.width)),
        }
    }

    fn run<T: Copy + Default>(&self, x: &[T]) -> Vec<T> {
        let (width, columns) = (self.width, self.rows.longest());
        let mut out = Vec::with_capacity(self.shape().elem_count());
        for (sample, range) in self.rows.ranges().enumerate() {
            let (first, len) = (sample * columns * width, range.len() * width);
            if self.back {
                out.extend_from_slice(&x[first..first + len]);
            } else {
                out.extend_from_slice(&x[range.start * width..][..len]);
                out.resize((sample + 1) * columns * width, T::default());
            }
        }
        out
    }
}

impl CustomOp1 for Moved {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("rows: a strided operand");
        };
        let out = match x {
            CpuStorage::F32(x) => CpuStorage::F32(self.run(&x[start..end])),
            CpuStorage::F64(x) => CpuStorage::F64(self.run(&x[start..end])),
            _ => bail!("rows: elements of the type {:?}", x.dtype()),
        };
        Ok((out, self.shape()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (count, width) = (self.rows.count(), self.width);
        let x = vxf_cuda::Operand::new(x, layout)?;
        let device = Device::Cuda(x.device().clone());
        let places = self.rows.places(&device)?;
        let out = vxf_cuda::with([&places], |[places]| match self.back {
            true => vxf_cuda::gathered(x, places, 0, (count, width)),
            false => {
                let size = self.shape().elem_count();
                let out = vxf_cuda::zeros(x.device(), x.dtype(), size)?;
                let whole = vxf_cuda::Operand::whole(&out, size);
                vxf_cuda::scattered(x, places, 0, whole, (count, width))?;
                Ok(out)
            }
        })?;
        Ok((out, self.shape()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        if !x.track_op() {
            return Ok(None);
        }
        let back = Self { rows: self.rows.clone(), width: self.width, back: !self.back };
        dy.detach().contiguous()?.apply_op1_no_bwd(&back).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;

    /// Rows come back from the rectangle as they were, their gradients too, and padding is zero.
    #[test]
    fn padding_comes_and_goes() -> Result<()> {
        for lengths in [vec![3, 1, 2], vec![2, 2], vec![0, 4, 1], vec![5]] {
            let rows = Rows::dense(&lengths);
            for dtype in [DType::F32, DType::F64, DType::BF16] {
                let count = rows.count();
                let x = Tensor::arange(1.0f32, 1.0 + 3.0 * count as f32, &Device::Cpu)?;
                let x = Var::from_tensor(&x.reshape((count, 3))?.to_dtype(dtype)?)?;
                let wide = rows.padded(&x)?;
                assert_eq!(wide.dims(), [lengths.len(), rows.longest(), 3]);
                let back = rows.packed(&wide)?.to_dtype(DType::F32)?;
                assert_eq!(back.to_vec2::<f32>()?, x.to_dtype(DType::F32)?.to_vec2::<f32>()?);
                let wide = wide.to_dtype(DType::F32)?;
                for (sample, length) in lengths.iter().enumerate() {
                    let beyond = wide.get(sample)?.narrow(0, *length, rows.longest() - length)?;
                    assert_eq!(beyond.sqr()?.sum_all()?.to_scalar::<f32>()?, 0.0);
                }
                let gradients = (wide * 2.0)?.sum_all()?.backward()?;
                let gradient = gradients.get(&x).expect("a gradient").to_dtype(DType::F32)?;
                assert_eq!(gradient.to_vec2::<f32>()?, vec![vec![2.0; 3]; count]);
            }
        }
        Ok(())
    }

    #[test]
    fn an_index_names_every_row() -> Result<()> {
        let rows = Rows::dense(&[2, 0, 1]);
        assert_eq!(rows.positions().collect::<Vec<_>>(), [(0, 0), (0, 1), (2, 0)]);
        assert_eq!((rows.count(), rows.samples(), rows.longest()), (3, 3, 2));
        assert_eq!(rows.pick(&[1, 2, 3, 4, 5, 6]), [1, 2, 5]);
        assert!(!rows.is_rectangle() && Rows::rectangle(2, 3).is_rectangle());
        assert_eq!(Rows::rectangle(2, 3).hiding(&[1, 3]).seen(), [1, 3]);
        let later = Rows::dense(&[2, 1]).after(&[4, 7]);
        assert_eq!((later.seen(), later.past(), later.furthest()), (&[6, 8][..], &[4, 7][..], 8));
        assert!(rows.padded(&Tensor::zeros((2, 1), DType::F32, &Device::Cpu)?).is_err());
        assert!(rows.packed(&Tensor::zeros((2, 2, 1), DType::F32, &Device::Cpu)?).is_err());
        Ok(())
    }
}
