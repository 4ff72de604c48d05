//! Model directories in the shapes of real ones: their tokenizers, templates and ends.

mod chat;
mod models;
mod samples;
mod tokenizers;
