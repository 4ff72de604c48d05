//! The whole command line, with the plugins of this crate in it.

use custom_defense as _;

fn main() -> std::process::ExitCode {
    vxf::main()
}
