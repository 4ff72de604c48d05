//! SAM: the min-max step in the space of weights.
//!
//! The inner player moves the weights by `rho` along the normalised gradient of the loss; the gradient
//! there trains the weights, which are themselves not moved.

mod algorithm;
mod config;

pub use algorithm::{Ascent, Sam};
pub use config::{AscentConfig, SamConfig};

vxf_core::register! {
    defense "sam" => SamConfig,
    summary: "Trains under the worst change of the weights of norm rho",
    paper: "Foret et al., Sharpness-Aware Minimization, ICLR 2021, equation 2 and algorithm 1",
    stages: [Alignment, FineTuning],
}

vxf_core::register! {
    perturber "sam" => AscentConfig,
    summary: "Moves the weights by rho along the gradient of the loss",
    paper: "Foret et al., Sharpness-Aware Minimization, ICLR 2021, equation 2",
}
