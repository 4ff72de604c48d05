//! Files in a temporary directory, and sources that read them.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::{Compression, write::GzEncoder};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use vxf_data::{Ask, Loaded, LocalRepository, Result, Sample, Source, Use};

/// A directory with files of these names and contents.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, bytes) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, bytes).expect("a file");
    }
    directory
}

/// The source at `path` with these settings.
pub(crate) fn source(path: &Path, settings: Value) -> Source {
    let mut source: Source = serde_json::from_value(settings).expect("settings of a source");
    source.path = path.to_string_lossy().into_owned();
    source
}

/// Reads a training set without invalid rows.
pub(crate) fn read(source: &Source) -> Result<Loaded> {
    read_as(source, Use::Trained, false)
}

pub(crate) fn read_as(source: &Source, usage: Use, skip_bad_rows: bool) -> Result<Loaded> {
    let repository = LocalRepository::open(Path::new(&source.path))?;
    source.read(&repository, usage, skip_bad_rows, None, &mut ChaCha8Rng::seed_from_u64(1))
}

/// Reads a file with this name and content.
pub(crate) fn read_file(name: &str, bytes: &[u8], settings: Value) -> Result<Loaded> {
    let directory = directory(&[(name, bytes)]);
    read(&source(&directory.path().join(name), settings))
}

/// The error of a file with this name and content.
pub(crate) fn fault(name: &str, bytes: &[u8], settings: Value) -> String {
    let error = read_file(name, bytes, settings).expect_err("a fault").to_string();
    assert!(error.contains(name), "{error}");
    error
}

/// A sample with placeholder texts.
pub(crate) fn sample(number: usize) -> Sample {
    let ask = Ask::instruction(format!("placeholder request {number}"));
    Sample { ask, answer: format!("placeholder answer {number}") }
}

/// The same sample as a row.
pub(crate) fn row(number: usize) -> Value {
    json!({
        "prompt": format!("placeholder request {number}"),
        "response": format!("placeholder answer {number}"),
        "category": {"one": number.is_multiple_of(2), "two": null},
        "is_safe": number.is_multiple_of(3),
    })
}

/// Rows as JSON lines.
pub(crate) fn lines(rows: impl IntoIterator<Item = Value>) -> Vec<u8> {
    rows.into_iter().map(|row| format!("{row}\n")).collect::<String>().into_bytes()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

/// Asserts that a message has all of these parts.
#[track_caller]
pub(crate) fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}
