//! An exponential without branches or library calls, so that loops over it vectorise.

/// Below this, `e^x` rounds to zero in `f32`, denormals included.
const LOW: f32 = -105.0;
/// Above this, `e^x` overflows to infinity in `f32`.
const HIGH: f32 = 89.0;
/// Adding `1.5 * 2^23` leaves the nearest integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;

/// `e^x` to about one unit in the last place; `-inf` gives 0, `NaN` stays `NaN`.
#[inline(always)]
pub(super) fn exp_f32(x: f32) -> f32 {
    // Comparisons instead of `clamp`, so that NaN passes through.
    let x = if x < LOW { LOW } else { x };
    let x = if x > HIGH { HIGH } else { x };

    // x = n ln 2 + r with |r| <= ln 2 / 2. The first part of ln 2 has nine significant bits, so
    // that n times it is exact.
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;

    // Cephes' minimax polynomial for e^r - 1 - r over that interval.
    let mut p = 1.987_569_1e-4_f32;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = p * r * r + r + 1.0;

    // 2^n as two factors, because n may lie outside the normal exponents.
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `2^n` for `n` in the range of normal exponents.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::exp_f32;

    /// Distance between two positive floats in units in the last place.
    fn ulps(a: f32, b: f32) -> u32 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn agrees_with_std_over_the_normal_range() {
        let mut worst = 0;
        let mut x = -87.3_f32;
        while x < 88.7 {
            let exact = f64::from(x).exp() as f32;
            worst = worst.max(ulps(exp_f32(x), exact));
            x += 0.000_37;
        }
        assert!(worst <= 2, "{worst} ulp");
    }

    #[test]
    fn denormal_results_are_close() {
        for i in 0..2000 {
            let x = -87.0 - i as f32 * 0.01;
            let difference = (f64::from(exp_f32(x)) - f64::from(x).exp()).abs();
            assert!(difference <= 1.2e-7 * f64::from(x).exp() + 1.5e-45, "e^{x}");
        }
    }

    #[test]
    fn ends_are_right() {
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-0.0), 1.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_f32(-1e30), 0.0);
        assert_eq!(exp_f32(-105.0), 0.0);
        assert_eq!(exp_f32(89.0), f32::INFINITY);
        assert_eq!(exp_f32(f32::INFINITY), f32::INFINITY);
        assert!(exp_f32(88.72).is_finite());
        assert!(exp_f32(f32::NAN).is_nan());
    }
}
