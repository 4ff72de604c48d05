//! Errors as shown to the user: message, hints and exit code.

mod hints;

use std::fmt;

use vxf_access::Error as Unopened;
use vxf_report::Failure;
use vxf_run::Error;
use vxf_sweep::Error as SweepError;

use self::hints::hints;
use crate::{EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE};

/// A command that failed.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// The exit code.
    pub(crate) code: u8,
    message: String,
    hints: Vec<String>,
}

impl CommandError {
    /// A failed run.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: EXIT_FAILED, message: message.into(), hints: Vec::new() }
    }

    /// An invalid command line or recipe.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: EXIT_USAGE, message: message.into(), hints: Vec::new() }
    }

    /// Some metrics failed; everything else is done.
    pub(crate) fn metrics(failures: &[Failure]) -> Self {
        let each = |Failure { metric, problem, runs }: &Failure| {
            let first = runs.first().map_or("", String::as_str);
            let others = match runs.len() {
                0 | 1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            format!("  `{metric}` on {first}{others}: {problem}")
        };
        let all: Vec<_> = failures.iter().map(each).collect();
        Self::failed(format!("these metrics failed, and have no figures:\n{}", all.join("\n")))
    }

    /// For a command of several experiments: only the command itself continues all of them.
    pub(crate) fn of_several(mut self) -> Self {
        if self.code == EXIT_INTERRUPTED {
            self.hints = vec!["the same command continues".into()];
        }
        self
    }

    /// Adds a hint about what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An interrupted run has not failed.
        let kind = if self.code == EXIT_INTERRUPTED { "" } else { "error: " };
        write!(f, "{kind}{}", self.message)?;
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl From<Error> for CommandError {
    fn from(error: Error) -> Self {
        let command = Self { code: code(&error), message: error.to_string(), hints: Vec::new() };
        hints(&error).into_iter().fold(command, Self::hint)
    }
}

impl From<SweepError> for CommandError {
    fn from(error: SweepError) -> Self {
        let message = error.to_string();
        match error {
            SweepError::Run(error) => error.into(),
            SweepError::NotOneUser { .. } => Self::usage(message),
            SweepError::SmallSpace { .. } => Self::usage(message).hint(
                "give a wider range or more settings with `--over`, or a smaller `--budget`; settings of \
                 measurements train nothing",
            ),
            SweepError::Worker { log, .. } => Self::failed(message)
                .hint(format!("all that its worker printed is in {}", log.display()))
                .hint("finished work is kept: the same command continues"),
            SweepError::Engine { .. } => Self::failed(message)
                .hint("`--dry-run` writes the job script and prints the command that submits it"),
            _ => Self::failed(message),
        }
    }
}

impl From<Unopened> for CommandError {
    fn from(error: Unopened) -> Self {
        Error::from(error).into()
    }
}

impl From<vxf_recipe::Error> for CommandError {
    fn from(error: vxf_recipe::Error) -> Self {
        Error::from(error).into()
    }
}

impl From<vxf_core::Error> for CommandError {
    fn from(error: vxf_core::Error) -> Self {
        Error::from(error).into()
    }
}

/// The exit code: usage errors follow from the command line and recipe; all others are failed runs.
fn code(error: &Error) -> u8 {
    match error {
        Error::Recipe(_)
        | Error::NoRun { .. }
        | Error::NoTask { .. }
        | Error::Access(
            Unopened::NoModel { .. } | Unopened::NoTarget { .. } | Unopened::Device { .. },
        )
        | Error::OtherExperiment { .. }
        | Error::NotAnExperiment { .. }
        | Error::Exists { .. }
        | Error::MissingSet { .. }
        | Error::AllPrompt { .. } => EXIT_USAGE,
        Error::Core(
            vxf_core::Error::UnknownPlugin { .. }
            | vxf_core::Error::Config(_)
            | vxf_core::Error::WrongStage { .. }
            | vxf_core::Error::UnknownStream { .. }
            | vxf_core::Error::UnknownSite { .. },
        ) => EXIT_USAGE,
        Error::Data(source) if source.is_absence() => EXIT_USAGE,
        Error::Interrupted { .. } => EXIT_INTERRUPTED,
        _ => EXIT_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use vxf_core::Stage;
    use vxf_recipe::Place;

    use super::*;

    /// Only a limit on a disk could show it from outside, so the errors are made here.
    #[test]
    fn a_full_disk_is_told_with_its_file() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let path = "runs/one/model.safetensors";
        let tensors = vxf_core::Error::Io { path: path.into(), source: full() };
        let record = Error::Io { action: "write", path: path.into(), source: full() };
        for error in [Error::Core(tensors), record] {
            let told = CommandError::from(error).to_string();
            for part in [path, "no storage space", "hint: the disk is full"] {
                assert!(told.contains(part), "no `{part}` in {told}");
            }
        }
    }

    /// The hint names a flag that accepts the method.
    #[test]
    fn the_hint_of_a_method_in_the_wrong_stage_names_the_right_flag() {
        let hint = |stage, belongs: &[Stage]| {
            let (place, name) = (Place::Default, "method".to_owned());
            let error =
                vxf_recipe::Error::WrongStage { place, name, belongs: belongs.to_vec(), stage };
            CommandError::from(error).to_string()
        };
        let (alignment, user, after) = (Stage::Alignment, Stage::FineTuning, Stage::PostTuning);
        assert!(hint(alignment, &[user]).contains("`--fine-tune-defense method`"));
        assert!(hint(user, &[alignment]).contains("`--defense method`"));
        for stage in [alignment, user] {
            assert!(hint(stage, &[after]).contains("`--post-tune-defense method`"));
        }
    }
}
