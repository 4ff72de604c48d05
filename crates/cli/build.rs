//! Makes the program smaller: folds identical functions, which generic code makes many of, and packs the list of
//! addresses that are set at its start. A megabyte and two.
//!
//! Only the linker that comes with Rust for Linux on x86-64 since version 1.90 is known to do so. Packed addresses
//! are read by glibc 2.36 and newer: they are used where the program is built on such a system.

use std::env::var;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |key: &str| var(key).unwrap_or_default();
    let target =
        [of("CARGO_CFG_TARGET_OS"), of("CARGO_CFG_TARGET_ARCH"), of("CARGO_CFG_TARGET_ENV")];
    if target != ["linux", "x86_64", "gnu"] || rust_version() < Some(90) {
        return;
    }
    println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    if of("HOST") == of("TARGET") && glibc_version() >= Some(36) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// What a command prints.
fn told(command: &mut Command) -> Option<String> {
    String::from_utf8(command.output().ok()?.stdout).ok()
}

/// The number after `1.` in the compiler's version.
fn rust_version() -> Option<u32> {
    let told = told(Command::new(var("RUSTC").ok()?).arg("--version"))?;
    told.split_whitespace().nth(1)?.split('.').nth(1)?.parse().ok()
}

/// The number after `2.` in the version of this system's C library.
fn glibc_version() -> Option<u32> {
    let told = told(Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    told.split_whitespace().nth(1)?.strip_prefix("2.")?.parse().ok()
}
