//! Bad input: each error says what is wrong, where, and what to do; no files are left behind.

mod common;

use common::Place;

#[test]
fn unknown_names_suggest_similar_ones() {
    let place = Place::new();
    place
        .vxf(&["run", "--defense", "vacine"])
        .fails(2, &["--defense", "`vacine`", "vaccine?", "vxf list"]);
    place.vxf(&["run", "--metric", "drif"]).fails(2, &["--metric", "`drif`", "drift?"]);
    place.vxf(&["run", "--perturber", "gausian"]).fails(2, &["--perturber", "gaussian?"]);
    place.vxf(&["run", "--fine-tune-defense", "ewx"]).fails(2, &["--fine-tune-defense", "`ewx`"]);
    place.vxf(&["run", "--defense", "qqq"]).fails(2, &["registered are", "sft"]);
    place.vxf(&["run", "--task", "sst3"]).fails(2, &["--task", "world.task", "sst3"]);
    place.vxf(&["show", "vacine"]).fails(2, &["`vacine`", "did you mean vaccine"]);
    assert!(place.names().is_empty());
}

#[test]
fn methods_in_the_wrong_stage_point_to_the_right_flag() {
    let place = Place::new();
    let wrong = place.vxf(&["run", "--defense", "ewc", "--model", "nowhere"]);
    wrong.fails(2, &["`ewc` belongs to the stage `fine_tuning`", "--fine-tune-defense ewc"]);
    let wrong = place.vxf(&["run", "--fine-tune-defense", "vaccine", "--model", "nowhere"]);
    wrong.fails(2, &["`vaccine` belongs to the stage `alignment`", "--defense vaccine"]);
}

/// A recipe, the line with the error, and parts of the message.
const RECIPES: &[(&str, usize, &[&str])] = &[
    (
        "seeds = [1]\n\n[perturber]\nrho = \"big\"\n",
        4,
        &["`perturber.rho`", "must be a number", "\"big\""],
    ),
    ("[perturber]\nrho = -1.0\n", 2, &["`perturber.rho`", "at least 0", "-1"]),
    ("[perturber]\nrho = nan\n", 2, &["`perturber.rho`", "finite", "nan"]),
    ("[perturber]\nrhoo = 1.0\n", 2, &["`perturber.rhoo`", "did you mean `rho`?"]),
    ("[world]\n\nuser_sample = 3\n", 3, &["`world.user_sample`", "did you mean `user_samples`?"]),
    ("[worl]\ntask = \"sst2\"\n", 1, &["`worl`", "did you mean `world`?"]),
    ("[world]\nuser_samples = 0\n", 2, &["`world.user_samples`", "empty set", "got 0"]),
    ("[world]\nalignment_samples = 0\n", 2, &["`world.alignment_samples`", "at least 1"]),
    ("[world]\nbenign_share = 2\n", 2, &["`world.benign_share`", "between 0 and 1", "2"]),
    (
        "[world]\nprofile = \"fast\"\n",
        2,
        &["`world.profile`", "must be paper or helpful", "\"fast\""],
    ),
    ("harmful_ratios = [\n  0.1,\n  1.5,\n]\n", 3, &["harmful_ratios.1", "between 0 and 1", "1.5"]),
    ("seeds = []\n", 1, &["`seeds`", "at least one"]),
    ("seeds = [1, \"two\"]\n", 1, &["`seeds[1]`", "\"two\""]),
    ("[alignment]\nepochs = -3\n", 2, &["`alignment.epochs`", "-3"]),
    ("[alignment]\nbatch_size = 0\n", 2, &["`alignment.batch_size`", "at least 1"]),
    ("[fine_tuning.trainable]\ntype = \"lora\"\nrnk = 4\n", 3, &["trainable.rnk", "`rank`?"]),
    (
        "[fine_tuning]\ntrainable = { type = \"lora\", rank = 0 }\n",
        2,
        &["trainable.rank", "at least 1"],
    ),
    ("defense = 3\n", 1, &["`defense`", "a name"]),
    ("metrics = [\"drift\", \"drift\"]\n", 1, &["metrics.1", "twice"]),
    ("metrics = [{ name = \"drift\", norm = \"l3\" }]\n", 1, &["metrics.0.norm", "l3"]),
    (
        "[defense]\nname = \"sft\"\n[perturber]\nrho = 1.0\n",
        4,
        &["`perturber.rho`", "it is a setting of `gaussian`"],
    ),
    ("seeds = [1\n[world]\n", 1, &["not TOML"]),
];

#[test]
fn recipes_are_refused_with_file_line_key_and_rule() {
    let place = Place::new();
    for (text, line, parts) in RECIPES {
        place.write("recipe.toml", text);
        for command in ["validate", "run"] {
            let told = place.vxf(&[command, "recipe.toml"]);
            told.fails(2, parts);
            let at = format!("recipe.toml:{line}: ");
            // An unclosed bracket is only noticed where the next table begins.
            assert!(told.stderr.contains(&at) || parts[0] == "not TOML", "{at}{}", told.stderr);
        }
    }
    assert_eq!(place.names(), ["recipe.toml"]);
}

#[test]
fn peft_names_of_adapter_settings_are_accepted() {
    let place = Place::new();
    let adapter = "trainable = { type = \"lora\", r = 3, lora_alpha = 5, lora_dropout = 0.25 }";
    place.write("recipe.toml", &format!("[alignment]\n{adapter}\n"));
    let adapter = |args: &[&str]| {
        let told = place.vxf(&[&["validate", "recipe.toml", "--json"], args].concat()).json();
        told["recipe"]["alignment"]["trainable"].clone()
    };
    let read = adapter(&[]);
    assert_eq!(
        (&read["rank"], &read["alpha"], &read["dropout"]),
        (&3.into(), &5.0.into(), &0.25.into())
    );
    assert_eq!(adapter(&["--set", "alignment.trainable.r=7"])["rank"], 7);
    assert_eq!(adapter(&["--set", "alignment.trainable.rank=7"])["rank"], 7);
    let both = ["--set", "alignment.trainable.r=7", "--set", "alignment.trainable.rank=7"];
    let told = place.vxf(&[&["validate", "recipe.toml"][..], &both].concat());
    told.fails(2, &["--set alignment.trainable.r:", "`alignment.trainable.rank`", "one of them"]);
    let twice = "trainable = { type = \"lora\", rank = 3, r = 3 }";
    place.write("recipe.toml", &format!("[alignment]\n{twice}\n"));
    let told = place.vxf(&["validate", "recipe.toml"]);
    told.fails(2, &["recipe.toml:2:", "`alignment.trainable.r`", "`alignment.trainable.rank`"]);
}

#[test]
fn missing_recipes_and_binary_files() {
    let place = Place::new();
    place.vxf(&["run", "nowhere.toml"]).fails(2, &["nowhere.toml"]);
    std::fs::write(place.path("binary.toml"), [0xff, 0xfe, 0x00]).expect("it can be written");
    place.vxf(&["run", "binary.toml"]).fails(2, &["binary.toml", "UTF-8"]);
}

#[test]
fn flags_out_of_range() {
    let place = Place::new();
    place.vxf(&["run", "--rho", "-1"]).fails(2, &["--rho", "at least 0", "-1"]);
    place.vxf(&["run", "--rho", "nan"]).fails(2, &["--rho", "finite", "NaN"]);
    place.vxf(&["run", "--rho", "inf"]).fails(2, &["--rho", "finite"]);
    place
        .vxf(&["run", "--harmful-ratio", "-0.1"])
        .fails(2, &["--harmful-ratio", "between 0 and 1"]);
    place.vxf(&["run", "--harmful-ratio", "nan"]).fails(2, &["--harmful-ratio", "between 0 and 1"]);
    let told = place.vxf(&["run", "--defense", "sft", "--rho", "1"]);
    told.fails(2, &["`none` has no radius rho", "--perturber", "vaccine"]);
    place.vxf(&["run", "--set", "perturber.rho"]).fails(2, &["KEY=VALUE"]);
    place.vxf(&["run", "--set", "perturber.rh=1"]).fails(2, &["--set perturber.rh", "`rho`?"]);
    place.vxf(&["run", "--set", "perturber.rho=many"]).fails(2, &["--set perturber.rho", "many"]);
    place.vxf(&["run", "--device", "tpu"]).fails(2, &["`tpu`", "cpu, cuda or cuda:N"]);
    place.vxf(&["run", "--stage", "fine_tuning"]).fails(2, &["--stage", "from"]);
    place.vxf(&["run", "--from", "nowhere"]).fails(2, &["nowhere", "aligned/<seed>"]);
    place.vxf(&["run", "--frobnicate"]).fails(2, &["--frobnicate"]);
    let sites = place.vxf(&["run", "--set", "perturber.sites=[\"attention_output.9\"]"]);
    sites.fails(2, &["attention_output.9", "layers 0 to 3"]);
    assert!(place.names().is_empty());
}

#[test]
fn incomplete_model_directories() {
    let place = Place::new();
    let run = || place.tiny(&["--model", "model"]);
    run().fails(2, &["--model", "`model.path`", "model directory that exists", "/model"]);

    let model = place.model("model");
    std::fs::remove_file(model.join("config.json")).expect("it was there");
    run().fails(1, &["config.json"]);
    std::fs::remove_dir_all(&model).expect("it was there");

    place.model("model");
    std::fs::remove_file(model.join("tokenizer.json")).expect("it was there");
    run().fails(1, &["there is no tokenizer.json"]);
    std::fs::remove_dir_all(&model).expect("it was there");

    place.model("model");
    std::fs::remove_file(model.join("model.safetensors")).expect("it was there");
    run().fails(1, &["model.safetensors", "holds no weights"]);
    std::fs::remove_dir_all(&model).expect("it was there");

    place.model("model");
    let weights = model.join("model.safetensors");
    let bytes = std::fs::read(&weights).expect("it is there");
    std::fs::write(&weights, &bytes[..bytes.len() / 2]).expect("it can be written");
    run().fails(1, &["model.safetensors", "not a complete safetensors file"]);
    std::fs::write(&weights, b"{}").expect("it can be written");
    run().fails(1, &["model.safetensors"]);
    std::fs::remove_dir_all(&model).expect("it was there");

    place.model("model");
    place.edit(&model.join("config.json"), |config| config["num_hidden_layers"] = 5.into());
    run().fails(1, &["model.layers.4", "missing"]);
    std::fs::remove_dir_all(&model).expect("it was there");

    place.model("model");
    place.edit(&model.join("config.json"), |config| config["intermediate_size"] = 100.into());
    run().fails(1, &["shape", "100"]);
    std::fs::remove_dir_all(&model).expect("it was there");

    place.model("model");
    place.edit(&model.join("config.json"), |config| config["model_type"] = "parrot".into());
    run().fails(1, &["`parrot`", "llama"]);
    assert_eq!(place.names(), ["model"]);
}

#[test]
fn tokenizers_that_do_not_fit() {
    let place = Place::new();
    let model = place.model("model");
    let tokenizer = model.join("tokenizer.json");
    place.edit(&tokenizer, |value| value["model"]["vocab"]["sorry"] = 408.into());
    let told = place.tiny(&["--model", "model"]);
    told.fails(1, &["token `sorry` with id 408", "408 tokens", "resize_token_embeddings"]);

    std::fs::remove_dir_all(&model).expect("it was there");
    place.model("model");
    place.edit(&tokenizer, |value| {
        let vocab = value["model"]["vocab"].as_object_mut().expect("a word list");
        vocab.remove("sorry");
    });
    place.tiny(&["--model", "model"]).fails(1, &["`sorry`", "tokenizer"]);

    place.write("model/tokenizer.json", "{}");
    place.tiny(&["--model", "model"]).fails(1, &["tokenizer.json"]);
    assert_eq!(place.names(), ["model"]);
}

#[test]
fn output_directories_that_cannot_be_used() {
    let place = Place::new();
    place.write("file", "something");
    let told = place.tiny(&["--output-dir", "file/experiment"]);
    told.fails(1, &["file/experiment", "--output-dir"]);

    std::fs::create_dir(place.path("mine")).expect("a new directory");
    place.write("mine/thesis.tex", "years of work");
    let told = place.tiny(&["--output-dir", "mine"]);
    told.fails(2, &["mine is not empty and is not an experiment", "--output-dir"]);
    assert_eq!(std::fs::read_dir(place.path("mine")).expect("it is there").count(), 1);
}

#[test]
fn samples_that_are_all_prompt_are_counted() {
    let place = Place::new();
    let told = place.tiny(&["--set", "world.max_length=3", "--output-dir", "out"]);
    told.fails(2, &["all 16 samples", "prompt only", "3 tokens", "world.max_length"]);
    assert!(place.names().is_empty());

    let told = place.tiny(&["--set", "world.max_length=14", "--output-dir", "out", "--json"]);
    assert!(told.stderr.contains("dropped because"), "{}", told.stderr);
    let value = told.json();
    let runs = value["runs"].as_array().expect("runs");
    assert!(runs.iter().any(|run| run["dropped"].as_u64() > Some(0)));
    for run in runs {
        for row in run["measurements"].as_array().expect("rows") {
            assert!(row["value"].is_number(), "{row}");
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_names_its_step() {
    let place = Place::new();
    let told = place.tiny(&[
        "--set=alignment.learning_rate=1e38",
        "--set=alignment.warmup_ratio=0",
        "--output-dir=out",
    ]);
    told.fails(1, &["seed 1", "at step"]);
    let left = std::fs::read_dir(place.path("out")).expect("it is there");
    for entry in left {
        let name = entry.expect("it is there").file_name();
        assert!(!name.to_string_lossy().starts_with(".partial"), "{name:?}");
    }
}
