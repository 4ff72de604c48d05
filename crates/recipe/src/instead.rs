//! Suggestions for paths that do not exist.

use std::fs;
use std::path::Path;

use vxf_core::registry::nearest;

/// Number of names in a message.
const MOST_SHOWN: usize = 6;

/// Number of directory entries that are read.
const MOST_READ: usize = 1000;

/// The end of a message about the missing `path`: a similar name, or the names in its directory. Empty if
/// neither helps.
#[must_use]
pub fn instead(path: &Path) -> String {
    let mut missing = path;
    let directory = loop {
        match missing.parent() {
            Some(parent) if parent.as_os_str().is_empty() => break Path::new("."),
            Some(parent) if parent.is_dir() => break parent,
            Some(parent) => missing = parent,
            None => return String::new(),
        }
    };
    let Some(name) = missing.file_name() else { return String::new() };
    let there = entries(directory);
    let here = directory == Path::new(".");
    let shown = |name: &str| match here {
        true => name.to_owned(),
        false => directory.join(name).display().to_string(),
    };
    if let Some(near) = nearest(&name.to_string_lossy(), &there).first() {
        return format!("; did you mean `{}`?", shown(near));
    }
    match here {
        // The content of the working directory is not listed.
        true => String::new(),
        false => format!("; {}", contents(directory, &there)),
    }
}

/// The content of `directory`, as part of a message.
#[must_use]
pub fn holds(directory: &Path) -> String {
    contents(directory, &entries(directory))
}

fn contents(directory: &Path, there: &[String]) -> String {
    let directory = directory.display();
    let shown = there.iter().take(MOST_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match there.len() {
        0 => format!("{directory} is empty"),
        all if all > MOST_SHOWN => {
            format!("{directory} holds {shown} and {} more", all - MOST_SHOWN)
        }
        _ => format!("{directory} holds {shown}"),
    }
}

/// The names in `directory` that are not hidden, sorted.
fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MOST_READ);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_before_lists() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let runs = place.path().join("runs");
        for name in ["vaccine-sst2-01", "sft-sst2-02", ".lock"] {
            fs::create_dir_all(runs.join(name)).expect("a directory");
        }
        let near = instead(&runs.join("vaccine-sst2-1"));
        assert_eq!(near, format!("; did you mean `{}`?", runs.join("vaccine-sst2-01").display()));
        let near = instead(&place.path().join("rnus/vaccine-sst2-01"));
        assert_eq!(near, format!("; did you mean `{}`?", runs.display()));
        let list = instead(&runs.join("xyz/deeper"));
        assert_eq!(list, format!("; {} holds sft-sst2-02, vaccine-sst2-01", runs.display()));
        assert!(instead(&runs.join("sft-sst2-02/qqq")).ends_with("sft-sst2-02 is empty"));
        assert_eq!(instead(Path::new("/")), "");
    }

    #[test]
    fn long_lists_are_cut() {
        let place = tempfile::tempdir().expect("a temporary directory");
        (0..9).for_each(|n| fs::write(place.path().join(n.to_string()), "").expect("a file"));
        assert!(holds(place.path()).ends_with("holds 0, 1, 2, 3, 4, 5 and 3 more"));
    }
}
