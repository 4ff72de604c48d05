//! The interval of one rate.

use crate::{Interval, Z95};

/// Wilson's 95 % interval of a share, seen on so many independent answers; `n` may be a fraction,
/// where answers depend on each other and count for less than one each.
pub fn wilson(share: f64, n: f64) -> Option<Interval> {
    if n.is_nan() || n <= 0.0 {
        return None;
    }
    let z = Z95;
    let centre = share + z * z / (2.0 * n);
    let half = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    let bound = |x: f64| (x / (1.0 + z * z / n)).clamp(0.0, 1.0);
    // Rounding leaves the two ends a little inside.
    let low = if share <= 0.0 { 0.0 } else { bound(centre - half) };
    let high = if share >= 1.0 { 1.0 } else { bound(centre + half) };
    Some([low, high])
}
