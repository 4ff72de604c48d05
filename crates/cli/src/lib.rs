//! The command line of vxf, as a library.
//!
//! A program that registers its own plugins gets all commands in three lines:
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
mod usage;

use args::{Args, Command};

/// Exit code of a successful command.
pub const EXIT_DONE: u8 = 0;
/// Exit code of a failed run: a damaged model, a full disk, a loss that is not finite.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of an invalid command line or recipe.
pub const EXIT_USAGE: u8 = 2;

/// Exit code of an interrupted run (`EX_TEMPFAIL`): everything is kept, and a scheduler can queue the job
/// again.
pub const EXIT_INTERRUPTED: u8 = 75;

/// Sets process-wide options: allocator and thread settings for speed, and the panic hook.
///
/// # Safety
/// No other thread may be running.
pub unsafe fn prepare() {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // candle's thread pool for element-wise operations spins while idle, which costs more than it
        // gains on small tensors. candle reads this variable once, at the first operation. SAFETY: by the
        // caller.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    hide_expected_panics();
    // A step frees memory that the next step allocates again. By default glibc returns it to the kernel,
    // and mapping it anew takes a twentieth of a small model's step.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets two numbers; an invalid one is ignored.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
    }
}

/// Hides panics of parsers that are reported as errors about their file.
#[allow(clippy::disallowed_methods, reason = "the program's own hook")]
fn hide_expected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !is_panic_expected() {
            before(panic);
        }
    }));
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    // SAFETY: nothing has started a thread yet.
    unsafe { prepare() };
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let (error, hint) = usage::explained(error);
            // A closed pipe while printing help is not an error.
            let _ = error.print();
            if let Some(hint) = hint {
                output::tell(&format!("hint: {hint}"));
            }
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_DONE });
        }
    };
    output::set_log(args.messages.log_format, args.messages.level());
    let done = match args.command {
        Command::Run(args) => commands::run::run(&args),
        Command::Resume(args) => commands::run::resume(&args),
        Command::Task(args) => commands::task::run(&args),
        Command::Durability(args) => commands::durability::run(&args),
        Command::Search(args) => commands::search::run(&args),
        Command::List(args) => commands::list::run(&args),
        Command::Show(args) => commands::show::run(&args),
        Command::Validate(args) => commands::validate::run(&args),
        Command::Diff(args) => commands::diff::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Generate(args) => commands::generate::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Plot(args) => commands::plot::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Runs(args) => commands::runs::run(&args),
        Command::Prune(args) => commands::prune::run(&args),
        Command::Parity(args) => commands::parity::run(&args),
        Command::Pretrain(args) => commands::pretrain::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Completions(args) => commands::shell::completions(&args),
        Command::Man(args) => commands::shell::man(&args),
        Command::Reference => commands::reference::run(),
        Command::Init(args) => commands::init::run(&args),
    };
    match done {
        Ok(()) => ExitCode::from(EXIT_DONE),
        Err(error) => {
            output::tell_end(&error);
            ExitCode::from(error.code)
        }
    }
}
