//! Warnings of a data report.

use super::{Overlap, SetReport};
use crate::Part;

/// The share of truncated samples above which a warning is given.
const MANY_CUT: f64 = 0.1;

pub(super) fn of(sets: &[SetReport], overlaps: &[Overlap]) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(seen_attack(sets, overlaps));
    for overlap in overlaps {
        warnings.extend(shared(sets, overlap));
    }
    for set in sets {
        warnings.extend(within(set));
    }
    warnings
}

/// The warning about an attack that shares questions with the harmful samples of defences.
pub(super) fn seen_attack(sets: &[SetReport], overlaps: &[Overlap]) -> Option<String> {
    let (defence, attack) = (Part::Simulated.key(), Part::Harmful.key());
    let of = |name: &str| sets.iter().find(|set| set.name == name);
    let (defences, attacks) = (of(defence)?, of(attack)?);
    let count = overlaps.iter().find_map(|overlap| {
        match (overlap.first.as_str(), overlap.second.as_str()) {
            (first, second) if (first, second) == (defence, attack) => Some(overlap.of_second),
            (first, second) if (first, second) == (attack, defence) => Some(overlap.of_first),
            _ => None,
        }
    })?;
    Some(format!(
        "{count} of the {} questions of {attack} also occur in {defence} ({} samples): a defence that trains on \
         {defence} has seen part of the attack",
        attacks.samples, defences.samples
    ))
}

/// The warning about a test set that shares questions with a training set.
///
/// A set that a mix is made from is not compared itself, as the mix may not contain all its samples.
fn shared(sets: &[SetReport], overlap: &Overlap) -> Option<String> {
    let find = |name: &String| sets.iter().find(|set| set.name == *name);
    let (first, second) = (find(&overlap.first)?, find(&overlap.second)?);
    let is_part = |set: &SetReport| sets.iter().any(|mix| mix.made_of.contains(&set.name));
    if is_part(first) || is_part(second) {
        return None;
    }
    let (test, count, training) = match (first.test, second.test) {
        (true, false) => (first, overlap.of_first, second),
        (false, true) => (second, overlap.of_second, first),
        _ => return None,
    };
    Some(format!(
        "{count} of the {} questions of {} also occur in {}: the model may have memorised them",
        test.samples, test.name, training.name
    ))
}

fn within(set: &SetReport) -> Vec<String> {
    let SetReport { name, samples, repeated, identical, unanswered, truncated, .. } = set;
    let mut warnings = Vec::new();
    if set.test && *repeated > 0 {
        warnings.push(format!("{name}: {repeated} of {samples} questions repeat an earlier one"));
    }
    if !set.test && set.made_of.is_empty() && *identical > 0 {
        warnings.push(format!("{name}: {identical} of {samples} samples are exact copies"));
    }
    if !set.test && set.made_of.is_empty() && *unanswered > 0 {
        warnings.push(format!("{name}: {unanswered} of {samples} samples have an empty answer"));
    }
    if *truncated as f64 > MANY_CUT * *samples as f64 {
        warnings.push(format!(
            "{name}: {truncated} of {samples} samples are truncated; check `max_length`"
        ));
    }
    let unread: Vec<_> = set.unread.iter().filter(|it| !is_label(it)).cloned().collect();
    if !unread.is_empty() {
        warnings.push(format!("{name}: the columns {} are not read", vxf_untrusted::some(&unread)));
    }
    if !set.unknown.is_empty() {
        let keys = vxf_untrusted::some(&set.unknown);
        warnings.push(format!("{name}: the keys {keys} of turns are unknown and not read"));
    }
    warnings.extend(set.remarks.iter().map(|remark| format!("{name}: {remark}")));
    warnings
}

/// Columns that describe a row and are no part of a sample.
const LABELS: [&str; 26] = [
    "__index_level_0__",
    "category",
    "created_at",
    "dataset",
    "date",
    "difficulty",
    "hash",
    "id",
    "idx",
    "index",
    "lang",
    "language",
    "license",
    "messages_id",
    "meta",
    "metadata",
    "name",
    "prompt_id",
    "source",
    "split",
    "tags",
    "task",
    "timestamp",
    "type",
    "url",
    "uuid",
];

/// Whether a column only describes its row.
fn is_label(column: &str) -> bool {
    let column = column.to_ascii_lowercase();
    LABELS.contains(&column.as_str()) || column.ends_with("_id")
}
