//! Parquet files: footer, row groups and pages are checked before the crate `parquet` reads them.

mod claims;
mod pages;
mod thrift;

pub use claims::{footer, row_group};
pub use pages::Group;
