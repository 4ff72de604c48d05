//! Interrupted downloads and damaged contents.

use std::fs;
use std::time::Duration;

use vxf_hub::{Hub, Result, RetryPolicy, Settings};

use crate::lab::{Lab, MODEL, get, says, weights};
use crate::server::{Mishap, git, sha256};

const FILE: &str = "model.safetensors";
const SIZE: usize = 300_017;

fn lab() -> Lab {
    Lab::with(&["config.json", FILE])
}

fn partial(lab: &Lab) -> std::path::PathBuf {
    lab.folder().join("blobs").join(format!("{}.incomplete", sha256(&weights(SIZE))))
}

#[track_caller]
fn is_whole(lab: &Lab, path: Result<std::path::PathBuf>) {
    assert_eq!(fs::read(path.expect("a file")).expect("a file"), weights(SIZE));
    assert!(!partial(lab).exists());
}

#[test]
fn an_interrupted_download_is_resumed() {
    let lab = lab();
    lab.server.mishap("?signature", 1, Mishap::Cut(200_000));
    is_whole(&lab, get(&lab.hub(), MODEL, FILE));
    let sent = lab.sent();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].range, None);
    let start = sent[1].range.expect("a range") as usize;
    assert!(start > 100_000 && start <= 200_000, "{start}");
    assert_eq!(sent[1].sent, SIZE - start, "only what was missing");
}

#[test]
fn a_download_interrupted_by_every_attempt_keeps_its_bytes() {
    let lab = lab();
    lab.server.mishap("?signature", 3, Mishap::Cut(60_000));
    let parts = [FILE, MODEL, "of 300017 bytes", "interrupted repeatedly", "run again to resume"];
    says(get(&lab.hub(), MODEL, FILE), &parts);
    let kept = fs::metadata(partial(&lab)).expect("a partial file").len();
    assert!(kept > 100_000 && kept <= 180_000, "{kept}");
    assert!(!lab.folder().join("snapshots").exists());
    lab.sent();
    is_whole(&lab, get(&lab.hub(), MODEL, FILE));
    let sent = lab.sent();
    assert_eq!((sent.len(), sent[0].range), (1, Some(kept)));
}

#[test]
fn a_connection_closed_before_the_first_byte() {
    let lab = lab();
    lab.server.mishap("?signature", 3, Mishap::Cut(0));
    says(get(&lab.hub(), MODEL, FILE), &["no connection", &lab.server.storage[7..]]);
}

#[test]
fn progress_resets_the_retries() {
    let lab = lab();
    lab.server.mishap("?signature", 5, Mishap::Cut(50_000));
    let retry = RetryPolicy { attempts: 2, renewed_by: 30_000, ..lab.settings().retry };
    let hub = Hub::new(Settings { retry, ..lab.settings() }).expect("settings");
    is_whole(&lab, get(&hub, MODEL, FILE));
    assert_eq!(lab.sent().len(), 6);
}

#[test]
fn a_damaged_download_is_retried() {
    for (file, needle) in [(FILE, "?signature"), ("config.json", "GET /api/resolve-cache")] {
        let lab = lab();
        lab.server.mishap(needle, 1, Mishap::Damage);
        get(&lab.hub(), MODEL, file).expect("a file");
        if file == FILE {
            is_whole(&lab, get(&lab.hub(), MODEL, FILE));
            assert_eq!(lab.sent().iter().filter(|sent| sent.range.is_none()).count(), 2);
        }
    }
}

#[test]
fn two_damaged_downloads_are_an_error() {
    for (file, needle) in [(FILE, "?signature"), ("config.json", "GET /api/resolve-cache")] {
        let lab = lab();
        lab.server.mishap(needle, usize::MAX, Mishap::Damage);
        let content =
            if file == FILE { weights(SIZE) } else { b"{\"name\": \"config.json\"}\n".into() };
        let tag = if file == FILE { sha256(&content) } else { git(&content) };
        says(
            get(&lab.hub(), MODEL, file),
            &[file, "damaged in two downloads", &tag, "copy was removed"],
        );
        let left = fs::read_dir(lab.folder().join("blobs")).expect("blobs").count();
        assert_eq!(left, 0, "nothing is left of it");
        let fetched = lab.lines().into_iter().filter(|line| line.contains(needle)).count();
        assert_eq!(fetched, 2);
    }
}

#[test]
fn partial_files_of_other_programs() {
    // With holes, too long, and already complete.
    for content in [vec![0; 1000], vec![0; SIZE + 1], vec![0; SIZE], weights(SIZE)] {
        let lab = lab();
        fs::create_dir_all(lab.folder().join("blobs")).expect("a directory");
        fs::write(partial(&lab), &content).expect("a partial file");
        is_whole(&lab, get(&lab.hub(), MODEL, FILE));
        if content == weights(SIZE) {
            assert!(lab.sent().is_empty(), "nothing was missing");
        }
    }
}

#[test]
fn a_server_without_ranges() {
    let lab = lab();
    lab.server.mishap("?signature", 1, Mishap::Cut(200_000));
    lab.server.mishap("?signature", 1, Mishap::Whole);
    is_whole(&lab, get(&lab.hub(), MODEL, FILE));
    assert_eq!(lab.sent()[1].sent, SIZE);
}

#[test]
fn a_length_that_differs_from_the_metadata() {
    let lab = lab();
    for wrong in [SIZE - 1, SIZE + 1] {
        let redirect = vec![
            ("X-Linked-Etag", sha256(&weights(SIZE))),
            ("X-Linked-Size", wrong.to_string()),
            ("Location", "/elsewhere".to_owned()),
        ];
        lab.server.mishap("HEAD", 1, Mishap::Answer(302, redirect));
        says(get(&lab.hub(), MODEL, FILE), &["length", "metadata"]);
    }
}

#[test]
fn a_silent_server_runs_into_a_timeout() {
    let lab = lab();
    lab.server.mishap("/api/models", usize::MAX, Mishap::Silence(Duration::from_secs(2)));
    let silence = Duration::from_millis(100);
    let hub = Hub::new(Settings { silence, ..lab.settings() }).expect("settings");
    says(get(&hub, MODEL, FILE), &["no connection", "timeout"]);
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let lab = lab();
    // A file in place of the directory fails for every user, including root.
    fs::write(lab.folder(), "").expect("a file");
    let folder = lab.folder().display().to_string();
    says(get(&lab.hub(), MODEL, FILE), &["cannot create", &folder, "HF_HOME"]);
}
