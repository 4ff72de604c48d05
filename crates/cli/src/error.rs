//! Errors as shown to the user: message, hints and exit code.

use std::fmt;
use std::path::Path;

use vxf_access::Error as Unopened;
use vxf_report::Failure;
use vxf_run::{Error, Run};
use vxf_sweep::Error as SweepError;

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

fn hints(error: &Error) -> Vec<String> {
    match error {
        Error::Recipe(error) => recipe_hints(error),
        Error::Core(vxf_core::Error::OutOfMemory { .. }) => vec![
            "keep less of the forward pass (`--set recompute=block`), use smaller batches \
             (`batch_size` with `accumulation`), or a 16-bit type (`--dtype bf16`); \
             `vxf validate RECIPE` estimates the memory"
                .into(),
        ],
        Error::Exists { .. } => vec!["give another directory with `--output-dir`".into()],
        Error::OtherExperiment { .. } | Error::NotAnExperiment { .. } => {
            vec!["give another directory with `--output-dir`; nothing is overwritten".into()]
        }
        Error::Interrupted { path } => {
            vec![format!("`vxf resume {}` or the same command continues", path.display())]
        }
        Error::Checkpoint { .. } => {
            vec!["the disk or the memory may be faulty; the checkpoint before it is kept".into()]
        }
        Error::Unmoved { .. } => vec![
            "every gradient was zero (answers truncated away, an adapter with alpha 0), or the \
             learning rate is too small for the type of the weights (`--dtype f32`)"
                .into(),
        ],
        Error::Doubtful { .. } => vec![
            "raise `fine_tuning.learning_rate` or `fine_tuning.epochs`; every step's loss is in \
             metrics.jsonl"
                .into(),
        ],
        Error::AllPrompt { .. } => vec![
            "raise `world.max_length`, for files `data.max_length` (0 is the model's own limit), \
             or use a model with more positions"
                .into(),
        ],
        Error::Access(Unopened::NoTarget { .. }) => vec![
            "a run is at EXPERIMENT/<defense>/<ratio or aligned>/<seed>; a model on the hub is \
             written owner/name, or hf:owner/name if a directory has the owner's name"
                .into(),
        ],
        Error::NoTask { .. } => {
            vec!["`vxf runs EXPERIMENT --pending` lists digests; more letters name one run".into()]
        }
        // The path that was typed is wrong, or the run that an experiment starts from.
        Error::NoRun { problem, .. } if problem.starts_with("no such directory") => vec![
            "`vxf runs DIR` lists the experiments in a directory, and the runs of an experiment; an aligned run \
             is at EXPERIMENT/<defense>/aligned/<seed>"
                .into(),
        ],
        Error::NoRun { .. } => {
            vec!["an aligned run is at EXPERIMENT/<defense>/aligned/<seed>".into()]
        }
        Error::Core(vxf_core::Error::Checkpoint { problem, .. })
            if problem.contains("is missing") && !problem.contains("adapter") =>
        {
            vec![
                "a model directory holds config.json, model.safetensors and the tokenizer.json that \
                 it was trained with"
                    .into(),
            ]
        }
        Error::Data(vxf_data::Error::UnknownWord { .. } | vxf_data::Error::MissingSpecials(_)) => {
            vec![
                "the embedded world and its tokenizer belong together: other texts need a model of your own \
                 (`--model DIR`), another tokenizer needs data of your own (a section `data` of a recipe)"
                    .into(),
            ]
        }
        Error::Run { source, .. } => {
            let mut all = vec![
                "finished work is kept: `vxf resume` or the same command continues".to_owned(),
            ];
            all.extend(hints(source));
            all
        }
        Error::Io { action: "create" | "write", .. } => {
            vec!["choose a writable directory with `--output-dir`".into()]
        }
        _ => Vec::new(),
    }
}

fn recipe_hints(error: &vxf_recipe::Error) -> Vec<String> {
    use vxf_recipe::{Error, UsualStage};
    match error {
        Error::RecipeFile { path, .. } => no_recipe(path),
        Error::Setting { problem, .. } if problem.key.starts_with("harmful_ratios") => {
            percent(&problem.found)
        }
        Error::NotToml { excerpt, .. } => {
            vec![format!("the parser stopped here:\n{}", excerpt.trim_end())]
        }
        Error::WrongStage { name, belongs, .. } => belongs.first().map_or_else(Vec::new, |stage| {
            let section = UsualStage::of(*stage).defense;
            let flag = section.replace('_', "-");
            vec![format!(
                "write `--{flag} {name}`, or `[{section}] name = \"{name}\"` in a recipe"
            )]
        }),
        Error::TwoMakers { .. } => vec![
            "a comma compares methods (`a,b`), a plus composes them (`a+b`); `vxf show NAME` says which \
             ones can be composed"
                .into(),
        ],
        Error::Name { source, .. } => registered(source),
        _ => Vec::new(),
    }
}

/// What may be meant by a path that is no recipe.
fn no_recipe(path: &Path) -> Vec<String> {
    let shown = path.display();
    if path.is_dir() {
        return match Run::is_run(path) {
            true => vec![format!(
                "{shown} is an experiment or a run: `vxf resume {shown}` continues it, `vxf report {shown}` \
                 prints its results, and its recipe is config.resolved.toml"
            )],
            false => vec![format!(
                "{shown} is a directory; a recipe is a file, such as {shown}/recipe.toml"
            )],
        };
    }
    let name = shown.to_string();
    if vxf_core::registry::find::<dyn vxf_core::config::DefenseConfig>(&name).is_ok() {
        return vec![format!("{name} is a method: write `--defense {name}`, or `vxf show {name}`")];
    }
    match name.parse::<f64>() {
        Ok(_) => vec![
            "several values of a flag are written with commas: `--harmful-ratio 0.1,0.2`".into(),
        ],
        Err(_) => vec!["`vxf init` writes a recipe for what is there".into()],
    }
}

/// A share that was written as a percentage.
fn percent(found: &str) -> Vec<String> {
    match found.parse::<f64>() {
        Ok(value) if value > 1.0 && value <= 100.0 => {
            vec![format!("{value} % is written {}", value / 100.0)]
        }
        _ => Vec::new(),
    }
}

/// Where plugins are described; the message itself names them.
fn registered(error: &vxf_core::Error) -> Vec<String> {
    match error {
        vxf_core::Error::UnknownPlugin { kind, known, .. } if !known.is_empty() => {
            vec![format!("`vxf list {kind}s` describes all of them")]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use vxf_core::Stage;
    use vxf_recipe::Place;

    use super::*;

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
