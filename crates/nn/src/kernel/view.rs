//! Matrix views of slices.

use std::ops::Range;

use super::Real;

/// A read-only matrix view of a slice, with strides.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    pub(super) data: &'a [T],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a, T: Real> View<'a, T> {
    /// A dense row-major matrix.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A matrix whose rows start `row_stride` elements apart.
    pub(crate) fn strided(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        let view = Self { data, rows, cols, row_stride, col_stride: 1 };
        assert!(rows == 0 || cols == 0 || view.last() < data.len(), "matrix outside its slice");
        view
    }

    /// How many rows and columns there are.
    #[inline(always)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    /// A row of a matrix with contiguous rows.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [T] {
        assert_eq!(self.col_stride, 1, "rows are contiguous");
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// Some of the rows.
    #[inline(always)]
    pub(crate) fn rows(self, rows: Range<usize>) -> Self {
        let start = self.data.len().min(rows.start * self.row_stride);
        Self { data: &self.data[start..], rows: rows.len(), ..self }
    }

    /// Some of the columns.
    pub(super) fn columns(self, columns: Range<usize>) -> Self {
        self.t().rows(columns).t()
    }

    /// The slice that the matrix lies in.
    #[inline(always)]
    pub(crate) fn data(&self) -> &'a [T] {
        self.data
    }

    /// The same matrix transposed.
    pub(crate) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// The elements of a dense, row-major matrix; none for another layout.
    pub(super) fn dense(&self) -> Option<&'a [T]> {
        let dense = self.col_stride == 1 && self.row_stride == self.cols;
        dense.then(|| &self.data[..self.rows * self.cols])
    }

    /// The offset of the last element of a non-empty matrix.
    fn last(&self) -> usize {
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride
    }
}

#[cfg(test)]
mod tests {
    use super::View;

    #[test]
    #[should_panic(expected = "matrix outside its slice")]
    fn a_view_must_fit() {
        View::strided(&[0.0_f32; 7], 2, 4, 4);
    }
}
