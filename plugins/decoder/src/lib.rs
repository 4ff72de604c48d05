//! Backbone families `llama`, `mistral`, `qwen2`, `qwen3`, `gemma2`, `gemma3`, `phi3` and `opt`: one
//! decoder, eight configuration readers.
//!
//! A family reads its `config.json` into a [`Design`]; the [`Transformer`] is built from the design
//! and does not know the families.

mod attention;
mod block;
mod cache;
mod cached;
pub mod design;
mod embedding;
mod family;
mod layers;
mod mlp;
mod model;
mod parts;
pub mod rope;

pub use design::Design;
pub use model::Transformer;

use vxf_hf::{BackboneEntry, Family};

/// Registers a family under its name, which is also its `model_type` unless that is given.
macro_rules! family {
    ($name:literal, $reader:expr, $summary:literal, $paper:literal) => {
        family!($name, $name, $reader, $summary, $paper);
    };
    ($name:literal, $model_type:literal, $reader:expr, $summary:literal, $paper:literal) => {
        vxf_core::inventory::submit! {
            BackboneEntry {
                name: $name,
                summary: $summary,
                paper: $paper,
                package: env!("CARGO_PKG_NAME"),
                family: Family {
                    model_types: &[$model_type],
                    outline: |config, origin| Ok($reader.read(config, origin)?.outline()),
                    load: |checkpoint, dtype, device| {
                        let design = $reader.read(checkpoint.raw_config(), checkpoint.origin())?;
                        let model = Transformer::load(&design, checkpoint, dtype, device)?;
                        Ok(std::sync::Arc::new(model))
                    },
                },
            }
        }
    };
}

family!(
    "llama",
    family::LLAMA,
    "Llama 1 to 3, Vicuna: RMS norm, rotary positions, gated MLP, grouped queries",
    "Touvron et al. 2023, arXiv 2302.13971"
);
family!(
    "mistral",
    family::MISTRAL,
    "Mistral: Llama with a sliding window",
    "Jiang et al. 2023, arXiv 2310.06825"
);
family!(
    "qwen2",
    family::QWEN2,
    "Qwen2 and 2.5: Llama with biases on queries, keys and values",
    "Yang et al. 2024, arXiv 2407.10671"
);
family!(
    "qwen3",
    family::QWEN3,
    "Qwen3: Llama with a norm on each head's queries and keys",
    "Yang et al. 2025, arXiv 2505.09388"
);
family!(
    "gemma2",
    family::GEMMA2,
    "Gemma 2: four norms, GeGLU, soft caps, every second layer with a window",
    "Gemma Team 2024, arXiv 2408.00118"
);
family!(
    "phi3",
    family::PHI3,
    "Phi-3, Phi-4-mini: Llama with joined projections, partial rotary positions",
    "Abdin et al. 2024, arXiv 2404.14219"
);
family!(
    "gemma3",
    "gemma3_text",
    family::GEMMA3,
    "Gemma 3 (text): four norms, GeGLU, windows with a rotation of their own",
    "Gemma Team 2025, arXiv 2503.19786"
);
family!(
    "opt",
    family::OPT,
    "OPT: layer norm before or after, learned positions, ReLU, biases",
    "Zhang et al. 2022, arXiv 2205.01068"
);
