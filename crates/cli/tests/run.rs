//! `vxf run` from end to end, at the smallest size.

mod common;

use common::{Place, Told};
use serde_json::{Value, json};

/// What must be equal in two executions of one run.
fn figures(told: &Told) -> Vec<Value> {
    let value = told.json();
    let runs = value["runs"].as_array().expect("runs").clone();
    let kept = runs.into_iter().map(|mut run| {
        run["seconds"] = Value::Null;
        // The digest depends on the model's files, which a copy may write differently.
        run["digest"] = Value::Null;
        run
    });
    kept.collect()
}

#[test]
fn the_comparison_is_printed_and_kept() {
    let place = Place::new();
    let told = place.tiny(&["--defense", "vaccine", "--metric", "drift", "--output-dir", "out"]);
    let text = told.ok();
    for part in [
        "Aligned, before",
        "p = 0.5",
        "HS %",
        "other %",
        "helpful %",
        "FA %",
        "rel. drift",
        "n per run",
        "none",
        "vaccine - sft",
        "drift by part",
        "perturber.rho = 5 (2)",
        "does not beat EWC",
        "before",
        "after",
    ] {
        assert!(text.contains(part), "no `{part}` in:\n{text}");
    }
    for file in ["config.resolved.toml", "manifest.json"] {
        assert!(place.path("out").join(file).is_file(), "{file}");
    }
    for run in ["none/aligned/1", "sft/aligned/1", "vaccine/aligned/1", "vaccine/0.5/1"] {
        for file in ["metrics.jsonl", "result.json", "generations.jsonl"] {
            assert!(place.path("out").join(run).join(file).is_file(), "{run}/{file}");
        }
    }
    // Whoever may read the record may read the weights.
    let mode = |file: &str| {
        let place = place.path("out/vaccine/aligned/1").join(file);
        std::fs::metadata(place).expect("a file").permissions()
    };
    assert_eq!(mode("model.safetensors"), mode("result.json"));

    // The same command prints the record; a different one is refused.
    let again = place.tiny(&["--defense", "vaccine", "--metric", "drift", "--output-dir", "out"]);
    assert_eq!(again.ok(), text);
    assert!(again.stderr.contains("is finished"), "{}", again.stderr);
    let other = place.tiny(&["--defense", "vaccine", "--rho", "1", "--output-dir", "out"]);
    other.fails(2, &["holds another experiment", "perturber.rho is 5.0 there, 1.0 here"]);
    // The resolved recipe is enough to repeat the experiment.
    let recipe = place.path("out/config.resolved.toml").display().to_string();
    assert_eq!(place.vxf(&["run", &recipe, "--output-dir", "out"]).ok(), text);
}

#[test]
fn figures_do_not_depend_on_threads() {
    let place = Place::new();
    let more = &["--seed=2", "--json"];
    let one = place.tiny(&[&["--threads=1", "--output-dir=one"], &more[..]].concat());
    let two = place.tiny(&[&["--threads=2", "--output-dir=two"], &more[..]].concat());
    assert_eq!(figures(&one), figures(&two));
    let weights =
        |root: &str| std::fs::read(place.path(root).join("vaccine/0.5/2/model.safetensors"));
    assert_eq!(weights("one").expect("it is there"), weights("two").expect("it is there"));
}

#[test]
fn an_interrupted_experiment_continues() {
    let place = Place::new();
    let whole = place.tiny(&["--json", "--output-dir=whole"]);

    // Killed as soon as its first run exists.
    let args = [&["run"], common::TINY, &["--output-dir=cut", "--threads=1"]].concat();
    let mut child =
        place.command(&args).stderr(std::process::Stdio::null()).spawn().expect("it starts");
    while !place.path("cut/vaccine/aligned/1").exists() {
        assert!(child.try_wait().expect("a child").is_none(), "it ended too early");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");

    let rest = place.tiny(&["--json", "--output-dir=cut"]);
    assert_eq!(figures(&whole), figures(&rest));
    // One run lost and made again, from the aligned model on disk.
    std::fs::remove_dir_all(place.path("cut/vaccine/0.5/1")).expect("it was there");
    assert_eq!(figures(&whole), figures(&place.tiny(&["--json", "--output-dir=cut"])));
}

/// A sibling that trains a new adapter does not change what one that trains the alignment's further starts from.
#[test]
fn an_adapter_is_trained_further_beside_a_new_one() {
    let place = Place::new();
    let adapters = [
        "--set=alignment.trainable={ type = 'lora', rank = 2 }",
        "--set=fine_tuning.trainable={ type = 'lora', rank = 3 }",
        "--set=alignment.learning_rate=1e-2",
        "--set=fine_tuning.learning_rate=1e-2",
        "--no-undefended",
        "--json",
    ];
    let run = |values: &str, output: &str| {
        let axis = format!("--set=fine_tuning.continue_adapter={values}");
        place.tiny(&[&adapters[..], &[&axis, output]].concat()).json()
    };
    let figures = |told: &Value, label: &str, axis: Option<&str>| -> Value {
        let runs = told["runs"].as_array().expect("runs");
        let of = |run: &&Value| {
            run["label"] == label
                && run["ratio"] == 0.5
                && axis.is_none_or(|it| run["axes"][0][1] == it)
        };
        let run = runs.iter().find(of).unwrap_or_else(|| panic!("no {label} {axis:?}"));
        json!([run["digest"], run["measurements"], run["continues"], run["trainable"]["rank"]])
    };
    let alone = ["true", "false"].map(|value| run(value, &format!("--output-dir={value}")));
    for (values, output) in [("true,false", "a"), ("false,true", "b")] {
        let both = run(values, &format!("--output-dir={output}"));
        for (value, alone) in ["true", "false"].into_iter().zip(&alone) {
            for label in ["sft", "vaccine"] {
                let own = figures(alone, label, None);
                assert_eq!(figures(&both, label, Some(value)), own, "{values}: {label} {value}");
                assert_eq!(own[3], if value == "true" { 2 } else { 3 }, "{own}");
            }
            let path = format!("vaccine/0.5/1/fine_tuning.continue_adapter={value}");
            let told = place.vxf(&["verify", &format!("{output}/{path}")]);
            assert!(told.ok().contains("measured again"), "{}", told.ok());
        }
    }
    // A model that was never aligned has no adapter, and trains a new one.
    place
        .tiny(&[
            "--set=alignment.trainable={ type = 'lora', rank = 2 }",
            "--set=fine_tuning.continue_adapter=true",
        ])
        .ok();
    let full = ["--no-undefended", "--set=fine_tuning.continue_adapter=true"];
    let refused = place.tiny(&full);
    refused.fails(2, &["fine_tuning.continue_adapter", "no adapter to train further"]);
}

#[test]
fn runs_of_another_experiment_serve_where_they_are_the_same() {
    let place = Place::new();
    place.tiny(&["--no-undefended", "--output-dir=runs/first"]).ok();
    // A further axis gives the same runs of Vaccine another name, and plain training the same one.
    let axis = ["--json", "--no-undefended", "--set=perturber.rho=1,5"];
    let fresh = place.tiny(&[&axis[..], &["--output-dir=fresh"]].concat());
    let reused = place.tiny(&[&axis[..], &["--output-dir=reused", "--reuse=runs"]].concat());
    assert!(reused.stderr.contains("4 of 6 runs are taken"), "{}", reused.stderr);
    let taken = |run: &str| {
        let text = std::fs::read_to_string(place.path("reused").join(run).join("training.json"));
        let record: Value = serde_json::from_str(&text.expect("a record")).expect("JSON");
        (record["taken_from"].clone(), record["parent"].clone())
    };
    let (from, parent) = taken("vaccine/0.5/1/perturber.rho=5");
    assert!(from.as_str().is_some_and(|from| from.ends_with("first/vaccine/0.5/1")), "{from}");
    assert_eq!(parent, "vaccine/aligned/1/perturber.rho=5");
    assert!(taken("vaccine/0.5/1/perturber.rho=1").0.is_null());
    let without_source = |told: &Told| {
        let mut runs = figures(told);
        runs.iter_mut()
            .for_each(|run| drop(run.as_object_mut().map(|run| run.remove("taken_from"))));
        runs
    };
    assert_eq!(without_source(&fresh), without_source(&reused));

    // Another metric is measured on the copied weights; a removed weight serves nobody.
    let more = ["--no-undefended", "--metric=drift", "--metric=perplexity", "--output-dir=more"];
    let more = place.tiny(&[&more[..], &["--reuse=runs/first"]].concat());
    assert!(more.ok().contains("perplexity") && more.stderr.contains("4 of 4 runs are taken"));
    std::fs::remove_file(place.path("runs/first/sft/aligned/1/model.safetensors")).expect("a file");
    let less = place.tiny(&["--no-undefended", "--output-dir=less", "--reuse=runs"]);
    assert!(less.stderr.contains("3 of 4 runs are taken"), "{}", less.stderr);
    place.tiny(&["--reuse=nowhere"]).fails(2, &["nowhere", "no such directory"]);
}

#[test]
fn damaged_runs_serve_nobody_and_curves_stay_where_they_belong() {
    let place = Place::new();
    let run = |output: &str, more: &[&str]| {
        let output = format!("--output-dir={output}");
        place.tiny(&[&["--no-undefended", &output], more].concat())
    };
    run("runs/a", &["--eval-every=1"]).ok();
    let expected = run("b", &[]).ok().replace("are in b\n", "are in c\n");
    // The same files, and no curve that nobody asked for.
    let told = run("c", &["--reuse=runs"]);
    assert_eq!(told.ok(), expected);
    assert!(told.stderr.contains("4 of 4 runs are taken"), "{}", told.stderr);
    for file in ["metrics.jsonl", "generations.jsonl", "model.safetensors"] {
        let of = |root: &str| std::fs::read(place.path(root).join("vaccine/0.5/1").join(file));
        assert_eq!(of("b").expect(file), of("c").expect(file), "{file}");
    }

    // Cut weights are passed over, and another copy serves; so are cut records and answers.
    let cut = |file: &str| {
        let path = place.path(file);
        let bytes = std::fs::read(&path).expect("it is there");
        std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writable");
    };
    cut("runs/a/vaccine/aligned/1/model.safetensors");
    let told = run("d", &["--reuse=runs", "--reuse=b"]);
    assert_eq!(told.ok().replace("are in d\n", "are in c\n"), expected);
    assert!(told.stderr.contains("4 of 4 runs are taken"), "{}", told.stderr);
    cut("runs/a/sft/aligned/1/result.json");
    cut("runs/a/sft/0.5/1/generations.jsonl");
    cut("runs/a/vaccine/0.5/1/metrics.jsonl");
    let told = run("e", &["--reuse=runs"]);
    assert_eq!(told.ok().replace("are in e\n", "are in c\n"), expected);
    assert!(told.stderr.contains("1 of 4 runs are taken"), "{}", told.stderr);
    for part in ["passed over", "sft/aligned/1/result.json", "model.safetensors", "metrics.jsonl"] {
        assert!(told.stderr.contains(part), "{part}: {}", told.stderr);
    }
    // A check of the damaged one does not hold.
    let found = place.vxf(&["verify", "runs/a/vaccine/aligned/1"]);
    assert!(found.code == 1 && found.stdout.contains("its weights cannot be read"), "{found:?}");
}

#[test]
fn json_has_every_run() {
    let place = Place::new();
    let value = place.tiny(&["--json", "--harmful-ratio=0", "--no-undefended"]).json();
    assert_eq!(value["schema_version"], 2);
    let runs = value["runs"].as_array().expect("runs");
    // Two alignment methods, each fine-tuned at two ratios.
    assert_eq!(runs.len(), 2 + 4);
    let fine_tuned = |run: &&Value| run["ratio"] == 0.5 && run["label"] == "vaccine";
    let run = runs.iter().find(fine_tuned).expect("the fine-tuned defence");
    let names: Vec<_> =
        run["measurements"].as_array().expect("rows").iter().map(|row| &row["name"]).collect();
    for name in
        ["harmful_score", "refusal_margin", "accuracy", "alignment_loss", "drift", "relative_drift"]
    {
        assert!(names.iter().any(|known| *known == name), "{name}");
    }
    let experiment = value["experiment"].as_str().expect("a path");
    assert!(experiment.starts_with("runs/vaccine-sst2-"), "{experiment}");
    assert!(place.path(experiment).join("manifest.json").is_file());
}

#[test]
fn rho_zero_is_plain_fine_tuning() {
    let place = Place::new();
    let value = place.tiny(&["--json", "--rho=0", "--no-undefended"]).json();
    let runs = value["runs"].as_array().expect("runs");
    let of = |label: &str| {
        let rows = runs.iter().filter(|run| run["label"] == label);
        rows.map(|run| run["measurements"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("vaccine"), of("sft"));
}

#[test]
fn stages_can_run_separately() {
    let place = Place::new();
    let whole = place.tiny(&["--json", "--output-dir=whole", "--no-undefended"]);
    place.tiny(&["--stage=alignment", "--output-dir=first"]).ok();
    assert!(!place.path("first/vaccine/0.5").exists());
    let run = ["run", "--stage=fine_tuning", "--from=first/vaccine/aligned/1", "--json"];
    let second = place.vxf(&run);
    let pick = |told: &Told| {
        let fine_tuned = |run: &Value| run["label"] == "vaccine" && run["ratio"] == 0.5;
        let mut run = figures(told).into_iter().find(fine_tuned).expect("the fine-tuned defence");
        // Only the path of the aligned model may differ.
        assert!(run["parent"].as_str().is_some_and(|run| run.ends_with("vaccine/aligned/1")));
        run["parent"] = Value::Null;
        run
    };
    assert_eq!(pick(&whole), pick(&second));
    place
        .vxf(&["run", "--from=whole/vaccine/0.5/1"])
        .fails(2, &["`stages`", "none for post-tuning"]);
}

#[test]
fn adapters_user_defences_and_curves() {
    let place = Place::new();
    let value = place.tiny(&[
        "--fine-tune-defense=ewc",
        "--set=alignment.trainable=lora",
        "--set=fine_tuning.trainable={type=\"lora\", rank=4, alpha=1}",
        "--eval-every=1",
        "--no-undefended",
        "--output-dir=out",
        "--json",
    ]);
    let labels: Vec<String> = figures(&value)
        .iter()
        .map(|run| run["label"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(labels.iter().any(|label| label == "vaccine+ewc"), "{labels:?}");
    let curve = std::fs::read_to_string(place.path("out/vaccine+ewc/0.5/1/metrics.jsonl"));
    let curve = curve.expect("it is there");
    for name in ["alignment_loss", "drift"] {
        let rows = curve.lines().filter(|line| line.contains(&format!("\"name\":\"{name}\"")));
        assert_eq!(rows.count(), 2, "{name} at each of two steps");
    }
    let value = place.vxf(&["validate", "out/config.resolved.toml", "--json"]).json();
    assert_eq!(value["recipe"]["fine_tuning"]["trainable"]["rank"], 4);

    // The user's adapter is in PEFT's layout.
    let adapter = place.path("out/vaccine+ewc/0.5/1/adapter");
    let (lora, weights) =
        vxf_hf::peft::read(&adapter, candle_core::DType::F32, &candle_core::Device::Cpu)
            .expect("an adapter that PEFT reads");
    assert_eq!((lora.rank, lora.alpha, weights.len()), (4, 1.0, 4 * 7 * 2));
}

/// PACT runs the base model beside the aligned one, and `max_steps` counts steps in place of epochs.
#[test]
fn a_method_that_runs_the_base_model_takes_a_number_of_steps() {
    let place = Place::new();
    let value = place.tiny(&[
        "--defense=sft",
        "--fine-tune-defense=pact",
        "--set=alignment.trainable=lora",
        "--set=fine_tuning.max_steps=3",
        "--no-undefended",
        "--output-dir=out",
        "--json",
    ]);
    let runs = figures(&value);
    let steps = |ratio: &Value| {
        let all = runs.iter().filter(|run| run["ratio"] == *ratio);
        all.map(|run| run["steps"].as_u64().expect("a number")).collect::<Vec<_>>()
    };
    // Two epochs of two batches before the user; three steps in place of one epoch of two.
    assert_eq!((steps(&Value::Null), steps(&0.5.into())), (vec![4], vec![3, 3]));
    let log = std::fs::read_to_string(place.path("out/sft+pact/0.5/1/metrics.jsonl"));
    let log = log.expect("it is there");
    let header = log.lines().find_map(|line| {
        serde_json::from_str::<Value>(line).ok()?["figures"]["header_tokens"].as_f64()
    });
    assert!(header.is_some_and(|header| header >= 1.0), "all prompts end alike: {header:?}");
}

/// An attack in the user's place is in no row's name, so the page says so.
#[test]
fn an_attack_is_named() {
    let told = Place::new().tiny(&["--fine-tune-defense", "unalign", "--output-dir", "out"]);
    let text = told.ok();
    assert!(text.contains("the user's stage is the attack `unalign`"), "{text}");
}

#[test]
fn another_perturber_under_the_same_defence() {
    let place = Place::new();
    let told = place.tiny(&["--perturber=gaussian", "--no-undefended"]);
    assert!(told.ok().contains("vaccine~gaussian"), "{}", told.stdout);
    let told = place.tiny(&["--defense=random", "--rho=1", "--no-baseline", "--no-undefended"]);
    assert!(told.ok().contains("random"), "{}", told.stdout);
    assert!(!told.stdout.contains("sft"), "{}", told.stdout);
}

#[test]
fn a_model_directory_gives_what_the_embedded_model_gives() {
    let place = Place::new();
    place.model("model");
    let given = place.tiny(&["--model=model", "--rho=5", "--output-dir=given", "--json"]);
    let embedded = place.tiny(&["--output-dir=embedded", "--json"]);
    assert_eq!(figures(&given), figures(&embedded));

    // A user's own model may give harmful answers: they are not printed by default.
    let hidden = place.tiny(&["--model=model", "--rho=5", "--output-dir=given"]);
    assert!(hidden.ok().contains("[withheld: "), "{}", hidden.stdout);
    let open = place.tiny(&["--model=model", "--rho=5", "--output-dir=given", "--log-samples"]);
    assert!(!open.ok().contains("[withheld: "), "{}", open.stdout);
}

#[test]
fn an_export_is_a_complete_model() {
    let place = Place::new();
    place.tiny(&["--no-baseline", "--no-undefended", "--output-dir=out"]).ok();
    let export = ["export", "out/vaccine/0.5/1", "--merged", "--output-dir=away"];
    assert!(place.vxf(&export).ok().contains("merged model in away"));
    let codec = vxf_data::Codec::open(&place.path("away"), vxf_data::TemplateChoice::Plain)
        .expect("a tokenizer that needs no world");
    assert_eq!(codec.eos(), Some("<eos>"));
    place.tiny(&["--model=away", "--rho=5", "--no-baseline", "--no-undefended"]).ok();
    place.vxf(&export).fails(2, &["away"]);
}
