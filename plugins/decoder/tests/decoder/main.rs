//! Tests of the decoder in all five families: laws, oracles, files, adapters.

mod attention;
mod config;
mod contract;
mod export;
mod files;
mod long;
mod merge;
mod oracle;
mod peft;
mod quantized;
mod shapes;

use vxf_decoder as _;
