//! One measured figure: the record that reports are rendered from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcomes::Outcomes;

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One figure and its context. Reports are rendered from this record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was measured, `harmful_score` for example.
    pub name: String,
    /// The figure; NaN (`null` in JSON) if it is undefined.
    #[serde(with = "number_or_null")]
    pub value: f64,
    /// Its unit, `%` or `nats` for example.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// The number of samples.
    pub n: usize,
    /// A 95 % interval, if it is a rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// How it was measured, and its parts (per layer for example).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, serde_json::Value>,
    /// The outcome of every answer, where it is a rate over answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Outcomes>,
}

/// JSON has no NaN; it is stored as `null`.
mod number_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
    }
}

impl Measurement {
    /// A figure without interval or parts.
    pub fn new(name: &str, value: f64, unit: &str, better: Better, n: usize) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.into(),
            better,
            n,
            interval: None,
            details: BTreeMap::new(),
            outcomes: None,
        }
    }

    /// The share of `hits` among `n` in percent, with Wilson's 95 % interval.
    ///
    /// [`Measurement::share`] is better where the answers are at hand: it can be paired.
    pub fn rate(name: &str, hits: usize, n: usize, better: Better) -> Self {
        let interval = vxf_stats::wilson(hits as f64 / n as f64, n as f64);
        Self::percent(name, (hits, n), n, better, interval)
    }

    /// The share of answers that count, in percent, with Wilson's 95 % interval over as many answers
    /// as they are worth; `n` is the number of prompts with a judged answer.
    pub fn share(name: &str, outcomes: Outcomes, better: Better) -> Self {
        let counted = outcomes.judged().filter(|(.., counts)| *counts).count();
        let found = outcomes.clustered();
        let all = found.map_or(0, |found| found.n);
        let interval = found.and_then(|found| vxf_stats::wilson(found.mean, found.effective()));
        let mut share = Self::percent(name, (counted, all), outcomes.prompts(), better, interval);
        if outcomes.draws > 1 {
            share = share.with("draws", outcomes.draws);
        }
        if let Some(unsteady) = outcomes.unsteady() {
            share = share.with("unsteady", 100.0 * unsteady);
        }
        Self { outcomes: Some(outcomes), ..share }
    }

    fn percent(
        name: &str,
        (counted, all): (usize, usize),
        n: usize,
        better: Better,
        interval: Option<[f64; 2]>,
    ) -> Self {
        let value = if all == 0 { f64::NAN } else { 100.0 * counted as f64 / all as f64 };
        let interval = interval.map(|ends| ends.map(|end| 100.0 * end));
        Self { interval, ..Self::new(name, value, "%", better, n) }
    }

    /// Adds a detail.
    pub fn with(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_matches_the_textbook() {
        // 8 of 10: 49.0 % to 94.3 %.
        let rate = |hits, n| Measurement::rate("x", hits, n, Better::Lower);
        let [low, high] = rate(8, 10).interval.expect("n > 0");
        assert!((low - 49.02).abs() < 0.02 && (high - 94.33).abs() < 0.02, "{low} {high}");
        assert_eq!(rate(0, 60).interval.map(|[low, _]| low), Some(0.0));
        let empty = Measurement::rate("x", 0, 0, Better::Lower);
        assert!(empty.interval.is_none());
        let text = serde_json::to_string(&empty).expect("plain data");
        let read: Measurement = serde_json::from_str(&text).expect("what was written");
        assert!(read.value.is_nan());
    }
}
