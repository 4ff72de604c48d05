//! What an experiment tells while it runs.

use crate::plan::CellId;

/// Listens to an experiment; called from several threads.
pub trait Progress: Sync {
    /// So many optimiser steps are still to be taken.
    fn begin(&self, steps: u64);
    /// Work on `cell` begins.
    fn cell(&self, cell: &CellId);
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
    fn cell(&self, _: &CellId) {}
    fn step(&self, _: Option<f64>) {}
    fn note(&self, _: &str) {}
    fn end(&self) {}
}
