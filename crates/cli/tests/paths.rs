//! The directories to which paths are relative; an experiment is identified by content, not by paths.

mod common;

use std::path::Path;

use common::{Place, RECIPE, Told};

/// A model and data in `files`, and `files/recipes/recipe.toml`, which extends the recipe of the
/// protocol.
fn place() -> Place {
    let place = Place::new();
    std::fs::create_dir_all(place.path("files/recipes")).expect("a new directory");
    place.llama("model", u64::MAX);
    place.protocol();
    for name in ["model", "beavertails", "sst2", "recipe.toml"] {
        let to = place.path("files").join(name);
        std::fs::rename(place.path(name), to).expect("a new place");
    }
    let child = "extends = \"../recipe.toml\"\n[data]\nuser = { path = \"../sst2\" }\n";
    place.write("files/recipes/recipe.toml", child);
    place
}

fn from(place: &Place, directory: &str, args: &[&str]) -> Told {
    let mut command = place.command(args);
    command.current_dir(place.path(directory));
    command.output().expect("it starts").into()
}

#[test]
fn a_recipe_is_the_same_from_every_directory() {
    let place = place();
    std::fs::create_dir(place.path("elsewhere")).expect("a new directory");
    let first = from(&place, "", &["run", "files/recipes/recipe.toml", "--json"]).json();
    let experiment = first["experiment"].as_str().expect("a path").to_owned();
    assert!(experiment.starts_with("runs/vaccine-sst2-"), "{experiment}");

    // The same experiment by name and content, from another directory.
    let output = place.path(&experiment).display().to_string();
    let recipe = "../files/recipes/recipe.toml";
    let again = from(&place, "elsewhere", &["run", recipe, "--output-dir", &output]);
    again.ok();
    assert!(again.stderr.contains("is finished"), "{}", again.stderr);
    // With all of its files moved, and one of them renamed.
    std::fs::rename(place.path("files"), place.path("moved")).expect("a new place");
    std::fs::rename(place.path("moved/sst2"), place.path("moved/reviews")).expect("a name");
    for recipe in ["moved/recipe.toml", "moved/recipes/recipe.toml"] {
        let text = std::fs::read_to_string(place.path(recipe)).expect("a recipe");
        place.write(
            recipe,
            &text.replace("\"sst2\", split", "\"reviews\", split").replace("../sst2", "../reviews"),
        );
    }
    let again = from(&place, "", &["run", "moved/recipes/recipe.toml", "--json"]);
    assert_eq!(again.json()["experiment"], experiment.as_str());
    assert!(again.stderr.contains("is finished"), "{}", again.stderr);
    // The record leads to the current files, from anywhere.
    let resumed = from(&place, "elsewhere", &["resume", &output]);
    assert!(resumed.ok().contains("HS %"), "{}", resumed.stdout);
    from(&place, "elsewhere", &["eval", &output]).ok();

    // Other content under the same name is another experiment.
    let train = place.path("moved/reviews/train.jsonl");
    let rows = std::fs::read_to_string(&train).expect("rows");
    std::fs::write(&train, rows.replace("sentence 1", "sentence one")).expect("rows");
    let other = from(&place, "", &["run", "moved/recipes/recipe.toml", "--output-dir", &output]);
    other.fails(2, &["holds another experiment", "the data has changed"]);
    let other = from(&place, "", &["run", "moved/recipes/recipe.toml", "--json"]).json();
    assert_ne!(other["experiment"], experiment.as_str());
}

#[test]
fn paths_in_flags_are_relative_to_the_working_directory() {
    let place = place();
    // The recipe has `../model` next to it; the flag means the one in the working directory.
    place.llama("mine", u64::MAX);
    let args = ["validate", "files/recipes/recipe.toml", "--json", "--model", "mine"];
    let value = place.vxf(&args).json();
    let model = value["recipe"]["model"]["path"].as_str().expect("a path").to_owned();
    assert!(Path::new(&model).is_absolute() && model.ends_with("/mine"), "{model}");
    let set = ["validate", "files/recipes/recipe.toml", "--json", "--set=model.path=mine"];
    assert_eq!(place.vxf(&set).json()["recipe"]["model"]["path"], model.as_str());
}

#[test]
fn an_ambiguous_path_is_refused_with_both_files() {
    let place = place();
    std::fs::create_dir(place.path("sst2")).expect("a new directory");
    for command in ["validate", "run"] {
        let told = place.vxf(&[command, "files/recipe.toml"]);
        told.fails(2, &["files/recipe.toml:", "`data.user.path`", "working directory"]);
        for path in ["files/sst2", "sst2"] {
            let path = place.path(path).canonicalize().expect("a path").display().to_string();
            assert!(told.stderr.contains(&path), "no {path} in {}", told.stderr);
        }
    }
    // The same file by two paths is one file.
    from(&place, "files", &["validate", "recipe.toml"]).ok();
}

#[test]
fn a_missing_local_file_is_reported_before_anything_else() {
    let place = place();
    let before = place.names();
    let told = |text: &str| {
        place.write("files/recipe.toml", text);
        ["validate", "run"].map(|command| place.vxf(&[command, "files/recipe.toml"]))
    };
    for (from, to, parts) in [
        (
            "path = \"model\"",
            "path = \"./models\"",
            ["`model.path`", "files/models", "model directory"],
        ),
        (
            "path = \"sst2\", split = \"train\"",
            "path = \"sst3.jsonl\"",
            ["`data.user.path`", "files/sst3.jsonl", "a file or a directory"],
        ),
        (
            "guide = { path = \"beavertails\"",
            "guide = { path = \"guides.csv\"",
            ["`data.guide.path`", "files/guides.csv", "owner/name"],
        ),
    ] {
        for told in told(&RECIPE.replacen(from, to, 1)) {
            told.fails(2, &parts);
            told.fails(2, &["files/recipe.toml:", "relative to the recipe's directory"]);
        }
    }
    place.write("files/recipe.toml", RECIPE);
    let flag = ["validate", "files/recipe.toml", "--model", "./nowhere"];
    place.vxf(&flag).fails(2, &["--model", "`model.path`", "nowhere", "working directory"]);
    // A path written relative to the working directory.
    place.write("rows.jsonl", "");
    for told in told(&RECIPE.replacen("\"sst2\", split = \"train\"", "\"rows.jsonl\"", 1)) {
        let here = place.path("rows.jsonl").canonicalize().expect("a path");
        told.fails(
            2,
            &["`data.user.path`", &format!("the working directory has {}", here.display())],
        );
    }
    std::fs::remove_file(place.path("rows.jsonl")).expect("it was there");
    assert_eq!(place.names(), before, "nothing is written");

    // Hub models and data can be fetched later.
    place.write(
        "files/recipe.toml",
        &RECIPE.replacen("path = \"sst2\"", "path = \"owner/sst2\"", 1),
    );
    let mut command = place.command(&["validate", "files/recipe.toml"]);
    command.env("HF_HOME", place.path("home")).env_remove("HF_HUB_CACHE");
    let told = Told::from(command.output().expect("it starts"));
    assert!(told.ok().contains("owner/sst2 is on the hub"), "{}", told.stdout);
}
