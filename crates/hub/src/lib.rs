//! Models and data sets from the Hugging Face hub.
//!
//! A [`Reference`] is what a user types, a [`Hub`] holds the environment's settings, and a
//! [`Repository`] is one model or data set at one commit. Files are stored in the hub's own cache, in
//! the layout of Python's `huggingface_hub`, so that the two share downloads.
//!
//! ```no_run
//! use vxf_hub::{Hub, Kind, Reference};
//!
//! let reference = Reference::parse("Qwen/Qwen2.5-0.5B@main")?.expect("no such path here");
//! let hub = Hub::from_env(false)?;
//! let repository = hub.repository(Kind::Model, &reference)?;
//! let directory = repository.model_files()?;
//! println!("{} at {}", directory.display(), repository.commit());
//! # Ok::<(), vxf_hub::Error>(())
//! ```
//!
//! `docs/decisions.md`, "Hub client", explains why the crate `hf-hub` is not used.
//!
//! # Environment variables
//!
//! [`Settings::from_lookup`] reads all variables of the hub. `ureq` itself reads the usual proxy
//! variables (`HTTPS_PROXY`, `NO_PROXY` and so on), only if [`Settings::system_proxy`] is set.
//! Certificates are those of Mozilla, compiled in, unless `SSL_CERT_FILE` names others.

mod cache;
mod certificates;
mod client;
mod digest;
mod download;
mod error;
mod fault;
mod hub;
mod metadata;
mod model;
mod name;
mod partial;
mod reference;
mod repository;
mod retry;
mod settings;
mod status;
mod token;

pub use error::{Error, Result};
pub use hub::Hub;
pub use model::COMPANIONS;
pub use reference::{Kind, Reference};
pub use repository::Repository;
pub use retry::RetryPolicy;
pub use settings::{Offline, Settings};
pub use token::Token;
