//! The whole command line, including the plugins of this crate.

use custom_defense as _;

fn main() -> std::process::ExitCode {
    vxf::main()
}
