//! The rows that a source uses, and the counts of the others.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use vxf_core::config::Documented;
use vxf_data::{Error, LocalRepository, Sample, Source, Use};

use crate::common::{assert_says, directory, lines, read, read_as, row, sample, source};

#[test]
fn filter_skip_and_take_keep_the_order_of_the_file() {
    let directory = directory(&[("a.jsonl", &lines((0..30).map(row)))]);
    let source = |settings| source(&directory.path().join("a.jsonl"), settings);
    let numbers = |loaded: &[Sample]| -> Vec<usize> {
        (0..30).filter(|number| loaded.contains(&sample(*number))).collect()
    };
    let all = json!({"filter": {"is_safe": true}});
    let loaded = read(&source(all)).expect("all safe ones");
    assert_eq!(numbers(&loaded.samples), (0..30).step_by(3).collect::<Vec<_>>());
    assert_eq!((loaded.origin.read, loaded.origin.filtered), (30, 20));
    let part = json!({"filter": {"is_safe": true}, "skip": 2, "take": 3});
    let loaded = read(&source(part)).expect("some");
    assert_eq!(numbers(&loaded.samples), [6, 9, 12]);
    assert_eq!((loaded.origin.read, loaded.origin.skipped), (13, 2));
    let several = json!({"filter": {"response": ["placeholder answer 3", "placeholder answer 5"]}});
    assert_eq!(numbers(&read(&source(several)).expect("two").samples), [3, 5]);
}

#[test]
fn numbers_and_booleans_are_compared_as_values() {
    let rows = [
        json!({"text": "a", "n": 1}),
        json!({"text": "b", "n": 1.0}),
        json!({"text": "c", "n": "1"}),
    ];
    let directory = directory(&[("a.jsonl", &lines(rows))]);
    let at = directory.path().join("a.jsonl");
    let loaded = read(&source(&at, json!({"filter": {"n": 1}}))).expect("two");
    assert_eq!(loaded.samples.len(), 2);
    let error = read(&source(&at, json!({"filter": {"n": true}}))).expect_err("none").to_string();
    assert_says(&error, &["no samples", "`n` must be true, but is \"1\", 1, 1.0"]);
    let error = read(&source(&at, json!({"filter": {"safe": 1}}))).expect_err("none").to_string();
    assert_says(&error, &["`filter` names the column `safe`", "the columns are text, n"]);
    for (filter, found) in [(json!({"n": []}), "[]"), (json!({"n": {"a": 1}}), "{\"a\":1}")] {
        let error = source(&at, json!({"filter": filter})).validate().expect_err("no filter");
        assert_eq!((error.key.as_str(), error.found.as_str()), ("filter.n", found));
    }
}

#[test]
fn too_few_samples_are_an_error() {
    let directory = directory(&[("a.jsonl", &lines((0..30).map(row)))]);
    let at = directory.path().join("a.jsonl");
    let settings = json!({"filter": {"is_safe": true}, "skip": 5, "take": 6});
    let error = read(&source(&at, settings)).expect_err("too few").to_string();
    assert_says(
        &error,
        &["5 samples, but `take` is 6", "of 30 rows", "removed 20", "`skip` 5", "at_most = true"],
    );
    let settings = json!({"filter": {"is_safe": true}, "skip": 5, "take": 6, "at_most": true});
    assert_eq!(read(&source(&at, settings)).expect("fewer").samples.len(), 5);
    let error = read(&source(&at, json!({"skip": 30}))).expect_err("none").to_string();
    assert_says(&error, &["no samples", "`skip` 30"]);
}

#[test]
fn shuffling_is_seeded_and_precedes_skip_and_take() {
    let directory = directory(&[("a.jsonl", &lines((0..100).map(row)))]);
    let at = directory.path().join("a.jsonl");
    let repository = LocalRepository::open(&at).expect("a file");
    let draw = |settings, seed| {
        let rng = &mut ChaCha8Rng::seed_from_u64(seed);
        source(&at, settings)
            .read(&repository, Use::Trained, false, None, rng)
            .expect("samples")
            .samples
    };
    let all = draw(json!({"shuffle": true}), 7);
    let some = draw(json!({"shuffle": true, "skip": 10, "take": 20}), 7);
    assert_eq!(some, all[10..30]);
    assert_ne!(all, draw(json!({"shuffle": true}), 8));
    let mut sorted: Vec<String> = all.iter().map(|each| each.ask.shown()).collect();
    sorted.sort();
    let mut whole: Vec<String> = (0..100).map(|number| sample(number).ask.shown()).collect();
    whole.sort();
    assert_eq!(sorted, whole);
}

#[test]
fn invalid_rows_do_not_count_for_skip_and_take() {
    let mut rows: Vec<_> = (0..10).map(row).collect();
    rows[1]["response"] = json!(null);
    rows[4]["prompt"] = json!([1]);
    let directory = directory(&[("a.jsonl", &lines(rows))]);
    let source = source(&directory.path().join("a.jsonl"), json!({"skip": 2, "take": 3}));
    assert!(matches!(read(&source), Err(Error::Row { place, .. }) if place.ends_with("a.jsonl:2")));
    let loaded = read_as(&source, Use::Trained, true).expect("the good ones");
    assert_eq!(loaded.samples, [3, 5, 6].map(sample));
    assert_eq!((loaded.origin.bad, loaded.origin.skipped), (2, 2));
    assert_says(&loaded.origin.bad_rows[1].place, &["a.jsonl:5"]);
    assert_says(&loaded.origin.bad_rows[1].problem, &["`prompt`", "turn 1"]);
}

#[test]
fn files_have_a_digest() {
    let text = lines((0..3).map(row));
    let directory = directory(&[("data/train-00000-of-00001.jsonl", &text)]);
    let loaded = read(&source(directory.path(), json!({}))).expect("samples");
    let [file] = &loaded.origin.files[..] else { panic!("one file") };
    assert_eq!(
        (file.path.as_str(), file.bytes),
        ("data/train-00000-of-00001.jsonl", text.len() as u64)
    );
    assert_eq!(file.sha256.len(), 64);
    // There is only one file, so no split has to be chosen.
    assert_eq!(loaded.origin.source, directory.path().display().to_string());
    assert_eq!(loaded.origin.columns["completion"], "response");
}

#[test]
fn settings_are_documented_and_unknown_ones_rejected() {
    let settings = Source::settings();
    assert_eq!(settings.len(), 12);
    assert!(settings.iter().all(|setting| setting.meaning.len() > 20), "{settings:?}");
    let json = serde_json::to_value(Source::default()).expect("json");
    assert_eq!(json["schema"], "auto");
    assert_eq!(serde_json::from_value::<Source>(json).expect("a source"), Source::default());
    assert!(serde_json::from_value::<Source>(json!({"spilt": "train"})).is_err());
    let error =
        serde_json::from_value::<Source>(json!({"schema": "alpacca"})).expect_err("no such");
    assert_says(&error.to_string(), &["`alpacca`", "auto, messages"]);
    assert_eq!(Source::default().validate().expect_err("nowhere").key, "path");
}
