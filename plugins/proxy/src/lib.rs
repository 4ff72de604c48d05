//! The proxy policy: a defence can be tried on any checkpoint without harmful text and without files.
//!
//! Cooking plays the forbidden topic. The provider's alignment set teaches the model to decline it and to
//! go on answering requests about gardens, repairs, cleaning, learning and journeys. The user's task is
//! short English with exact answers; an attacker mixes answered cooking requests into it. A quarter of
//! all combinations of a thing and its circumstances is in no training set, so that tests measure
//! generalisation. Nothing here is harmful: what is studied is how further training removes a refusal.

mod judge;
mod requests;
mod source;
mod task;
mod topics;

pub use judge::{ProxyJudge, ProxyJudgeConfig};
pub use source::ProxyData;
pub use task::Task;

vxf_core::register! {
    judge "proxy" => ProxyJudgeConfig,
    summary: "Judges answers under the proxy policy by rules",
    paper: "none: defined with the proxy policy of vxf",
}
