//! What an experiment tells while it runs.

use vxf_report::RunId;

/// Listens to an experiment; called from several threads.
pub trait Progress: Sync {
    /// So many optimiser steps are still to be taken.
    fn begin(&self, steps: u64);
    /// Work on `run` begins.
    fn run(&self, run: &RunId);
    /// One optimiser step was taken, at this loss.
    fn step(&self, loss: Option<f64>);
    /// Something that the user should know.
    fn note(&self, text: &str);
    /// All is done, or given up.
    fn end(&self);
}

/// Tells nobody.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: u64) {}
    fn run(&self, _: &RunId) {}
    fn step(&self, _: Option<f64>) {}
    fn note(&self, _: &str) {}
    fn end(&self) {}
}
