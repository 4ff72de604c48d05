//! Mistakes of newcomers: each is told with what was found, where, and what to type instead.

mod common;

use common::{Place, Told};
use serde_json::Value;

#[test]
fn wrong_types_are_told_in_words() {
    let place = Place::new();
    for (recipe, parts) in [
        (
            "[fine_tuning]\nlearning_rate = \"fast\"",
            &["r.toml:2", "`fine_tuning.learning_rate`", "must be a number", "\"fast\""][..],
        ),
        ("seeds = 1", &["`seeds` must be a list, such as [1]", "got 1"]),
        ("seeds = [1.5]", &["`seeds[0]` must be a whole number", "got 1.5"]),
        ("baseline = \"no\"", &["`baseline` must be true or false"]),
        (
            "[fine_tuning]\nepochs = 0.5",
            &["`fine_tuning.epochs` must be a whole number", "got 0.5"],
        ),
        ("model = \"gpt2\"", &["`model` must be a table: write `model.path = \"gpt2\"`"]),
        ("[model]\npath = 3", &["`model.path` must be a text in quotes", "got 3"]),
        (
            "[alignment]\ntrainable = { type = \"lora\", rank = \"8\" }",
            &["r.toml:2", "`alignment.trainable.rank` must be a whole number", "\"8\""],
        ),
        (
            "[alignment]\ntrainable = { type = \"qlora\", rank = 8 }",
            &["`alignment.trainable.type` must be full or lora", "got qlora"],
        ),
    ] {
        place.write("r.toml", recipe);
        let told = place.vxf(&["validate", "r.toml"]);
        told.fails(2, parts);
        for foreign in ["f64", "u64", "usize", "sequence", "invalid type"] {
            assert!(!told.stderr.contains(foreign), "`{foreign}` in {}", told.stderr);
        }
    }
}

#[test]
fn names_of_other_programs_are_explained_on_the_command_line_too() {
    let place = Place::new();
    let told = place.vxf(&["run", "--set", "fine_tuning.lr=1e-4"]);
    told.fails(2, &["--set fine_tuning.lr", "write `learning_rate`"]);
    place.write("r.toml", "[alignment]\ngradient_accumulation_steps = 4\n");
    place.vxf(&["run", "r.toml"]).fails(2, &["r.toml:2", "write `accumulation`"]);
}

#[test]
fn a_setting_in_the_wrong_section_is_led_to_its_own() {
    let place = Place::new();
    for (recipe, parts) in [
        ("[defense]\nrho = 2.0", &["r.toml:2", "`lat`", "section `[perturber]`"][..]),
        ("[alignment]\nrho = 2.0", &["r.toml:2", "section `[perturber]`"]),
        ("[perturber]\nepochs = 3", &["r.toml:2", "write `epochs` in the section `[fine_tuning]`"]),
        ("[perturber]\nbaseline = false", &["r.toml:2", "write it at the top of the recipe"]),
        ("[alignment]\nquantize = \"nf4\"", &["r.toml:2", "write it in the section `[model]`"]),
        // A misspelling stays one.
        ("[perturber]\nrhoo = 2.0", &["r.toml:2", "did you mean `rho`?"]),
    ] {
        place.write("r.toml", recipe);
        place.vxf(&["validate", "r.toml"]).fails(2, parts);
    }
}

#[test]
fn flags_that_are_meant_otherwise_are_explained() {
    let place = Place::new();
    let told = place.vxf(&["run", "--harmful-ratio", "0.1", "0.2"]);
    told.fails(2, &["recipe 0.2", "`--harmful-ratio 0.1,0.2`"]);
    let told = place.vxf(&["run", "--harmful-ratio", "20"]);
    told.fails(2, &["between 0 and 1", "20 % is written 0.2"]);
    let told = place.vxf(&["run", "--defense", "sft", "--defense", "vaccine"]);
    told.fails(2, &["cannot be used multiple times", "`--defense a,b`"]);
    let told = place.vxf(&["run", "--task", "mmlu"]);
    told.fails(2, &["--task: `world.task` must be one of sst, sst2, agnews", "got \"mmlu\""]);
    place.write("own.toml", "[data]\ntemplate = \"alpaca\"\n");
    let told = place.vxf(&["run", "own.toml", "--task", "agnews"]);
    told.fails(2, &["--task:", "applies only to the embedded world"]);
    let told = place.vxf(&["run", "--metric", "nothing"]);
    told.fails(2, &["registered are", "`vxf list metrics`"]);
    assert_eq!(told.stderr.matches("over-refusal").count(), 1, "each name once: {}", told.stderr);
}

#[test]
fn paths_that_are_no_recipe_and_no_run_are_explained() {
    let place = Place::new();
    place.tiny(&["--output-dir=runs/one"]).ok();
    for args in
        [&["run", "runs/one"][..], &["validate", "runs/one"], &["diff", "runs/one", "runs/one"]]
    {
        place.vxf(args).fails(2, &["runs/one", "`vxf resume runs/one`", "config.resolved.toml"]);
    }
    place.vxf(&["run", "runs"]).fails(2, &["runs is a directory; a recipe is a file"]);
    let told = place.vxf(&["resume", "runs/on"]);
    told.fails(2, &["runs/on: no such directory", "did you mean `runs/one`?", "`vxf runs DIR`"]);
    let told = place.vxf(&["report", "runs"]);
    told.fails(2, &["not a run: it holds the experiment one; name one"]);
    let told = place.vxf(&["run", "vaccine"]);
    told.fails(2, &["vaccine is a method: write `--defense vaccine`"]);
    place.vxf(&["run", "nope.toml"]).fails(2, &["nope.toml", "`vxf init`"]);
}

#[test]
fn a_missing_set_is_told_with_what_to_write() {
    let place = Place::new();
    place.model("own");
    let row = r#"{"prompt": "how ?", "completion": "so ."}"#;
    place.write("rows.jsonl", row);
    let recipe = |top: &str| {
        let set = |name: &str| format!("[data.{name}]\npath = \"rows.jsonl\"\n");
        format!("{top}\n[model]\npath = \"own\"\n{}{}", set("alignment"), set("user"))
    };
    place.write("r.toml", &recipe("judges = [\"refusal\"]"));
    let told = place.vxf(&["validate", "r.toml"]);
    told.fails(2, &["`data.harmful` is not set", "`[data.harmful]`", "harmful_ratios = [0.0]"]);
    place.write("r.toml", &recipe("judges = [\"refusal\"]\nharmful_ratios = [0.0]"));
    let told = place.vxf(&["validate", "r.toml"]);
    told.fails(2, &["`harmful-score`", "`[data.harmful_test]`", "`metrics = [..]`"]);
}

#[test]
fn values_that_cannot_be_are_told_in_words() {
    let place = Place::new();
    let told = place.vxf(&["run", "--set", "world.user_samples=-3"]);
    told.fails(2, &["`world.user_samples` must be a whole number, at least 0, got -3"]);
    let told = place.vxf(&["run", "--harmful-ratio", "0,2"]);
    told.fails(2, &["got 2", "one share is written 0.2"]);
    place.vxf(&["run", "--seed", "one"]).fails(2, &["'one'", "`--seed 1,2,3`"]);
    let told = place.vxf(&["run", "--epochs", "3"]);
    told.fails(2, &["--epochs", "`--set fine_tuning.epochs=VALUE`"]);
    place.vxf(&["generate", "embedded", "--prompt", " "]).fails(2, &["--prompt", "empty"]);
    let nothing = ["generate", "embedded", "--prompt=hi", "--max-new-tokens=0"];
    place.vxf(&nothing).fails(2, &["--max-new-tokens", "at least 1"]);
    let told = place.vxf(&["generate", "embedded", "--prompt", "hi", "--template", "chat"]);
    told.fails(2, &["must be auto or world", "got \"chat\""]);
    place.write("file", "");
    place.tiny(&["--output-dir=file"]).fails(1, &["file", "`--output-dir`", "a file stands"]);
    place.vxf(&["init", "--model", "nowhere"]).fails(2, &["error: --model: `model.path`"]);
    place.tiny(&["--model=file"]).fails(2, &["--model", "/file", "this is a file"]);
    std::fs::write(place.path("binary.toml"), [0xff, 0xfe]).expect("it can be written");
    place.vxf(&["run", "binary.toml"]).fails(2, &["binary.toml", "UTF-8", "`vxf init FILE`"]);
}

#[test]
fn hints_about_runs_fit_the_problem() {
    let place = Place::new();
    place.tiny(&["--output-dir=one"]).ok();
    let told = place.vxf(&["eval", "one", "--metric", "nothing"]);
    told.fails(2, &["error: --metric: no metric is called `nothing`", "`vxf list metrics`"]);
    let run = "one/vaccine/0.5/1";
    let told = place.vxf(&["export", run, "--adapter", "--output-dir=two"]);
    told.fails(2, &["no adapter", "--merged --output-dir DIR`"]);
    assert!(!told.stderr.contains("aligned/<seed>"), "{}", told.stderr);
    place.edit(&place.path("one/manifest.json"), |value| value["finished"] = Value::Null);
    let told = place.vxf(&["prune", "one", "--keep", "none"]);
    told.fails(2, &["not finished", "`vxf resume", "one` finishes it"]);
    std::fs::remove_dir_all(place.path("one/vaccine/0.5")).expect("it is there");
    let told = place.vxf(&["report", "one"]);
    assert!(told.ok().starts_with("Not finished: "), "{}", told.stdout);
    assert!(told.stderr.contains("`vxf resume one` continues it"), "{}", told.stderr);
    let told = place.vxf(&["report", "one", "--output", "no/page.html"]);
    told.fails(1, &["no/page.html", "directory of the file must exist"]);
}

#[test]
fn a_setting_of_a_source_that_is_not_named_is_led_to_it() {
    let place = Place::new();
    place.model("own");
    let own = ["validate", "--model", "own"];
    let set = |setting| place.vxf(&[&own[..], &["--set", setting]].concat());
    set("data.benign_share=0.5").fails(2, &["source of data `proxy`", "`data.source = \"proxy\"`"]);
    set("proxy.user_samples=20").fails(2, &["`[data]`", "`source = \"proxy\"`", "vxf show proxy"]);
    let told = set("data.user_samples=20");
    told.fails(2, &["`data.user` is not set", "`data.source = \"proxy\"`"]);
    let told = place.vxf(&["validate", "--set", "world.usersamples=20"]);
    told.fails(2, &["did you mean `user_samples`?"]);
    assert!(!told.stderr.contains("source"), "the world has its own section: {}", told.stderr);
}

#[test]
fn settings_that_are_typed_as_flags_and_paths_are_led_to_set() {
    let place = Place::new();
    for args in [&["--learning-rate", "1e-3"][..], &["--defense", "sft", "--lr=1e-3"]] {
        let told = place.vxf(&[&["run"], args].concat());
        told.fails(2, &["unexpected argument", "`--set fine_tuning.learning_rate=VALUE`"]);
        assert!(!told.stderr.contains("tip:"), "one hint is enough: {}", told.stderr);
    }
    let told = place.vxf(&["run", "--fine-tuning.epochs=3"]);
    told.fails(2, &["given so: `--set fine_tuning.epochs=VALUE`"]);
    let told = place.vxf(&["run", "learning_rate=1e-3"]);
    told.fails(2, &["`--set fine_tuning.learning_rate=1e-3`"]);
    let told = place.vxf(&["run", "alignment.epochs=3"]);
    told.fails(2, &["`--set alignment.epochs=3`"]);
    // No such key: the one with this last word is told.
    let told = place.vxf(&["run", "foo.epochs=3"]);
    told.fails(2, &["`--set fine_tuning.epochs=3`"]);
    let told = place.vxf(&["run", "--foo.epochs=3"]);
    told.fails(2, &["`--set fine_tuning.epochs=VALUE` or `--set alignment.epochs=VALUE`"]);
    place.vxf(&["resume", "one", "--epochs", "3"]).fails(2, &["keeps its settings"]);
    place.vxf(&["--offline", "run"]).fails(2, &["`vxf run --offline`"]);
}

#[test]
fn a_run_that_is_not_begun_is_told_from_one_that_is_not_there() {
    let place = Place::new();
    place.tiny(&["--prepare", "--output-dir=one"]).ok();
    let export = |run| place.vxf(&["export", run, "--merged", "--output-dir=two"]);
    let resume = "`vxf resume one` does what is missing";
    export("one").fails(2, &["not done", "`vxf runs one`", resume]);
    export("one/vaccine/0.5/1").fails(2, &["one/vaccine/0.5/1", "has not begun", resume]);
    let told = export("one/vaccine/0.5/9");
    told.fails(2, &["one/vaccine/0.5/9", "`vxf runs DIR`"]);
    assert!(!told.stderr.contains("has not begun"), "{}", told.stderr);
    assert_eq!(place.names(), ["one"]);
}

#[test]
fn a_run_and_a_recipe_are_compared_in_either_order() {
    let place = Place::new();
    place.tiny(&["--prepare", "--output-dir=one"]).ok();
    place.write("r.toml", "seeds = [1, 2]\n");
    let usual = place.vxf(&["diff", "r.toml", "one"]);
    assert!(usual.ok().contains("one differs from r.toml"), "{}", usual.stdout);
    assert!(usual.stdout.contains("seeds = [1] ([1,2])"), "{}", usual.stdout);
    assert_eq!(place.vxf(&["diff", "one", "r.toml"]).ok(), usual.stdout);
    // A long value does not fill the screen.
    let axes: Vec<_> = (1..200).map(|each| format!("{each}.5")).collect();
    place.write("long.toml", &format!("[axes]\n\"perturber.rho\" = [{}]\n", axes.join(", ")));
    let told = place.vxf(&["diff", "long.toml", "one"]);
    let longest = told.ok().lines().map(|line| line.chars().count()).max();
    assert!(longest < Some(300), "{}", told.stdout);
    assert!(told.stdout.contains("5.5,6.5") && told.stdout.contains("`--json` has all"));
    assert!(place.vxf(&["diff", "long.toml", "one", "--json"]).ok().contains("199.5"));
    let told = place.vxf(&["diff", "r.toml", "r.toml"]);
    told.fails(2, &["both files", "`vxf run RECIPE --prepare`"]);
}

/// A limit on the size of files stands for a full disk: writing fails in the same place.
#[cfg(unix)]
#[test]
fn weights_that_cannot_be_written_are_told_with_their_file() {
    let place = Place::new();
    let alone = ["--no-baseline", "--no-undefended", "--post-tune-defense=wise-ft"];
    place.tiny(&[&alone[..], &["--output-dir=one"]].concat()).ok();
    // The model has a megabyte of weights, all other files are far smaller. Stages that train write checkpoints first,
    // by other means; this one does not train.
    let limited = "trap '' XFSZ; ulimit -f 600; exec \"$0\" \"$@\"";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", limited, env!("CARGO_BIN_EXE_vxf"), "run"]).args(common::TINY).args(alone);
    command.args(["--stage=post-tuning", "--from=one/vaccine/0.5/1", "--output-dir=two"]);
    let told = Told::from(command.current_dir(place.path("")).output().expect("it starts"));
    told.fails(1, &["two/", "/model.safetensors: File too large"]);
}

#[test]
fn a_recipe_names_a_missing_file_and_validate_says_which_judge_is_taken() {
    let place = Place::new();
    place.model("own");
    place.write("r.toml", "[model]\npath = \"own\"\n[data.user]\npath = \"nofile.jsonl\"\n");
    place.vxf(&["validate", "r.toml"]).fails(2, &["r.toml:4", "nofile.jsonl"]);
    assert!(place.vxf(&["validate"]).ok().contains("judges       world"));
    place.vxf(&["run", "--model", "gpt2"]).fails(2, &["gpt2", "owner/name"]);
    let told = place.vxf(&["validate", "--model", "owner/of-no-model"]);
    told.fails(
        1,
        &["not available", "`vxf validate` downloads nothing", "`vxf generate owner/of-no-model"],
    );
}
