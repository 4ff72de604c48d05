//! Backbone family `llama`: Llama-shaped decoders from Hugging Face checkpoints.

mod block;
mod config;
mod decoder;
mod model;

pub use config::LlamaConfig;
pub use model::Llama;

use vxf_core::config::Family;
use vxf_core::registry::BackboneEntry;

vxf_core::inventory::submit! {
    BackboneEntry {
        name: "llama",
        summary: "Llama-shaped decoders: RMS norm, rotary positions, gated MLP, grouped queries",
        paper: "Touvron et al. 2023, arXiv 2302.13971",
        package: env!("CARGO_PKG_NAME"),
        family: Family {
            model_types: &["llama"],
            load: |checkpoint, dtype, device| {
                Ok(std::sync::Arc::new(Llama::load(checkpoint, dtype, device)?))
            },
        },
    }
}
