//! The commands, one file each.

pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod layers;
pub(crate) mod list;
pub(crate) mod parity;
pub(crate) mod pretrain;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod validate;

/// Version of what `--json` prints.
pub(crate) const SCHEMA_VERSION: u32 = 1;
