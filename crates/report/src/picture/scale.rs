//! Scales of axes: round ticks, and numbers as they are written beside them.

/// A range of values, drawn between two places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) range: [f64; 2],
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Scale {
    /// The place of a value; values outside of the range are drawn at its ends.
    pub(super) fn at(&self, value: f64) -> f64 {
        let [low, high] = self.range;
        let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
        self.from + share * (self.to - self.from)
    }
}

/// Round values that cover `values`, about `wanted` of them, and the range that they span.
pub(super) fn ticks(values: impl Iterator<Item = f64>, wanted: usize) -> (Vec<f64>, [f64; 2]) {
    let finite = values.filter(|value| value.is_finite());
    let bounds = finite.fold(None, |bounds: Option<[f64; 2]>, value| match bounds {
        None => Some([value, value]),
        Some([low, high]) => Some([low.min(value), high.max(value)]),
    });
    let [low, high] = match bounds.unwrap_or([0.0, 1.0]) {
        // From zero, unless the values lie far from it.
        [low, high] if low >= 0.0 && low < 0.6 * high => [0.0, high],
        [low, high] if high > low => [low, high],
        [0.0, _] => [0.0, 1.0],
        [value, _] => [value - value.abs() / 2.0, value + value.abs() / 2.0],
    };
    let rough = (high - low) / wanted.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power);
    let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let (first, last) = ((low / step).floor() as i64, (high / step - 1e-9).ceil() as i64);
    let all: Vec<f64> = (first..=last).map(|index| index as f64 * step).collect();
    let range = [first as f64 * step, last as f64 * step];
    (all, range)
}

/// A number in at most four significant digits.
pub(super) fn short(value: f64) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => return "0".to_owned(),
        size if !(1e-4..1e7).contains(&size) => return format!("{value:.1e}"),
        size if size >= 1000.0 => format!("{value:.0}"),
        size => {
            let decimals = (2 - size.log10().floor() as i64).clamp(0, 7) as usize;
            format!("{value:.decimals$}")
        }
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let (all, range) = ticks([0.03, 0.38].into_iter(), 4);
        assert_eq!(range, [0.0, 0.4]);
        assert_eq!(
            all.iter().map(|tick| short(*tick)).collect::<Vec<_>>(),
            ["0", "0.1", "0.2", "0.3", "0.4"]
        );
        assert_eq!(ticks([95.0, 105.0].into_iter(), 5).1, [94.0, 106.0]);
        assert_eq!(ticks([f64::NAN].into_iter(), 5).1, [0.0, 1.0]);
        let (all, [low, high]) = ticks([-3.0, -3.0].into_iter(), 5);
        assert!(low < -3.0 && high > -3.0 && all.len() < 12, "{all:?}");
    }

    #[test]
    fn numbers_are_short() {
        let pairs = [
            (0.0, "0"),
            (93.333, "93.3"),
            (0.2014, "0.201"),
            (100.0, "100"),
            (1600.0, "1600"),
            (-0.179, "-0.179"),
            (1.5e-6, "1.5e-6"),
        ];
        for (value, text) in pairs {
            assert_eq!(short(value), text);
        }
    }
}
