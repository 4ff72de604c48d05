//! Filters of the user's data: a score for each sample, from the model, and the worst samples left out.

mod config;
mod direction;
mod gradient;
mod kept;

pub use config::{DirectionFilterConfig, GradientFilterConfig};
pub use direction::DirectionFilter;
pub use gradient::GradientFilter;

vxf_core::register! {
    defense "gradient-filter" => GradientFilterConfig,
    summary: "Leaves out the user's samples whose gradients oppose alignment",
    paper: "a filter of the kind of GradShield, ICLR 2026, arXiv 2605.14194, from its abstract",
    stages: [FineTuning],
}

vxf_core::register! {
    defense "direction-filter" => DirectionFilterConfig,
    summary: "Leaves out the user's samples that lie furthest towards compliance",
    paper: "a filter of the kind of DataShield, 2026, arXiv 2606.00160, second hand",
    stages: [FineTuning],
}
