//! The files of a split.

use serde_json::{Value, json};
use vxf_data::{Loaded, Result};

use crate::common::{assert_says, directory, gzip, lines, read, sample, source};

/// A file with the sample of this number.
fn file(number: usize) -> Vec<u8> {
    lines([crate::common::row(number)])
}

/// The numbers of the samples that are read.
fn chosen(files: &[(&str, Vec<u8>)], settings: Value) -> Result<Vec<usize>, String> {
    let files: Vec<_> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    let directory = directory(&files);
    let loaded = read(&source(directory.path(), settings)).map_err(|error| error.to_string())?;
    let number = |each| (0..100).find(|number| sample(*number) == each).expect("a placeholder");
    Ok(loaded.samples.into_iter().map(number).collect())
}

#[test]
fn a_card_decides() {
    let card = "---\nlicense: mit\nconfigs:\n- config_name: default\n  data_files:\n  - split: 330k_train\n    path: round0/330k/train.jsonl.xz\n  - split: 30k_train\n    path: round0/30k/train.jsonl.gz\n  - split: 30k_test\n    path: round0/30k/test.jsonl.gz\n---\ntext\n";
    let files = [
        ("README.md", card.as_bytes().to_vec()),
        ("round0/30k/train.jsonl.gz", gzip(&file(1))),
        ("round0/30k/test.jsonl.gz", gzip(&file(2))),
        ("round0/330k/train.jsonl.xz", b"packed".to_vec()),
    ];
    assert_eq!(chosen(&files, json!({"split": "30k_train"})), Ok(vec![1]));
    assert_eq!(chosen(&files, json!({"split": "30k_test"})), Ok(vec![2]));
    let error = chosen(&files, json!({})).expect_err("which?");
    assert_says(&error, &["which `split`?", "30k_test, 30k_train, 330k_train", "write `split = "]);
    let error = chosen(&files, json!({"split": "train[:10]"})).expect_err("no slices");
    assert_says(&error, &["no split `train[:10]`", "30k_train", "`skip` and `take`"]);
    let error = chosen(&files, json!({"split": "330k_train"})).expect_err("packed");
    assert_says(&error, &["train.jsonl.xz", "unpack it"]);
    let error = chosen(&files, json!({"config": "main"})).expect_err("no such");
    assert_says(&error, &["no configuration `main`", "default"]);
    // Without the card, the names of the files give the same splits.
    assert_eq!(chosen(&files[1..], json!({"split": "30k_test"})), Ok(vec![2]));
    assert_eq!(chosen(&files[1..], json!({"config": "30k", "split": "train"})), Ok(vec![1]));
}

#[test]
fn configurations_have_their_own_files() {
    let card = "---\nconfigs:\n  - config_name: main\n    default: true\n    data_files:\n      - split: train\n        path: [\"main/b-*.jsonl\", main/a.jsonl]\n      - split: test\n        path: main/none-*\n  - config_name: other\n    data_dir: other\n---\n";
    let files = [
        ("README.md", card.as_bytes().to_vec()),
        ("main/a.jsonl", file(1)),
        ("main/b-2.jsonl", file(3)),
        ("main/b-1.jsonl", file(2)),
        ("other/validation.jsonl", file(4)),
    ];
    assert_eq!(chosen(&files, json!({})), Ok(vec![2, 3, 1]));
    assert_eq!(chosen(&files, json!({"config": "other", "split": "validation"})), Ok(vec![4]));
    let error = chosen(&files, json!({"split": "test"})).expect_err("no files");
    assert_says(&error, &["`test`", "README.md", "not there"]);
}

#[test]
fn file_names_decide_without_a_card() {
    for (files, settings, expected) in [
        // Numbered shards of any split, in order.
        (
            &[
                "data/train-00001-of-00002.jsonl",
                "data/train-00000-of-00002.jsonl",
                "data/odd-00000-of-00001.jsonl",
            ][..],
            json!({}),
            &[1, 0][..],
        ),
        (
            &["data/train-00000-of-00001.jsonl", "data/odd-00000-of-00001-abc.jsonl"],
            json!({"split": "odd"}),
            &[1],
        ),
        (
            &["main/train-00000-of-00001.jsonl", "more/train-00000-of-00001.jsonl"],
            json!({"config": "more"}),
            &[1],
        ),
        // Directories.
        (&["train/a.jsonl", "train/deep/b.jsonl", "test/a.jsonl"], json!({}), &[0, 1]),
        (&["my-dev/a.jsonl", "other/a.jsonl"], json!({"split": "validation"}), &[0]),
        // Names.
        (&["train.jsonl", "test.jsonl"], json!({}), &[0]),
        (&["data/my_train_file.json", "data/eval.json"], json!({"split": "test"}), &[1]),
        (&["train_1.jsonl", "train_0.jsonl"], json!({}), &[1, 0]),
        (&["val.jsonl"], json!({}), &[0]),
        // Names that a card would define.
        (&["30k/train.jsonl", "30k/test.jsonl"], json!({"split": "30k_train"}), &[0]),
        (&["30k_train.jsonl", "30k_test.jsonl"], json!({"split": "30k_test"}), &[1]),
        // One file of any name; metadata files do not count.
        (&["anything.jsonl"], json!({}), &[0]),
        (
            &["deep/anything.jsonl", "dataset_infos.json", ".hidden.jsonl"],
            json!({"split": "train"}),
            &[0],
        ),
        // Files without a split name are splits of their own.
        (&["sst2.json", "gsm8k.json"], json!({"split": "gsm8k"}), &[1]),
    ] {
        let files: Vec<_> =
            files.iter().enumerate().map(|(number, name)| (*name, file(number))).collect();
        let names: Vec<_> = files.iter().map(|(name, _)| name).collect();
        assert_eq!(chosen(&files, settings), Ok(expected.to_vec()), "{names:?}");
    }
}

#[test]
fn ambiguous_selections_are_errors() {
    for (files, settings, parts) in [
        (&["sst2.json", "gsm8k.json"][..], json!({}), &["which `split`?", "gsm8k, sst2"][..]),
        (
            &["train.jsonl", "test.jsonl"],
            json!({"split": "validation"}),
            &["`validation`; there are test, train"],
        ),
        (&["a/train.jsonl", "b/train.jsonl"], json!({}), &["`config`", "a, b"]),
        (&["a/train.jsonl"], json!({"config": "c"}), &["directory `c`; there are a"]),
        (
            &["train.jsonl", "train.json"],
            json!({}),
            &["more than one format", "train.json, train.jsonl"],
        ),
        (&["train.xlsx", "notes.txt"], json!({}), &["no .jsonl", "notes.txt, train.xlsx"]),
        (&[], json!({}), &["empty"]),
    ] {
        let files: Vec<_> = files.iter().map(|name| (*name, file(0))).collect();
        assert_says(&chosen(&files, settings).expect_err("unclear"), parts);
    }
    let directory = directory(&[("a.jsonl", &file(0))]);
    let one = source(&directory.path().join("a.jsonl"), json!({"split": "train"}));
    let error = read(&one).expect_err("a file has no split").to_string();
    assert_says(&error, &["a.jsonl", "this is a single file"]);
}

/// The data set of a file and a card with this front matter.
fn described(card: &str, file: &str, text: &str, settings: Value) -> Result<Loaded> {
    let card = format!("---\n{card}\n---\n# Card\n");
    let directory = directory(&[("README.md", card.as_bytes()), (file, text.as_bytes())]);
    read(&source(directory.path(), settings))
}

#[test]
fn settings_of_the_reader_are_used_refused_or_told() {
    let card = |settings: &str, file: &str| {
        format!("configs:\n- config_name: default\n  {settings}\n  data_files: {file}")
    };
    let answers = |loaded: Loaded| -> Vec<String> {
        loaded.samples.into_iter().map(|sample| sample.answer).collect()
    };
    let table = "prompt;completion\na;b\nc;d\n";
    let read = described(&card("sep: ;", "a.csv"), "a.csv", table, json!({})).expect("a table");
    assert_eq!(answers(read), ["b", "d"]);
    let document = r#"{"data": [{"prompt": "a", "completion": "wrong"}],
        "rows": [{"prompt": "a", "completion": "b"}], "more": 1}"#;
    for file in ["a.json", "a.jsonl"] {
        let card = card("field: rows", file);
        let read = described(&card, file, document, json!({})).expect("a document");
        assert_eq!(answers(read), ["b"]);
    }
    for (field, text, parts) in [
        ("lines", document, ["a.json", "list `lines`", "data, rows, more"]),
        ("rows", "[{\"prompt\": \"a\"}]", ["a.json", "list `rows` of README.md", "found `[`"]),
    ] {
        let card = card(&format!("field: {field}"), "a.json");
        let error = described(&card, "a.json", text, json!({})).expect_err("no such list");
        assert_says(&error.to_string(), &parts);
    }
    for setting in ["names: [completion, prompt]", "skiprows: 1", "quoting: 3", "header: null"] {
        let refused = described(&card(setting, "a.csv"), "a.csv", table, json!({}));
        let key = setting.split(':').next().expect("a key");
        let parts = ["README.md, configuration `default`", &format!("`{key}`"), "a.csv\""];
        assert_says(&refused.expect_err(setting).to_string(), &parts);
    }
    let row = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let card = card("new_thing: 5\n  version: 1.0.0", "a.jsonl");
    let read = described(&card, "a.jsonl", row, json!({})).expect("a row");
    let told = "README.md, configuration `default`: `new_thing` is unknown and not used";
    assert_eq!(read.origin.remarks, [told]);
    // Only the configuration that is read counts, and a file that is named itself has no card.
    let other = format!("{card}\n- config_name: other\n  skiprows: 1\n  data_files: a.jsonl");
    assert!(described(&other, "a.jsonl", row, json!({})).is_ok());
    assert!(described(&other, "a.jsonl", row, json!({"config": "other"})).is_err());
}

#[test]
fn a_card_names_the_classes_of_labels() {
    let rows = "{\"sentence\": \"warm\", \"label\": 0}\n{\"sentence\": \"cold\", \"label\": 1}\n";
    let info = |names: &str| {
        format!(
            "dataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        \
             names: {names}"
        )
    };
    let configs = "\nconfigs:\n- config_name: default\n  data_files: a.jsonl";
    for (names, expected) in [
        ("{'0': positive, '1': negative}", ["positive", "negative"]),
        ("{'1': Pos, '0': NEG}", ["negative", "positive"]),
        ("[positive, negative]", ["positive", "negative"]),
    ] {
        for card in [info(names), info(names) + configs] {
            let loaded = described(&card, "a.jsonl", rows, json!({})).expect("known names");
            let answers = loaded.samples.iter().map(|sample| sample.answer.as_str());
            assert_eq!(answers.collect::<Vec<_>>(), expected, "{card}");
        }
    }
    let card = info("[sad, glad]") + configs;
    let error = described(&card, "a.jsonl", rows, json!({})).expect_err("other names").to_string();
    let parts = ["a.jsonl", "README.md (dataset_info)", "`label` sad, glad", "negative, positive"];
    assert_says(&error, &parts);
    // A schema without labels reads the column as it is.
    let settings = json!({"columns": {"prompt": "sentence", "completion": "label"}});
    assert!(described(&card, "a.jsonl", rows, settings).is_ok());
}

#[test]
fn an_older_description_names_the_classes_of_labels() {
    let rows = "{\"sentence\": \"warm\", \"label\": 0}\n{\"sentence\": \"cold\", \"label\": 1}\n";
    let info =
        |names: &[&str]| json!({"features": {"label": {"names": names, "_type": "ClassLabel"}}});
    let read_with = |infos: &str, card: &str, settings: Value| {
        let files = [("README.md", card), ("dataset_infos.json", infos), ("a.jsonl", rows)];
        let directory = directory(&files.map(|(name, text)| (name, text.as_bytes())));
        read(&source(directory.path(), settings)).map_err(|error| error.to_string())
    };
    let answers =
        |loaded: Loaded| loaded.samples.into_iter().map(|it| it.answer).collect::<Vec<_>>();
    let (swapped, usual, other) =
        (info(&["positive", "negative"]), info(&["neg", "pos"]), info(&["sad", "glad"]));
    let card = "---\nconfigs:\n- config_name: default\n  data_files: a.jsonl\n---\n";
    for (infos, card, expected) in [
        (json!({"default": swapped}), "", ["positive", "negative"]),
        (json!({"default": usual}), "", ["negative", "positive"]),
        // A single description is that of the default configuration, with any name.
        (json!({"someone--set": swapped}), card, ["positive", "negative"]),
        (json!({"default": swapped, "other": other}), card, ["positive", "negative"]),
        // Without a list of configurations, any may be meant, and one fits.
        (json!({"a": swapped, "b": other}), "", ["positive", "negative"]),
        // With one, none is.
        (json!({"a": swapped, "b": other}), card, ["negative", "positive"]),
        (json!([]), card, ["negative", "positive"]),
    ] {
        let loaded = read_with(&infos.to_string(), card, json!({})).expect("known names");
        assert_eq!(answers(loaded), expected, "{infos}");
    }
    let odd =
        json!({"a": {"features": {"label": {"names": [1], "_type": "ClassLabel"}}}}).to_string();
    for (infos, says) in [
        (
            &*json!({"a": other}).to_string(),
            "dataset_infos.json (`a`) names the classes of `label` sad, glad",
        ),
        (&odd, "dataset_infos.json (`a`) has `names` of the column `label`"),
        ("{", "dataset_infos.json is not JSON"),
    ] {
        let error = read_with(infos, card, json!({})).expect_err(says);
        assert_says(&error, &["a.jsonl", says]);
        // A schema without labels reads the column as it is.
        let settings = json!({"columns": {"prompt": "sentence", "completion": "label"}});
        assert!(read_with(infos, card, settings).is_ok(), "{infos}");
    }
    let contrary = card.replace(
        "configs",
        "dataset_info: {features: [{name: label, dtype: {class_label: {names: [neg, pos]}}}]}\nconfigs",
    );
    let error = read_with(&json!({"default": swapped}).to_string(), &contrary, json!({}));
    let parts = ["README.md (dataset_info) and its dataset_infos.json (`default`)", "differently"];
    assert_says(&error.expect_err("they differ"), &parts);
}
