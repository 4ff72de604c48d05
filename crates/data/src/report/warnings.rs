//! What in a report deserves a look.

use super::{Overlap, SetReport};

/// The share of cut samples that is worth a sentence.
const MANY_CUT: f64 = 0.1;

pub(super) fn of(sets: &[SetReport], overlaps: &[Overlap]) -> Vec<String> {
    let mut warnings = Vec::new();
    for overlap in overlaps {
        warnings.extend(shared(sets, overlap));
    }
    for set in sets {
        warnings.extend(within(set));
    }
    warnings
}

/// A sentence about a test set that shares questions with what is learned.
///
/// A set that a mix takes samples of speaks through the mix: what is not taken is not learned.
fn shared(sets: &[SetReport], overlap: &Overlap) -> Option<String> {
    let find = |name: &String| sets.iter().find(|set| set.name == *name);
    let (first, second) = (find(&overlap.first)?, find(&overlap.second)?);
    let is_part = |set: &SetReport| sets.iter().any(|mix| mix.made_of.contains(&set.name));
    if is_part(first) || is_part(second) {
        return None;
    }
    let (test, count, learned) = match (first.test, second.test) {
        (true, false) => (first, overlap.of_first, second),
        (false, true) => (second, overlap.of_second, first),
        _ => return None,
    };
    Some(format!(
        "{count} of the {} questions of {} are also asked in {}: what is measured there may be \
         memory",
        test.samples, test.name, learned.name
    ))
}

fn within(set: &SetReport) -> Vec<String> {
    let SetReport { name, samples, repeated, identical, unanswered, truncated, .. } = set;
    let mut warnings = Vec::new();
    if set.test && *repeated > 0 {
        warnings.push(format!("{name}: {repeated} of {samples} questions repeat an earlier one"));
    }
    if !set.test && set.made_of.is_empty() && *identical > 0 {
        warnings.push(format!("{name}: {identical} of {samples} samples are in it already"));
    }
    if !set.test && set.made_of.is_empty() && *unanswered > 0 {
        warnings.push(format!("{name}: {unanswered} of {samples} samples have an empty answer"));
    }
    if *truncated as f64 > MANY_CUT * *samples as f64 {
        warnings.push(format!(
            "{name}: {truncated} of {samples} samples are cut short; is `max_length` right?"
        ));
    }
    warnings
}
