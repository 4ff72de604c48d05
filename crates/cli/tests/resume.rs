//! Interrupting by signals, resuming, and two processes on one directory.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Place, TINY, Told};
use serde_json::{Value, json};

/// An experiment of two runs that is long enough to be interrupted in its first run.
const LONG: &[&str] = &["--no-baseline", "--no-undefended", "--set=alignment.epochs=60"];

fn start(place: &Place, more: &[&str]) -> Child {
    let mut command = place.command(&[&["run"], TINY, LONG, more].concat());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

fn wait_for(child: &mut Child, path: &Path) {
    for _ in 0..600_000 {
        if path.exists() {
            return;
        }
        assert!(child.try_wait().expect("a child").is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{} never came", path.display());
}

fn told(child: Child) -> Told {
    child.wait_with_output().expect("it ends").into()
}

fn runs(told: &Told) -> Vec<Value> {
    let runs = told.json()["runs"].as_array().expect("runs").clone();
    let without_time = |mut run: Value| {
        run["seconds"] = Value::Null;
        run
    };
    runs.into_iter().map(without_time).collect()
}

#[test]
fn a_signal_saves_a_checkpoint_and_resume_continues() {
    let place = Place::new();
    let whole = runs(&place.vxf(&[&["run", "--json", "--output-dir=whole"], TINY, LONG].concat()));
    for signal in ["-TERM", "-INT", "-USR1"] {
        let out = format!("out{signal}");
        let output = format!("--output-dir={out}");
        let mut child = start(&place, &[&output]);
        let stage = place.path(&out).join("checkpoints/vaccine/aligned/1");
        wait_for(&mut child, &stage.join("metrics.jsonl"));
        // Twice, as schedulers do.
        send(&child, signal);
        send(&child, signal);
        let stopped = told(child);
        stopped.fails(75, &["interrupted; everything so far is kept", "`vxf resume out"]);
        let saved = std::fs::read_dir(&stage).expect("a stage").flatten();
        let saved = saved.filter(|e| e.file_name().to_string_lossy().starts_with("step-")).count();
        assert_eq!(saved, 1, "one checkpoint, made when the signal came");

        let rest = place.vxf(&["resume", &out, "--json"]);
        assert_eq!(runs(&rest), whole, "{signal}");
        assert!(!place.path(&out).join("checkpoints").exists());
    }
}

#[test]
fn a_finished_experiment_says_so_and_a_missing_one_is_refused() {
    let place = Place::new();
    place.tiny(&["--output-dir=out"]).ok();
    let manifest = std::fs::read(place.path("out/manifest.json")).expect("a manifest");
    for path in ["out", "out/vaccine/0.5/1"] {
        let again = place.vxf(&["resume", path]);
        assert!(again.ok().contains("HS %"));
        assert!(again.stderr.contains("is finished"), "{}", again.stderr);
    }
    assert_eq!(std::fs::read(place.path("out/manifest.json")).expect("a manifest"), manifest);
    place.vxf(&["resume", "nothing"]).fails(2, &["nothing", "no such directory"]);
    std::fs::create_dir(place.path("empty")).expect("a new directory");
    place.vxf(&["resume", "empty"]).fails(2, &["empty", "no manifest.json"]);
    place.vxf(&["run", "--checkpoint-every=often"]).fails(2, &["--checkpoint-every", "10m"]);
}

#[test]
fn a_second_process_waits_for_the_first() {
    let place = Place::new();
    let mut first = start(&place, &["--output-dir=out"]);
    wait_for(&mut first, &place.path("out/checkpoints/vaccine/aligned/1/metrics.jsonl"));
    let mut second = start(&place, &["--output-dir=out"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(second.try_wait().expect("a child").is_none(), "it waits");
    // One that is killed holds nothing.
    first.kill().expect("it can be killed");
    first.wait().expect("it ends");
    let second = told(second);
    assert!(second.ok().contains("HS %"));
    assert!(second.stderr.contains("another vxf is writing"), "{}", second.stderr);
    // The wait ends when a signal asks for it.
    let mut holder = start(&place, &["--output-dir=held"]);
    wait_for(&mut holder, &place.path("held/manifest.json"));
    let waiter = start(&place, &["--output-dir=held"]);
    std::thread::sleep(Duration::from_millis(500));
    send(&waiter, "-TERM");
    told(waiter).fails(75, &["interrupted; everything so far is kept"]);
    holder.kill().expect("it can be killed");
    holder.wait().expect("it ends");
}

#[test]
fn relative_paths_refer_to_the_original_working_directory() {
    let place = Place::new();
    place.llama("model", u64::MAX);
    place.protocol();
    place.write("scores.jsonl", "");
    let whole = runs(&place.vxf(&["run", "recipe.toml", "--json", "--output-dir=whole"]));
    place.vxf(&["run", "recipe.toml", "--output-dir=cut", "--stage=alignment"]).ok();
    let out = &["run", "recipe.toml", "--checkpoint-every=1", "--output-dir=out"];
    let mut child = place.command(out).stdin(Stdio::null()).spawn().expect("it starts");
    let stage = place.path("out/checkpoints/vaccine/aligned/1");
    wait_for(&mut child, &stage.join("step-0000000001"));
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");

    std::fs::create_dir(place.path("elsewhere")).expect("a new directory");
    let mut resume = place.command(&["resume", "../out", "--json"]);
    resume.current_dir(place.path("elsewhere"));
    let rest: Told = resume.output().expect("it starts").into();
    assert_eq!(runs(&rest), whole);
}

#[test]
fn other_conditions_are_reported_and_noted() {
    let place = Place::new();
    let mut child = start(&place, &["--output-dir=out", "--threads=1", "--checkpoint-every=1"]);
    wait_for(&mut child, &place.path("out/checkpoints/vaccine/aligned/1/step-0000000002"));
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    place.edit(&place.path("out/manifest.json"), |manifest| {
        assert_eq!(manifest["threads"], 1);
        assert!(manifest["host"]["instructions"].is_string());
        manifest["host"]["instructions"] = json!("abacus");
    });
    let rest = place.vxf(&["resume", "out"]);
    assert!(rest.ok().contains("HS %"));
    for part in ["last digits may differ", "abacus then"] {
        assert!(rest.stderr.contains(part), "{}", rest.stderr);
    }
    let manifest = std::fs::read_to_string(place.path("out/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(manifest["resumed"].as_array().map(Vec::len), Some(1));
    assert!(manifest["finished"].is_string());
}
