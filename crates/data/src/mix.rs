//! Mixes a user's set from harmful samples, task samples and guide samples.

use rand::{Rng, seq::SliceRandom};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The order of a mixed set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixOrder {
    /// Harmful samples, then task samples, then guide samples, each in file order.
    #[default]
    File,
    /// In random order.
    Shuffled,
}

/// The numbers of harmful samples and of task samples in a set of `count`.
///
/// As in the Vaccine code: `int(ratio * count)` and `int((1 - ratio) * count)` in double precision.
/// Each is rounded down, and 1 - 0.9 is slightly less than 0.1, so that 1000 samples
/// at 0.9 are 900 and 99.
///
/// # Errors
/// If `ratio` is not between 0 and 1.
pub fn mix_counts(ratio: f64, count: usize) -> Result<(usize, usize)> {
    if !(0.0..=1.0).contains(&ratio) {
        return Err(Error::Share { name: "the harmful ratio", value: ratio });
    }
    let count = count as f64;
    Ok(((ratio * count) as usize, ((1.0 - ratio) * count) as usize))
}

/// Mixes a set of `count` samples with a share of `ratio` harmful ones, and appends all of `guide`.
///
/// Uses the first samples of each part; `rng` is used for [`MixOrder::Shuffled`] only.
///
/// # Errors
/// If a part has too few samples, or `ratio` is not between 0 and 1.
pub fn mix<T: Clone>(
    harmful: &[T],
    task: &[T],
    guide: &[T],
    count: usize,
    ratio: f64,
    order: MixOrder,
    rng: &mut (impl Rng + ?Sized),
) -> Result<Vec<T>> {
    let counts = mix_counts(ratio, count)?;
    let first = |name: &'static str, samples: &[T], wanted: usize| match samples.get(..wanted) {
        Some(samples) => Ok(samples.to_vec()),
        None => Err(Error::TooFew { name, wanted, found: samples.len() }),
    };
    let mut mixed = first("harmful", harmful, counts.0)?;
    mixed.extend(first("user", task, counts.1)?);
    mixed.extend_from_slice(guide);
    if order == MixOrder::Shuffled {
        mixed.shuffle(rng);
    }
    Ok(mixed)
}
