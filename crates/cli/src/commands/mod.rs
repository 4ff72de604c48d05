//! The commands, one file each.

pub(crate) mod compare;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod durability;
pub(crate) mod eval;
pub(crate) mod executor;
pub(crate) mod export;
pub(crate) mod findings;
pub(crate) mod generate;
pub(crate) mod init;
pub(crate) mod layers;
pub(crate) mod list;
pub(crate) mod page;
pub(crate) mod parity;
pub(crate) mod plot;
pub(crate) mod pretrain;
pub(crate) mod prune;
pub(crate) mod reference;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod search;
pub(crate) mod several;
pub(crate) mod shell;
pub(crate) mod show;
pub(crate) mod task;
pub(crate) mod track;
pub(crate) mod validate;
pub(crate) mod verify;

/// Schema version of `--json` output.
pub(crate) const SCHEMA_VERSION: u32 = 2;
