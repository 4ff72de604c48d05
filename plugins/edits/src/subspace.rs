//! The leading singular directions of a matrix, by subspace iteration.

use candle_core::{DType, Device, Tensor};
use vxf_core::Key;
use vxf_core::prelude::*;

/// Directions iterated beyond the wanted ones; they speed up convergence.
const BESIDE: usize = 8;
/// Rounds of subspace iteration: errors fall as `(s_{rank + BESIDE} / s_rank)^(2 * ROUNDS)`.
const ROUNDS: usize = 12;
/// Sweeps of Jacobi's method over a small matrix; it converges quadratically.
const SWEEPS: usize = 30;

/// An orthonormal basis `[out, rank]` of the `rank` leading left singular directions of `matrix`
/// `[out, in]`, which is f64 on the CPU; fewer columns if the matrix has a lower rank, none if it is zero.
///
/// # Errors
/// When a tensor operation fails.
pub fn leading_left(matrix: &Tensor, rank: usize, key: &Key) -> Result<Option<Tensor>> {
    let (rows, columns) = matrix.dims2()?;
    let count = (rank + BESIDE).min(rows).min(columns);
    let start = key.normal(&[columns, count], DType::F64, &Device::Cpu)?;
    let Some(mut basis) = orthonormal(&matrix.matmul(&start)?)? else { return Ok(None) };
    for _ in 0..ROUNDS {
        let Some(right) = orthonormal(&matrix.t()?.contiguous()?.matmul(&basis)?)? else {
            return Ok(None);
        };
        match orthonormal(&matrix.matmul(&right)?)? {
            Some(next) => basis = next,
            None => return Ok(None),
        }
    }
    // Within the basis, the directions are the eigenvectors of a small symmetric matrix.
    let small = basis.t()?.contiguous()?.matmul(matrix)?;
    let gram: Vec<Vec<f64>> = small.matmul(&small.t()?.contiguous()?)?.to_vec2()?;
    let vectors = leading_eigenvectors(gram, rank);
    let (found, kept) = (vectors.len(), vectors.first().map_or(0, Vec::len));
    let small = Tensor::from_vec(vectors.concat(), (found, kept), &Device::Cpu)?;
    Ok(Some(basis.matmul(&small.t()?.contiguous()?)?))
}

/// An orthonormal basis of the columns, by modified Gram-Schmidt, twice; none if all are zero.
fn orthonormal(matrix: &Tensor) -> Result<Option<Tensor>> {
    let (rows, _) = matrix.dims2()?;
    let columns: Vec<Vec<f64>> = matrix.t()?.contiguous()?.to_vec2()?;
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for mut column in columns {
        let before = length(&column);
        for _ in 0..2 {
            for other in &basis {
                let along: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
                column.iter_mut().zip(other).for_each(|(a, b)| *a -= along * b);
            }
        }
        let after = length(&column);
        // A column within the span of the others leaves rounding errors alone.
        if after > 1e-12 * before && after > 0.0 {
            column.iter_mut().for_each(|a| *a /= after);
            basis.push(column);
        }
    }
    if basis.is_empty() {
        return Ok(None);
    }
    let count = basis.len();
    let rowwise = Tensor::from_vec(basis.concat(), (count, rows), &Device::Cpu)?;
    Ok(Some(rowwise.t()?.contiguous()?))
}

fn length(column: &[f64]) -> f64 {
    column.iter().map(|a| a * a).sum::<f64>().sqrt()
}

/// The eigenvectors of the `count` largest eigenvalues of a symmetric matrix, by Jacobi's method.
fn leading_eigenvectors(mut a: Vec<Vec<f64>>, count: usize) -> Vec<Vec<f64>> {
    let n = a.len();
    let unit = |i: usize| (0..n).map(|j| f64::from(u8::from(i == j))).collect::<Vec<_>>();
    // Row i is eigenvector i.
    let mut v: Vec<Vec<f64>> = (0..n).map(unit).collect();
    for _ in 0..SWEEPS {
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - s * y, s * x + c * y);
                }
                for i in 0..n {
                    let (x, y) = (a[p][i], a[q][i]);
                    (a[p][i], a[q][i]) = (c * x - s * y, s * x + c * y);
                    let (x, y) = (v[p][i], v[q][i]);
                    (v[p][i], v[q][i]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    let mut order: Vec<_> = (0..n).collect();
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    let largest = order.first().map_or(0.0, |&i| a[i][i]);
    // Directions without any extent are rounding errors.
    let kept = order.into_iter().take(count).filter(|&i| a[i][i] > 1e-24 * largest);
    kept.map(|i| v[i].clone()).collect()
}
