//! The scopes of a radius.

use vxf_core::{Hidden, Result, Rows};

use crate::numbers::entries;

/// The scope of a budget `rho`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All sites, samples and positions of the batch together.
    Global,
    /// Each site.
    PerSite,
    /// Each sample, over its sites and positions.
    PerExample,
    /// Each position of each sample, over its sites.
    PerToken,
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Global, Self::PerSite, Self::PerExample, Self::PerToken];

    /// Whether accumulated micro-batches equal the large batch, because no micro-batch divides a
    /// budget.
    pub fn is_within_a_sample(self) -> bool {
        matches!(self, Self::PerExample | Self::PerToken)
    }

    /// The entries of `hidden`, grouped by budget, in f64 and in a fixed order; `rows` is the index of its
    /// rows.
    pub fn groups(self, hidden: &Hidden, rows: &Rows) -> Result<Vec<Vec<f64>>> {
        let samples: Vec<usize> = rows.positions().map(|(sample, _)| sample).collect();
        let mut groups: Vec<Vec<f64>> = Vec::new();
        for (number, tensor) in hidden.values().enumerate() {
            let (_, width) = tensor.dims2()?;
            for (at, value) in entries(tensor)?.into_iter().enumerate() {
                let row = at / width;
                let group = match self {
                    Self::Global => 0,
                    Self::PerSite => number,
                    Self::PerExample => samples[row],
                    Self::PerToken => row,
                };
                if groups.len() <= group {
                    groups.resize(group + 1, Vec::new());
                }
                groups[group].push(value);
            }
        }
        Ok(groups)
    }
}
