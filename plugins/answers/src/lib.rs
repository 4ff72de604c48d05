//! Metrics over answers: harmful score and accuracy.
