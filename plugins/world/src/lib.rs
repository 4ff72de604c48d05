//! Judge of the embedded world.
//!
//! The rules are those of [`vxf_data::world::judge`]: a refusal is known by its beginning, help by
//! its content. They need no model and cost nothing.

mod algorithm;
mod config;

pub use algorithm::World;
pub use config::WorldConfig;

vxf_core::register! {
    judge "world" => WorldConfig,
    summary: "Judges answers of the embedded world by rule",
    paper: "none: defined with the embedded world of vxf",
}
