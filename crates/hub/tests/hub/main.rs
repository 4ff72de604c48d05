//! The crate against a local test server that responds like the hub.

mod download;
mod lab;
mod models;
mod offline;
mod refused;
mod resume;
mod secrets;
mod server;
