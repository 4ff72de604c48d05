//! `vxf run --track`: who is asked to send values, and when.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{Place, TINY, Told};

/// An interpreter that notes its arguments, and fails if they contain `failing`.
fn python(place: &Place, failing: &str) -> String {
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/asked\"\ncase \"$*\" in *{failing}*) echo 'No module named vxf' >&2; \
         exit 1;; esac\n"
    );
    let path = place.write("python", &script);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    path.display().to_string()
}

fn run(place: &Place, python: &str, more: &[&str]) -> Told {
    let args = [&["run"], TINY, &["--no-undefended", "--output-dir", "out"], more].concat();
    place.command(&args).env("VXF_PYTHON", python).output().expect("the program").into()
}

#[test]
fn a_named_tracker_follows_the_run() {
    let place = Place::new();
    let python = python(&place, "nothing-fails");
    run(&place, &python, &["--track", "tensorboard,mlflow"]).ok();
    let asked = fs::read_to_string(place.path("asked")).expect("it was asked");
    let asked: Vec<_> = asked.lines().collect();
    assert_eq!(
        asked,
        [
            "-m vxf trackers --to tensorboard,mlflow",
            "-m vxf track out --to tensorboard,mlflow --quiet --follow",
        ]
    );
    // Nobody is asked without the flag.
    fs::remove_file(place.path("asked")).expect("a file");
    run(&place, &python, &[]).ok();
    assert!(!place.path("asked").exists());
}

#[test]
fn what_cannot_be_sent_is_said() {
    let place = Place::new();
    let missing = python(&place, "trackers");
    let told = run(&place, &missing, &["--track", "wandb"]);
    told.fails(
        1,
        &["Python package `vxf`", "No module named vxf", "install the wheel", "VXF_PYTHON"],
    );
    assert!(!place.path("out").exists(), "nothing is trained before");
    run(&place, "no-such-python", &["--track", "wandb"])
        .fails(1, &["no-such-python", "VXF_PYTHON"]);
    run(&place, &missing, &["--track", "wandb", "--offline"]).fails(2, &["--offline", "vxf track"]);
    run(&place, &missing, &["--track", "excel"]).fails(2, &["excel", "tensorboard"]);

    // The results do not depend on a tracker that is away.
    let away = python(&place, "--follow");
    let told = run(&place, &away, &["--track", "mlflow"]);
    assert!(told.ok().contains("harmful score"), "{}", told.stdout);
    let rest = format!("`{away} -m vxf track out --to mlflow` sends the rest");
    assert!(told.stderr.contains(&rest), "{}", told.stderr);
}

/// The package itself says what a tracker lacks, before anything is trained.
#[test]
fn a_tracker_without_its_settings_is_refused_first() {
    let place = Place::new();
    let script =
        "#!/bin/sh\necho 'error: mlflow: MLFLOW_TRACKING_URI must name a server' >&2\nexit 1\n";
    let python = place.write("python", script);
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).expect("executable");
    let told = run(&place, &python.display().to_string(), &["--track", "mlflow"]);
    told.fails(1, &["error: --track: mlflow: MLFLOW_TRACKING_URI must name a server"]);
    assert!(!place.path("out").exists());
}
