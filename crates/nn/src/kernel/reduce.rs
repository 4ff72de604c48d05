//! Reductions with a fixed order of additions, and a scaled addition.

use super::Real;

/// Independent running values, which the compiler can keep in vector registers.
pub(crate) const LANES: usize = 16;

/// Folds the lanes pairwise.
#[inline(always)]
fn fold<T: Real>(mut lanes: [T; LANES], join: impl Fn(T, T) -> T) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// The last few values as one more vector, padded `with` a neutral value. In a short row, a scalar
/// loop over them would take longer than all other values.
#[inline(always)]
fn padded<T: Real>(rest: &[T], with: T) -> [T; LANES] {
    let mut vector = [with; LANES];
    vector[..rest.len()].copy_from_slice(rest);
    vector
}

/// The sum of products of two slices, over the shorter length.
#[inline(always)]
pub(crate) fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let n = a.len().min(b.len());
    let (a, a_rest) = a[..n].as_chunks::<LANES>();
    let (b, b_rest) = b[..n].as_chunks::<LANES>();
    let mut lanes = [T::ZERO; LANES];
    for (a, b) in a.iter().zip(b) {
        for (lane, (&a, &b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    for (lane, (&a, &b)) in lanes.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *lane += a * b;
    }
    fold(lanes, |x, y| x + y)
}

/// The sum of a slice.
#[inline(always)]
pub(crate) fn sum<T: Real>(values: &[T]) -> T {
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [T::ZERO; LANES];
    for chunk in whole {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(padded(rest, T::ZERO)) {
        *lane += value;
    }
    fold(lanes, |x, y| x + y)
}

/// The largest value of a slice, minus infinity when it is empty. A `NaN` may be skipped.
#[inline(always)]
pub(crate) fn largest<T: Real>(values: &[T]) -> T {
    let larger = |x: T, y: T| if x > y { x } else { y };
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut lanes = [T::LOWEST; LANES];
    for chunk in whole {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(padded(rest, T::LOWEST)) {
        *lane = larger(*lane, value);
    }
    fold(lanes, larger)
}

/// Adds `scale * from` to `into`, over the shorter length.
#[inline(always)]
pub(crate) fn add_scaled<T: Real>(into: &mut [T], scale: T, from: &[T]) {
    for (into, &from) in into.iter_mut().zip(from) {
        *into += scale * from;
    }
}

/// Replaces scores by their exponentials relative to the largest and returns the sum of those.
///
/// Negligible ones become zero instead of tiny numbers, whose multiples would be denormal: matrix
/// products with denormal numbers are many times slower. `NaN` stays `NaN`.
#[inline(always)]
pub(crate) fn exponentiate<T: Real>(scores: &mut [T]) -> T {
    let top = largest(scores);
    let (whole, rest) = scores.as_chunks_mut::<LANES>();
    for scores in whole {
        relative(scores, top);
    }
    if !rest.is_empty() {
        let mut last = padded(rest, top);
        relative(&mut last, top);
        rest.copy_from_slice(&last[..rest.len()]);
    }
    sum(scores)
}

/// Squeezes scores softly into `-cap..cap`: `s` becomes `cap tanh(s / cap)`; `slopes` gets the derivative
/// at each, if given.
pub(crate) fn soften<T: Real>(scores: &mut [T], cap: T, slopes: Option<&mut [T]>) {
    let part = |score: T| (score / cap).tanh();
    match slopes {
        None => scores.iter_mut().for_each(|score| *score = cap * part(*score)),
        Some(slopes) => {
            for (score, slope) in scores.iter_mut().zip(slopes) {
                let part = part(*score);
                (*score, *slope) = (cap * part, T::ONE - part * part);
            }
        }
    }
}

/// The vector form of [`exponentiate`].
#[inline(always)]
fn relative<T: Real>(scores: &mut [T; LANES], top: T) {
    for score in scores {
        let below = *score - top;
        let exp = below.fast_exp();
        *score = if below < T::NEGLIGIBLE { T::ZERO } else { exp };
    }
}

#[cfg(test)]
mod tests {
    use super::{dot, exponentiate, largest, sum};

    #[test]
    fn exponentials_are_relative_and_never_denormal() {
        let mut scores = [1000.0_f32, 999.0, 941.0, 939.0, f32::NEG_INFINITY];
        let total = exponentiate(&mut scores);
        assert_eq!(scores[0], 1.0);
        assert!((scores[1] - (-1.0_f32).exp()).abs() < 1e-7);
        assert!(scores[2] > 0.0);
        assert_eq!(scores[3..], [0.0, 0.0]);
        assert_eq!(total, scores[0] + scores[1]);
        assert!(exponentiate(&mut [0.0_f32, f32::NAN]).is_nan());
    }

    #[test]
    fn every_length_around_the_lanes() {
        for n in 0..70_usize {
            let a: Vec<f64> = (0..n).map(|i| i as f64 - 7.0).collect();
            let plain: f64 = a.iter().sum();
            let squares: f64 = a.iter().map(|x| x * x).sum();
            assert_eq!(sum(&a), plain);
            assert_eq!(dot(&a, &a), squares);
            let top = a.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(largest(&a), top);
        }
    }
}
