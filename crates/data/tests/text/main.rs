//! Model directories in the style of real ones: tokenizers, templates and end tokens.

mod chat;
mod models;
mod samples;
mod tokenizers;
