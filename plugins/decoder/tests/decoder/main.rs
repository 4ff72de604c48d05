//! The five families as one decoder: laws, oracles, files, adapters.

mod config;
mod contract;
mod export;
mod files;
mod merge;
mod oracle;
mod peft;
mod shapes;

use vxf_decoder as _;
