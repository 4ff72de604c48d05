//! Model directories in the style of real ones: tokenizers, templates and end tokens.

mod answers;
mod chat;
mod models;
mod samples;
mod specials;
mod tokenizers;
