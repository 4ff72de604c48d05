//! Mistakes of newcomers: each is told with what was found, where, and what to type instead.

mod common;

use common::Place;

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
fn a_recipe_names_a_missing_file_and_validate_says_which_judge_is_taken() {
    let place = Place::new();
    place.model("own");
    place.write("r.toml", "[model]\npath = \"own\"\n[data.user]\npath = \"nofile.jsonl\"\n");
    place.vxf(&["validate", "r.toml"]).fails(2, &["r.toml:4", "nofile.jsonl"]);
    assert!(place.vxf(&["validate"]).ok().contains("judges       world"));
    place.vxf(&["run", "--model", "gpt2"]).fails(2, &["gpt2", "owner/name"]);
}
