//! Parquet validation: footer, row groups and pages are checked before the `parquet` crate reads them.

mod claims;
mod pages;
mod thrift;

pub use claims::{footer, row_group};
pub use pages::Group;
