//! Runs of one experiment by several processes: the same bytes, whoever does them and whoever is killed.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Place, TINY, Told};
use serde_json::Value;

/// Two seeds of an aligned model and of an attacked one, beside plain training.
const SWEEP: &[&str] = &["--seed=1,2", "--no-undefended"];

fn sweep<'a>(first: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [first, &TINY[1..], SWEEP, more].concat()
}

/// Every file of every run by path, without times.
fn outcome(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut open) = (BTreeMap::new(), vec![root.join("sft"), root.join("vaccine")]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(root).expect("inside").display().to_string();
            let mut bytes = fs::read(&path).expect("readable");
            if name.ends_with("result.json") || name.ends_with("training.json") {
                let mut record: Value = serde_json::from_slice(&bytes).expect("a record");
                assert!(record["seconds"].take().is_number(), "{name} has a time");
                bytes = record.to_string().into_bytes();
            }
            files.insert(name, bytes);
        }
    }
    assert!(files.len() >= 8 * 4, "{:?}", files.keys());
    files
}

#[track_caller]
fn same(one: &Path, other: &Path) {
    let (one, other) = (outcome(one), outcome(other));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(other.get(name) == Some(bytes), "{name} differs");
    }
}

/// Digest and path of each pending run.
fn pending(place: &Place, root: &str) -> Vec<(String, String)> {
    let told = place.vxf(&["runs", root, "--pending"]);
    let line = |line: &str| {
        let (digest, path) = line.split_once(' ').expect("digest and run");
        (digest.to_owned(), path.to_owned())
    };
    told.ok().lines().map(line).collect()
}

#[test]
fn tasks_do_a_run_once_with_its_parent_first_and_the_bytes_of_a_whole_run() {
    let place = Place::new();
    place.vxf(&sweep(&["run"], &["--output-dir=whole"])).ok();
    let prepared = place.vxf(&sweep(&["run", "--prepare"], &["--output-dir=out"]));
    assert_eq!(prepared.ok(), "out\n");
    let all = pending(&place, "out");
    let paths: Vec<_> = all.iter().map(|(_, path)| path.as_str()).collect();
    assert_eq!(paths.len(), 8, "{paths:?}");
    assert!(paths[..4].iter().all(|path| path.contains("aligned")), "{paths:?}");

    // A parent that is missing is done first.
    let (digest, path) = all.iter().find(|(_, path)| path == "vaccine/0.5/2").expect("a leaf");
    let task = |digest: &str| place.vxf(&["task", "out", digest]);
    assert_eq!(task(digest).ok(), "vaccine/aligned/2\nvaccine/0.5/2\n");
    let again = task(&digest[..12]);
    assert_eq!(again.ok(), "");
    assert!(again.stderr.contains("done already"), "{}", again.stderr);
    let left = pending(&place, "out");
    assert_eq!(left.len(), 6);
    assert!(!left.iter().any(|(_, left)| left == path));

    // The last first: the order does not matter.
    left.iter().rev().for_each(|(digest, _)| drop(task(digest).ok().to_owned()));
    assert!(pending(&place, "out").is_empty());
    let told = place.vxf(&["resume", "out"]);
    assert!(told.ok().contains("HS %"));
    assert!(!place.path("out/.locks").exists() && !place.path("out/checkpoints").exists());
    same(&place.path("whole"), &place.path("out"));
}

#[test]
fn wrong_tasks_are_refused() {
    let place = Place::new();
    place.vxf(&sweep(&["run", "--prepare"], &["--output-dir=out"])).ok();
    place.vxf(&["task", "out", "xyz"]).fails(2, &["\"xyz\"", "no run", "--pending"]);
    place.vxf(&["task", "out", ""]).fails(2, &["no run"]);
    place.vxf(&["task", "nowhere", "0"]).fails(2, &["nowhere", "no such directory"]);
    place.vxf(&["runs", "nowhere", "--pending"]).fails(2, &["nowhere is not an experiment"]);
    for (args, parts) in [
        (&["--workers=2"][..], &["--executor"][..]),
        (&["--executor=local", "--workers=0"], &["--workers"]),
        (&["--executor=local", "--dry-run"], &["--dry-run: workers on this machine"]),
        (&["--executor=local", "--submit-option=--x"], &["--submit-option"]),
        (&["--executor=hq", "--workers=2"], &["HyperQueue has no such limit"]),
        (&["--executor=slurm", "--full"], &["--full: no table", "vxf resume EXPERIMENT --full"]),
        (&["--executor=ray"], &["local, slurm, hq"]),
    ] {
        place.vxf(&sweep(&["run", "--output-dir=out"], args)).fails(2, parts);
    }
}

fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

fn told(child: Child) -> Told {
    child.wait_with_output().expect("it ends").into()
}

/// Long enough to be met in the middle.
const LONG: &[&str] = &["--set=alignment.epochs=40", "--checkpoint-every=1"];

#[test]
fn two_processes_never_do_the_same_run() {
    let place = Place::new();
    let long = LONG[..1].to_vec();
    place.vxf(&sweep(&["run", "--prepare", "--output-dir=out"], &long)).ok();
    let (digest, path) = pending(&place, "out").swap_remove(0);
    let start = || spawn(&mut place.command(&["task", "out", &digest]));
    let both = [start(), start()].map(told);
    let mut done: Vec<_> = both.iter().map(|told| told.ok().trim()).collect();
    done.sort_unstable();
    assert_eq!(done, ["", path.as_str()], "{both:?}");
}

/// The processes that `parent` started.
fn children(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|id| id.parse().expect("a process id")).collect()
}

fn wait_until(what: &str, mut found: impl FnMut() -> bool) {
    for _ in 0..120_000 {
        if found() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what} never came");
}

fn send(process: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status();
    assert!(sent.expect("kill is there").success());
}

/// Waits for a checkpoint of a run under way.
fn wait_for_checkpoint(root: &Path) {
    wait_until("a checkpoint", || {
        ["sft", "vaccine"].iter().any(|method| {
            let stage = root.join("checkpoints").join(method).join("aligned");
            fs::read_dir(stage).into_iter().flatten().flatten().any(|seed| {
                let steps = fs::read_dir(seed.path()).into_iter().flatten().flatten();
                steps
                    .into_iter()
                    .any(|step| step.file_name().to_string_lossy().starts_with("step-"))
            })
        })
    });
}

#[test]
fn a_killed_worker_changes_nothing() {
    let place = Place::new();
    place.vxf(&sweep(&["run", "--output-dir=whole", "--threads=1"], LONG)).ok();
    let local = ["run", "--output-dir=out", "--executor=local", "--workers=2"];
    let driver = spawn(&mut place.command(&sweep(&local, LONG)));
    wait_for_checkpoint(&place.path("out"));
    let workers = children(driver.id());
    assert!((1..=2).contains(&workers.len()), "{workers:?}");
    send(workers[0], "-KILL");
    let told = told(driver);
    assert!(told.ok().contains("HS %"));
    assert!(told.stderr.contains("its worker was killed"), "{}", told.stderr);
    for rest in ["checkpoints", ".locks", "logs"] {
        assert!(!place.path("out").join(rest).exists(), "{rest}");
    }
    same(&place.path("whole"), &place.path("out"));
}

#[test]
fn workers_stop_with_their_driver_and_the_same_command_continues() {
    let place = Place::new();
    place.vxf(&sweep(&["run", "--output-dir=whole", "--threads=1"], LONG)).ok();
    let local = ["run", "--output-dir=out", "--executor=local", "--workers=2"];
    for signal in ["-TERM", "-KILL"] {
        let driver = spawn(&mut place.command(&sweep(&local, LONG)));
        wait_for_checkpoint(&place.path("out"));
        wait_until("a worker", || !children(driver.id()).is_empty());
        let workers = children(driver.id());
        send(driver.id(), signal);
        let stopped = told(driver);
        if signal == "-TERM" {
            stopped.fails(75, &["interrupted; everything so far is kept"]);
        }
        for worker in workers {
            let gone = || !Path::new(&format!("/proc/{worker}")).exists() || is_zombie(worker);
            wait_until("the end of a worker", gone);
        }
    }
    place.vxf(&sweep(&local, LONG)).ok();
    same(&place.path("whole"), &place.path("out"));
}

/// Whether a process has ended and nobody asked for its status.
fn is_zombie(process: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z'))
}

#[test]
fn a_failing_run_stops_the_others_and_names_its_log() {
    let place = Place::new();
    let wrong = ["--set=alignment.learning_rate=1e30", "--set=alignment.max_gradient_norm=0"];
    let local = ["run", "--output-dir=out", "--executor=local", "--workers=2"];
    let told = place.vxf(&sweep(&local, &wrong));
    told.fails(1, &["aligned/", "all that its worker printed is in out/logs/"]);
}

/// A program that stands for an engine's: it notes its arguments and does every task of the array.
fn engine(place: &Place, name: &str, variable: &str) {
    fs::create_dir_all(place.path("bin")).expect("a new directory");
    let script = format!(
        r#"#!/bin/bash
echo "$@" >> '{calls}'
while [ $# -gt 0 ]; do case "$1" in
  --array=*) range=${{1#--array=0-}} ;;
  *.sbatch|*.sh) script=$1; offset=$2 ;;
esac; shift; done
for index in $(seq 0 "${{range%%%*}}"); do
  {variable}=$index bash "$script" $offset >> '{log}' 2>&1 || exit 1
done
wc -l < '{calls}'
"#,
        calls = place.path("calls").display(),
        log = place.path("log").display(),
    );
    let path = place.write(&format!("bin/{name}"), &script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

fn submit(place: &Place, args: &[&str]) -> Told {
    let path = std::env::var("PATH").expect("a path");
    let mut command = place.command(args);
    command.env("PATH", format!("{}:{path}", place.path("bin").display()));
    command.output().expect("it starts").into()
}

#[test]
fn the_scripts_for_engines_do_every_run() {
    for (name, program, variable, jobs) in [
        ("slurm", "sbatch", "SLURM_ARRAY_TASK_ID", "jobs 1, 2"),
        ("hq", "hq", "HQ_TASK_ID", "jobs 1"),
    ] {
        let place = Place::new();
        place.vxf(&sweep(&["run", "--output-dir=whole"], &[])).ok();
        let executor = format!("--executor={name}");
        let run = sweep(&["run", "--output-dir=my out", &executor], &[]);
        let missing = place.command(&run).env("PATH", "/nowhere").output().expect("it starts");
        Told::from(missing).fails(1, &[program, "not on PATH", "--dry-run"]);

        let dry = place.vxf(&[&run[..], &["--dry-run"]].concat());
        assert!(dry.ok().contains("8 runs to submit"), "{}", dry.stdout);
        assert!(dry.stdout.contains("--array=0-"), "{}", dry.stdout);
        assert!(!place.path("my out/sft").exists());

        engine(&place, program, variable);
        let told = submit(&place, &[&run[..], &["--submit-option=--priority=3"]].concat());
        assert!(told.ok().contains(&format!("8 runs submitted, {jobs}")), "{told:?}");
        let calls = fs::read_to_string(place.path("calls")).expect("calls");
        assert!(calls.lines().all(|call| call.contains("--priority=3")), "{calls}");
        if name == "slurm" {
            assert!(
                calls.lines().nth(1).is_some_and(|call| call.contains("afterany:1")),
                "{calls}"
            );
        }
        assert!(pending(&place, "my out").is_empty());
        place.vxf(&["resume", "my out"]).ok();
        same(&place.path("whole"), &place.path("my out"));
    }
}
