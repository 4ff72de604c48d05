//! Metric: harmful embedding drift.
