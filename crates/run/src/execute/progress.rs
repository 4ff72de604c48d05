//! Progress reports of a running experiment.

use vxf_core::Stage;
use vxf_report::RunId;

/// What a run is doing.
#[derive(Clone, Copy, Debug)]
pub struct Doing<'a> {
    /// The run.
    pub run: &'a RunId,
    /// What it does.
    pub phase: Phase<'a>,
    /// How much of it is done.
    pub done: u64,
    /// All of it.
    pub total: u64,
}

/// A part of a run that takes its time.
#[derive(Clone, Copy, Debug)]
pub enum Phase<'a> {
    /// Takes the optimiser steps of a stage.
    Training {
        /// The stage.
        stage: Stage,
        /// The loss of the last step.
        loss: Option<f64>,
    },
    /// Generates the answers to a set of prompts.
    Answering {
        /// The set.
        set: &'a str,
    },
}

/// Receives progress reports, from several threads.
pub trait Progress: Sync {
    /// This many optimiser steps remain.
    fn begin(&self, steps: u64);
    /// This many answers remain to be generated; called before [`Progress::begin`].
    fn answers(&self, _count: u64) {}
    /// Work on `run` begins.
    fn run(&self, run: &RunId);
    /// One optimiser step was taken, with this loss.
    fn step(&self, loss: Option<f64>);
    /// A step was taken, or answers were made.
    fn doing(&self, _doing: Doing<'_>) {}
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
