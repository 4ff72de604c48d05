//! The `vxf` binary.
fn main() {}
