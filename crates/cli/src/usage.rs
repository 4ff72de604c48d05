//! Hints about command lines that do not parse, where clap has none.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use vxf_core::registry::nearest;
use vxf_recipe::reference::whole_keys;

/// The error as it is shown, with our hint about it if there is one. Beside a hint, clap's own tips mislead if they say
/// how a flag is passed as a value, or name a flag that is not like what was typed.
pub(crate) fn explained(mut error: clap::Error) -> (clap::Error, Option<String>) {
    let hint = hint(&error);
    if hint.is_some() && error.kind() == ErrorKind::UnknownArgument {
        error.remove(ContextKind::Suggested);
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.clone(),
            _ => String::new(),
        };
        let (typed, near) = (text(ContextKind::InvalidArg), text(ContextKind::SuggestedArg));
        if nearest(&typed, &[near]).is_empty() {
            error.remove(ContextKind::SuggestedArg);
        }
    }
    (error, hint)
}

/// What to type instead; none if nothing is known.
fn hint(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let argument = text(ContextKind::InvalidArg);
    match error.kind() {
        // clap does not know that a comma separates values.
        ErrorKind::ArgumentConflict if text(ContextKind::PriorArg) == argument => {
            Some("a comma separates several values: `--defense a,b` compares two methods".into())
        }
        ErrorKind::UnknownArgument if argument.starts_with("--resume") => {
            Some("the same command continues what is not finished, and so does `vxf resume DIR`".into())
        }
        ErrorKind::UnknownArgument if argument == "--offline" => {
            Some(match usage(error).contains("<COMMAND>") {
                true => "it stands after the command: `vxf run --offline`".into(),
                false => "this command never uses the network".into(),
            })
        }
        ErrorKind::UnknownArgument if argument.parse::<f64>().is_ok() => {
            Some(format!("`{argument}` is read as a flag: here stands a number of at least 0"))
        }
        ErrorKind::UnknownArgument => setting(argument, &usage(error)),
        ErrorKind::InvalidSubcommand => match text(ContextKind::InvalidSubcommand) {
            "train" | "align" | "finetune" | "fine-tune" | "attack" => Some(
                "`vxf run --defense METHOD` aligns a model, fine-tunes it on a user's data, and measures it"
                    .into(),
            ),
            "evaluate" | "measure" | "test" => Some("`vxf eval RUN` measures a run again".into()),
            _ => None,
        },
        ErrorKind::ValueValidation => value(argument, text(ContextKind::InvalidValue)),
        _ => None,
    }
}

/// The usage of the command, as clap prints it.
fn usage(error: &clap::Error) -> String {
    match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(text)) => text.to_string(),
        _ => String::new(),
    }
}

/// How a setting is given that has no flag of its own.
fn setting(argument: &str, usage: &str) -> Option<String> {
    let is_of = |command: &str| usage.contains(&format!(" {command} "));
    let name = argument.strip_prefix("--")?.split('=').next()?.replace('-', "_");
    // A whole key, such as `fine_tuning.epochs`, says itself which of them is meant.
    let keys = match name.rsplit_once('.') {
        Some((_, last)) if whole_keys(last).contains(&name) => vec![name],
        Some((_, last)) => whole_keys(last),
        None => whole_keys(&name),
    };
    if is_of("resume") && !keys.is_empty() {
        return Some(
            "an experiment keeps its settings: `vxf run DIR/config.resolved.toml --set KEY=VALUE` makes another one"
                .into(),
        );
    }
    if !TAKES_SETTINGS.into_iter().any(is_of) {
        return None;
    }
    let all: Vec<_> = keys.iter().map(|key| format!("`--set {key}=VALUE`")).collect();
    (!all.is_empty()).then(|| format!("settings without a flag are given so: {}", all.join(" or ")))
}

/// Commands that take `--set` for every setting of a recipe.
const TAKES_SETTINGS: [&str; 4] = ["run", "validate", "durability", "search"];

/// How the `value` of `argument` is written, if it is a share in percent, a range, or no number.
fn value(argument: &str, value: &str) -> Option<String> {
    let flag = argument.split(' ').next().unwrap_or(argument);
    percent_or_range(flag, value).or_else(|| match flag {
        "--seed" => Some("a seed is a whole number; `vxf run` takes several: `--seed 1,2,3`".into()),
        "--harmful-ratio" => Some(
            "a share is a number from 0 to 1; several are written with commas: `--harmful-ratio 0,0.1`"
                .into(),
        ),
        "--rho" => Some("rho is a number; several are written with commas: `--rho 1,2.5`".into()),
        _ => None,
    })
}

fn percent_or_range(flag: &str, value: &str) -> Option<String> {
    if let Some(share) = value.strip_suffix('%').and_then(|share| share.trim().parse::<f64>().ok())
    {
        return Some(format!("{value} is written {}", share / 100.0));
    }
    let (first, last) = value.split_once("..").or_else(|| value.split_once('-'))?;
    let first: u64 = first.parse().ok()?;
    let last: u64 = last.trim_start_matches('=').parse().ok()?;
    // More are not worth a line of the terminal.
    let all: Vec<_> = (first..=last).take(MOST + 1).map(|value| value.to_string()).collect();
    (2..=MOST)
        .contains(&all.len())
        .then(|| format!("each value is written out, with commas: `{flag} {}`", all.join(",")))
}

/// The most values of a range that a hint writes out.
const MOST: usize = 20;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Args;

    #[test]
    fn what_other_programs_call_otherwise_is_led_to_ours() {
        for (line, expected) in [
            ("run --resume", "`vxf resume DIR`"),
            ("run --resume=out", "`vxf resume DIR`"),
            ("validate --offline", "never uses the network"),
            ("train", "`vxf run --defense METHOD`"),
            ("evaluate", "`vxf eval RUN`"),
            ("run --harmful-ratio 20%", "20% is written 0.2"),
            ("run --seed 1-3", "`--seed 1,2,3`"),
            ("run --seed 1..5", "`--seed 1,2,3,4,5`"),
            ("run --seed 1..=2", "`--seed 1,2`"),
            ("run --defense a --defense b", "`--defense a,b`"),
            ("run --seed x", "`--seed 1,2,3`"),
            ("run --seed 1..1000000", "`--seed 1,2,3`"),
            ("run --seed -1", "`-1` is read as a flag"),
            ("run --rho abc", "`--rho 1,2.5`"),
            ("run --harmful-ratio many", "from 0 to 1"),
            ("run --learning-rate 1", "`--set fine_tuning.learning_rate=VALUE`"),
            ("validate --lora-r=8", "`--set alignment.trainable.rank=VALUE`"),
            ("run --template chat", "`--set data.template=VALUE`"),
            ("run r.toml --fine-tuning.epochs 3", "given so: `--set fine_tuning.epochs=VALUE`"),
            ("resume runs/a --learning-rate 1", "keeps its settings"),
        ] {
            let error = Args::try_parse_from(["vxf"].into_iter().chain(line.split(' ')));
            let error = error.expect_err(line);
            let hint = hint(&error).unwrap_or_else(|| panic!("no hint for {line}: {error:?}"));
            assert!(hint.contains(expected), "{line}: {hint}");
        }
        for (line, part, is_told) in [
            ("run --learning-rate 1e-3", "-- --learning-rate", false),
            ("run --lr 1e-3", "--eval-prompts'", false),
            ("run --seeds 1,2", "'--seed'", true),
        ] {
            let error = Args::try_parse_from(["vxf"].into_iter().chain(line.split(' ')));
            let before = error.expect_err(line);
            assert!(before.to_string().contains(part), "clap says so itself: {before}");
            let (error, hint) = explained(before);
            assert!(hint.is_some(), "{line}");
            assert_eq!(error.to_string().contains(part), is_told, "{line}: {error}");
        }
        for line in ["run --sed 1", "rum", "run --threads x", "report --epochs 3", "--help"] {
            let error = Args::try_parse_from(["vxf"].into_iter().chain(line.split(' ')));
            assert_eq!(hint(&error.expect_err(line)), None, "{line}");
        }
    }
}
