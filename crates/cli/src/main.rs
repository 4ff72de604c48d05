//! The `vxf` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    vxf::main()
}
