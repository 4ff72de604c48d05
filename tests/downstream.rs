//! A defence in a crate outside the workspace: built, listed, refused where it must be, and run.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Builds the example into this workspace's target directory, so that dependencies are shared.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let program = Path::new(env!("CARGO_BIN_EXE_vxf"));
    let target = program.parent().and_then(Path::parent).expect("target/<profile>/vxf");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(root.join("examples/custom-defense/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the example does not build");
    target.join("debug/custom-defense")
}

fn call(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).env("CI", "1").output().expect("the program starts")
}

#[test]
fn a_stranger_s_defense_has_the_whole_command_line() {
    let program = build();

    let list: Value =
        serde_json::from_slice(&call(&program, &["list", "defenses", "--json"]).stdout)
            .expect("one JSON value");
    let entries = list["defenses"].as_array().expect("a list");
    let names: Vec<_> = entries.iter().filter_map(|entry| entry["name"].as_str()).collect();
    assert_eq!(names, ["blend", "ewc", "kl", "none", "random", "sft", "vaccine"]);

    let shown = String::from_utf8(call(&program, &["show", "blend"]).stdout).expect("text");
    assert!(shown.contains("share") && shown.contains("0 is plain fine-tuning"), "{shown}");

    // Its own check of ranges is the command line's error.
    let refused = call(&program, &["run", "--defense=blend", "--set=defense.share=2"]);
    let message = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("share") && message.contains("must be between 0 and 1"), "{message}");

    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("blend");
    let run = Command::new(&program)
        .args(["run", "--json", "--defense=blend", "--seed=1", "--harmful-ratio=0.5"])
        .args(["--set=world.alignment_samples=16", "--set=world.user_samples=16"])
        .args(["--set=alignment.epochs=2", "--set=fine_tuning.epochs=1", "--output-dir"])
        .arg(&output)
        .env("CI", "1")
        .output()
        .expect("the program starts");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let result: Value = serde_json::from_slice(&run.stdout).expect("one JSON value");
    let cells = result["runs"].as_array().expect("runs");
    let own = cells.iter().filter(|cell| cell["label"] == "blend").count();
    assert_eq!(own, 2, "the aligned model and the attacked one");
    assert!(output.join("blend/0.5/1/result.json").is_file());
}
