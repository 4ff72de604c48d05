//! The whole command line of vxf, including this crate's method.

use {{crate_name}} as _; // a crate that is only listed in Cargo.toml registers nothing

fn main() -> std::process::ExitCode {
    vxf::main()
}
