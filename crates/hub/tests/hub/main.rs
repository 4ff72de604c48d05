//! The crate against a hub of our own: a server on this machine that answers as the real one does.

mod download;
mod lab;
mod models;
mod offline;
mod refused;
mod resume;
mod secrets;
mod server;
