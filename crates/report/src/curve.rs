//! What was logged while a run trained.

use vxf_core::Stage;

use crate::record::{Row, RunId};

/// The log of one run.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The run.
    pub run: RunId,
    /// Its stage.
    pub stage: Stage,
    /// Whether the run is done.
    pub done: bool,
    /// The figures of each step, counted from 1: `loss`, and what the method recorded.
    pub steps: Vec<Logged>,
    /// What was measured at a step.
    pub measured: Vec<(u64, Row)>,
}

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    /// Its number, from 1.
    pub step: u64,
    /// Name and value of each figure that is a number.
    pub figures: Vec<(String, f64)>,
}

impl Curve {
    /// The values of the figure `name`, by step: of each step, or where it was measured.
    pub fn values(&self, name: &str) -> Vec<(u64, f64)> {
        let logged = |logged: &Logged| {
            let found = logged.figures.iter().find(|(known, _)| known == name)?;
            Some((logged.step, found.1))
        };
        let values: Vec<_> = self.steps.iter().filter_map(logged).collect();
        if !values.is_empty() {
            return values;
        }
        let rows = self.measured.iter().filter(|(_, row)| row.figure.name == name);
        rows.filter_map(|(step, row)| Some((*step, row.value()?))).collect()
    }

    /// The names of all figures in it, in the order in which they first occur.
    pub fn names(&self) -> Vec<&str> {
        let logged = self.steps.iter().flat_map(|logged| &logged.figures);
        let logged = logged.map(|(name, _)| name.as_str());
        let measured = self.measured.iter().map(|(_, row)| row.figure.name.as_str());
        let mut names = Vec::new();
        for name in logged.chain(measured) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}
