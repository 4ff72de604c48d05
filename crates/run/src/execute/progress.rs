//! Progress reports of a running experiment.

use vxf_report::RunId;

/// Receives progress reports, from several threads.
pub trait Progress: Sync {
    /// This many optimiser steps remain.
    fn begin(&self, steps: u64);
    /// Work on `run` begins.
    fn run(&self, run: &RunId);
    /// One optimiser step was taken, with this loss.
    fn step(&self, loss: Option<f64>);
    /// A note for the user.
    fn note(&self, text: &str);
    /// The work has ended.
    fn end(&self);
}

/// Ignores all reports.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn run(&self, _: &RunId) {}
    fn step(&self, _: Option<f64>) {}
    fn note(&self, _: &str) {}
    fn end(&self) {}
}
