//! The command line of vxf as a library.
//!
//! A program that registers plugins of its own has the whole command line in three lines:
//!
//! ```no_run
//! // use my_defense as _;
//! fn main() -> std::process::ExitCode {
//!     vxf::main()
//! }
//! ```

use std::process::ExitCode;

use clap::Parser;
use vxf_builtins as _;
use vxf_untrusted::is_panic_expected;

mod args;
mod commands;
mod error;
mod output;
mod progress;
mod signals;

use args::{Args, Command};

/// Exit code of a command that did what it was asked.
pub const EXIT_DONE: u8 = 0;
/// Exit code of a run that failed: a damaged model, a full disk, a loss that is not finite.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a command or a recipe that cannot be meant.
pub const EXIT_USAGE: u8 = 2;

/// Exit code of a run that was asked to stop and kept everything (`EX_TEMPFAIL`): it can be gone on
/// with, and a scheduler may put it back in the queue.
pub const EXIT_INTERRUPTED: u8 = 75;

/// Settings of the whole process: those that make steps faster, and its panic hook.
///
/// # Safety
/// No other thread may be running.
pub unsafe fn prepare() {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // candle's pool for element-wise operations spins between them, which costs more than it
        // gains on small tensors. It reads this once, at the first operation.
        // SAFETY: the caller's.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    hide_expected_panics();
    // A step gives back what the next one takes again. glibc would hand it to the kernel, and have
    // each page cleared and mapped anew: a twentieth of a small model's step.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers; what it refuses stays as it was.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
    }
}

/// Keeps panics of parsers that become errors about their file off stderr.
#[allow(clippy::disallowed_methods, reason = "the program's own hook")]
fn hide_expected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_panic_expected() {
            before(panic);
        }
    }));
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    // SAFETY: nothing has started a thread yet.
    unsafe { prepare() };
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help that cannot be printed (a closed pipe) is nothing to fail over.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE });
        }
    };
    let done = match args.command {
        Command::Run(args) => commands::run::run(&args),
        Command::Resume(args) => commands::run::resume(&args),
        Command::List(args) => commands::list::run(&args),
        Command::Show(args) => commands::show::run(&args),
        Command::Validate(args) => commands::validate::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Runs(args) => commands::runs::run(&args),
        Command::Prune(args) => commands::prune::run(&args),
        Command::Parity(args) => commands::parity::run(&args),
        Command::Pretrain(args) => commands::pretrain::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
    };
    match done {
        Ok(()) => ExitCode::from(EXIT_DONE),
        Err(error) => {
            output::tell(&error.to_string());
            ExitCode::from(error.code)
        }
    }
}
