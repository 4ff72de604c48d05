//! Crates depend on each other as `docs/architecture.md` draws it, and on nothing of ours beside.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The arrows of the drawing.
fn drawn() -> Graph {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the document");
    let drawing = text.split("```mermaid").nth(1).and_then(|rest| rest.split("```").next());
    let mut graph = Graph::new();
    for line in drawing.expect("a drawing").lines() {
        if let Some((from, to)) = line.split_once("-->") {
            graph.entry(from.trim().to_owned()).or_default().insert(to.trim().to_owned());
        }
    }
    graph
}

/// Everything that can be reached along the arrows.
fn reached(graph: &Graph, from: &str) -> BTreeSet<String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(at) = open.pop() {
        for next in graph.get(&at).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

/// The directory and the manifest of every crate.
fn crates() -> Vec<(PathBuf, toml::Table)> {
    let mut crates = Vec::new();
    for folder in ["crates", "plugins"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("a folder") {
            let place = entry.expect("an entry").path();
            let Ok(text) = std::fs::read_to_string(place.join("Cargo.toml")) else { continue };
            crates.push((place, text.parse().expect("a manifest")));
        }
    }
    crates
}

/// Our own dependencies of each crate, without those of its tests; plugins under one name.
fn written() -> Graph {
    let mut names = BTreeMap::new();
    let mut manifests = Vec::new();
    for (place, manifest) in crates() {
        let package = manifest["package"]["name"].as_str().expect("a name").to_owned();
        let own = place.file_name().expect("a name").to_string_lossy().into_owned();
        let name =
            if place.starts_with(root().join("plugins")) { "plugins".to_owned() } else { own };
        names.insert(package, name.clone());
        manifests.push((name, manifest));
    }
    let mut graph = Graph::new();
    for (name, manifest) in manifests {
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        let ours = dependencies.into_iter().flat_map(|table| table.keys());
        let ours = ours.filter_map(|package| names.get(package).cloned());
        graph.entry(name).or_default().extend(ours);
    }
    graph
}

#[test]
fn every_dependency_is_drawn_and_every_arrow_is_there() {
    let (drawn, written) = (drawn(), written());
    for (name, dependencies) in &written {
        let allowed = reached(&drawn, name);
        for dependency in dependencies {
            assert!(
                allowed.contains(dependency),
                "{name} depends on {dependency}: no arrow leads there in docs/architecture.md"
            );
        }
    }
    for (name, arrows) in &drawn {
        for arrow in arrows {
            let there = written.get(name).is_some_and(|all| all.contains(arrow));
            assert!(there, "docs/architecture.md draws {name} --> {arrow}; no Cargo.toml has it");
        }
    }
}

#[test]
fn arrows_never_lead_back() {
    let drawn = drawn();
    for name in drawn.keys() {
        assert!(!reached(&drawn, name).contains(name), "{name} reaches itself");
    }
}

/// The text of all Rust files below `place`.
fn sources(place: &Path) -> String {
    let mut text = String::new();
    for entry in std::fs::read_dir(place).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            text += &std::fs::read_to_string(&path).expect("a source file");
        }
    }
    text
}

/// Whether the documentation in `text` has code that `cargo test` compiles.
fn has_examples(text: &str) -> bool {
    let lines = text.lines().map(str::trim_start);
    let documentation =
        lines.filter_map(|line| line.strip_prefix("///").or(line.strip_prefix("//!")));
    let fences = documentation.filter_map(|line| line.trim_start().strip_prefix("```"));
    // Every second fence ends a block.
    let mut languages = fences.step_by(2);
    languages.any(|language| ["", "rust", "no_run"].contains(&language))
}

/// A library without tests of its own says so, which saves a link; one that has some must not.
#[test]
fn no_test_is_switched_off() {
    for (place, manifest) in crates() {
        let off = |key: &str| {
            let value = manifest.get("lib").and_then(|lib| lib.get(key));
            value.and_then(toml::Value::as_bool) == Some(false)
        };
        let text = sources(&place.join("src"));
        let (tests, examples) = (text.contains("#[cfg(test)]"), has_examples(&text));
        let place = place.display();
        assert_eq!(
            off("test"),
            !tests,
            "{place}: `test = false` in `[lib]` if it has no unit tests"
        );
        assert_eq!(off("doctest"), !examples, "{place}: `doctest = false` if it has no examples");
    }
}

/// The source files of these crates, without their tests.
fn code(names: &[&str]) -> Vec<(PathBuf, String)> {
    let source = |name: &&str| root().join("crates").join(name).join("src");
    let mut open: Vec<PathBuf> = names.iter().map(source).collect();
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if !path.ends_with("tests.rs") && !path.ends_with("testing.rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let code = text.split("#[cfg(test)]").next().unwrap_or_default();
                found.push((path, code.to_owned()));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// The lines of code that hold `text`.
fn lines_with<'a>(code: &'a str, text: &str) -> Vec<&'a str> {
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.filter(|line| line.contains(text)).collect()
}

/// What a kind of stage means is said in few places: a new kind is added there.
#[test]
fn at_most_six_files_name_a_stage() {
    let kinds = ["Alignment", "FineTuning", "PostTuning"].map(|kind| format!("Stage::{kind}"));
    let names = ["alignment", "fine_tuning", "post_tuning"].map(|name| format!("\"{name}\""));
    let mut found = code(&["access", "run", "sweep", "recipe", "report", "cli"]);
    found.retain(|(_, code)| kinds.iter().chain(&names).any(|it| !lines_with(code, it).is_empty()));
    let found: Vec<_> = found.into_iter().map(|(path, _)| path).collect();
    assert!(!found.is_empty() && found.len() <= 6, "{found:?}");
}

/// Plugins are alike to what runs them: only the defaults of a command without arguments are named, the figures
/// that a durability card is about, and the attacks that a durability profile is made of.
#[test]
fn no_plugin_is_named_but_the_defaults() {
    let defaults = [
        "vaccine",
        "sft",
        "none",
        "world",
        "files",
        "harmful-score",
        "accuracy",
        "helpfulness",
        "over-refusal",
        "alignment-loss",
        "drift",
    ];
    let mut names = BTreeSet::new();
    for (place, _) in crates() {
        for line in sources(&place.join("src")).lines().map(str::trim_start) {
            let kinds = ["defense \"", "perturber \"", "metric \"", "judge \"", "backbone \""];
            let named = kinds.iter().filter_map(|kind| line.strip_prefix(kind));
            names.extend(named.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    assert!(names.len() > 40, "{names:?}");
    let mut named = Vec::new();
    for (path, code) in code(&["access", "run", "sweep", "recipe", "report"]) {
        let attacks: &[&str] = match path.ends_with("sweep/src/durability/attacks.rs") {
            true => &["abliterate", "prune"],
            false => &[],
        };
        let allowed = |name: &str| defaults.contains(&name) || attacks.contains(&name);
        for name in names.iter().filter(|name| !allowed(name)) {
            let found = lines_with(&code, &format!("\"{name}\""));
            named.extend(found.iter().map(|line| format!("{}: {line}", path.display())));
        }
    }
    assert!(named.is_empty(), "{named:#?}");
}
