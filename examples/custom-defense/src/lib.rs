//! Plugins outside of the main repository, one per file: two defences, a post-tuning method, a metric and
//! a data source.

mod blend;
mod brevity;
mod pull_back;
mod step_away;
mod village;

pub use blend::{Blend, BlendConfig};
pub use brevity::{Brevity, BrevityConfig};
pub use pull_back::{PullBack, PullBackConfig};
pub use step_away::{StepAway, StepAwayConfig};
pub use village::VillageConfig;
