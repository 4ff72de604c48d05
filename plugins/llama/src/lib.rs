//! Backbone family: Llama.
