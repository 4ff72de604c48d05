//! The whole command line, with `blend` in it.

use custom_defense as _;

fn main() -> std::process::ExitCode {
    vxf::main()
}
