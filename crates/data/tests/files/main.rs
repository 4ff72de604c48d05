//! Reading files, from bytes to samples and their report. All texts are placeholders.

mod common;
mod hostile;
mod layout;
mod mixing;
mod parquet;
mod reporting;
mod rows;
mod schemas;
mod sources;
