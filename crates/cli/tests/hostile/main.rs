//! Hostile input: valid files, changed at random, read by every parser of vxf.
//!
//! Whatever a file contains, reading it must not panic, hang, or allocate more than about twice the file
//! and a constant. The message names the file and, if possible, the location. A case is a valid specimen
//! with one to four changes drawn from seed, format and case number, so that every failure can be
//! reproduced.
//!
//! ```sh
//! cargo test --workspace --test hostile                                   # 2,000 cases per format
//! VXF_HOSTILE_CASES=10000 cargo test --workspace --test hostile           # more, or fewer
//! VXF_HOSTILE_SECONDS=7200 cargo test --workspace --test hostile -- --nocapture   # for hours
//! VXF_HOSTILE_SEED=7 cargo test --workspace --test hostile recipes        # other cases, one format
//! ```
//!
//! **To add a format:** write a function in `formats.rs` (or a module of its own) that returns a
//! [`driver::Format`]: the name of the mutated file, valid specimens, words for the mutator, and a
//! function that reads it. Then add a line to the table at the end of this file. The function writes all
//! other files that the reader needs into its directory.

mod bombs;
#[path = "../common/mod.rs"]
mod common;
mod driver;
mod experiments;
mod formats;
mod gguf;
mod meter;
mod models;
mod mutate;
mod tokenizers;

/// A test for each format.
macro_rules! formats {
    ($($test:ident: $format:path;)*) => {
        $(
            #[test]
            fn $test() {
                driver::run(stringify!($test), $format);
            }
        )*
    };
}

formats! {
    recipes: formats::recipe;
    data_lines: formats::lines;
    data_documents: formats::document;
    data_tables: formats::table;
    data_compressed: formats::compressed;
    data_cards: formats::card;
    judges_scores: formats::scores;
    model_configs: models::config;
    model_indexes: models::index;
    model_weights: models::weights;
    model_pickles: models::pickle;
    model_gguf: gguf::gguf;
    adapter_configs: models::adapter_config;
    adapter_weights: models::adapter_weights;
    tokenizers: tokenizers::tokenizer;
    tokenizer_configs: tokenizers::tokenizer_config;
    chat_templates: tokenizers::chat_template;
    vocabularies: tokenizers::vocabulary;
    experiment_recipes: experiments::recipe;
    experiment_manifests: experiments::manifest;
    experiment_records: experiments::record;
    experiment_answers: experiments::answers;
    experiment_weights: experiments::weights;
    checkpoint_lists: experiments::checkpoint_list;
    checkpoint_states: experiments::checkpoint_state;
    checkpoint_tensors: experiments::checkpoint_tensors;
}
