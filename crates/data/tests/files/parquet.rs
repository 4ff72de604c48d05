//! Rows of Parquet files, written with the parquet crate.

use std::sync::Arc;

use parquet::basic::{BrotliLevel, Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use vxf_data::{Ask, Message, Role, Sample, Schema, Use};

use crate::common::{assert_says, directory, fault, read_as, read_file, sample, source};

const ROWS: usize = 300;

/// A column: values, and definition and repetition levels if it has them.
pub(crate) enum Column {
    Text(Vec<ByteArray>, Option<Vec<i16>>, Option<Vec<i16>>),
    Long(Vec<i64>, Option<Vec<i16>>),
    Double(Vec<f64>),
    Truth(Vec<bool>),
}

/// A file with this schema and these row groups.
pub(crate) fn file(schema: &str, properties: WriterProperties, groups: &[Vec<Column>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let mut writer =
        SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).expect("a writer");
    for columns in groups {
        let mut group = writer.next_row_group().expect("a group");
        for column in columns {
            match column {
                Column::Text(values, defined, repeated) => {
                    write::<ByteArrayType>(
                        &mut group,
                        values,
                        defined.as_deref(),
                        repeated.as_deref(),
                    );
                }
                Column::Long(values, defined) => {
                    write::<Int64Type>(&mut group, values, defined.as_deref(), None)
                }
                Column::Double(values) => write::<DoubleType>(&mut group, values, None, None),
                Column::Truth(values) => write::<BoolType>(&mut group, values, None, None),
            }
        }
        group.close().expect("a group");
    }
    writer.into_inner().expect("a file")
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    defined: Option<&[i16]>,
    repeated: Option<&[i16]>,
) {
    let mut column = group.next_column().expect("a column").expect("one more");
    column.typed::<T>().write_batch(values, defined, repeated).expect("values");
    column.close().expect("a column");
}

/// Texts without nulls.
pub(crate) fn texts(values: impl IntoIterator<Item = String>) -> Column {
    Column::Text(values.into_iter().map(|text| text.as_str().into()).collect(), None, None)
}

/// Texts, where `None` is null.
fn optional(values: &[Option<&str>]) -> Column {
    let defined = values.iter().map(|value| i16::from(value.is_some())).collect();
    let values = values.iter().flatten().map(|text| ByteArray::from(*text)).collect();
    Column::Text(values, Some(defined), None)
}

/// Placeholders in `groups` groups of `rows` rows, with the columns of BeaverTails.
pub(crate) fn pairs(properties: WriterProperties, groups: usize, rows: usize) -> Vec<u8> {
    let schema = "message schema {
        required binary prompt (UTF8);
        required binary response (UTF8);
        required binary kind (UTF8);
        optional int64 rank;
        required boolean is_safe;
        required double score;
    }";
    let group = |first: usize| {
        let numbers = first..first + rows;
        vec![
            texts(numbers.clone().map(|n| sample(n).ask.shown())),
            texts(numbers.clone().map(|n| sample(n).answer)),
            texts(numbers.clone().map(|n| format!("kind {}", n % 3))),
            Column::Long(
                numbers.clone().filter(|n| n % 2 == 0).map(|n| n as i64).collect(),
                Some(numbers.clone().map(|n| i16::from(n % 2 == 0)).collect()),
            ),
            Column::Truth(numbers.clone().map(|n| n % 3 == 0).collect()),
            Column::Double(numbers.map(|n| if n == 1 { f64::NAN } else { n as f64 }).collect()),
        ]
    };
    let groups: Vec<_> = (0..groups).map(|number| group(number * rows)).collect();
    file(schema, properties, &groups)
}

pub(crate) fn packed(compression: Compression) -> WriterProperties {
    WriterProperties::builder().set_compression(compression).build()
}

/// The writer properties of files on the hub, and some more.
pub(crate) fn every_kind() -> Vec<(&'static str, WriterProperties)> {
    let gzip = Compression::GZIP(GzipLevel::default());
    let encoded = |encoding| {
        WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_column_encoding("prompt".into(), encoding)
            .set_column_encoding("response".into(), encoding)
            .set_compression(Compression::SNAPPY)
    };
    let pages =
        WriterProperties::builder().set_data_page_row_count_limit(20).set_write_batch_size(10);
    vec![
        ("plain", packed(Compression::UNCOMPRESSED)),
        ("snappy", packed(Compression::SNAPPY)),
        ("gzip", packed(gzip)),
        ("zstd", packed(Compression::ZSTD(ZstdLevel::default()))),
        ("brotli", packed(Compression::BROTLI(BrotliLevel::default()))),
        ("lz4", packed(Compression::LZ4_RAW)),
        (
            "second version",
            WriterProperties::builder().set_writer_version(WriterVersion::PARQUET_2_0).build(),
        ),
        (
            "second version, gzip",
            WriterProperties::builder()
                .set_writer_version(WriterVersion::PARQUET_2_0)
                .set_compression(gzip)
                .set_dictionary_enabled(false)
                .build(),
        ),
        ("delta", encoded(Encoding::DELTA_BYTE_ARRAY).build()),
        ("delta lengths", encoded(Encoding::DELTA_LENGTH_BYTE_ARRAY).build()),
        ("no dictionary", WriterProperties::builder().set_dictionary_enabled(false).build()),
        ("many pages", pages.set_statistics_enabled(EnabledStatistics::Page).build()),
    ]
}

#[test]
fn every_kind_of_page_gives_the_same_rows() {
    let expected: Vec<_> = (0..2 * ROWS).map(sample).collect();
    for (name, properties) in every_kind() {
        let bytes = pairs(properties, 2, ROWS);
        let loaded = read_file("a.parquet", &bytes, json!({})).expect(name);
        assert_eq!(
            (&loaded.samples, loaded.schema),
            (&expected, Schema::PromptCompletion),
            "{name}"
        );
        let some = json!({"filter": {"is_safe": true, "kind": "kind 0", "rank": [6, 300, 303]}});
        let loaded = read_file("a.parquet", &bytes, some).expect(name);
        assert_eq!(loaded.samples, [6, 300].map(sample), "{name}");
    }
}

#[test]
fn nested_turns_become_lists_of_objects() {
    // As Python writes them: every level can be null.
    let schema = "message schema {
        optional group messages (LIST) {
            repeated group list {
                optional group element {
                    optional binary content (UTF8);
                    optional binary role (UTF8);
                }
            }
        }
    }";
    let conversations = [
        vec![("user", "ask 0"), ("assistant", "reply 0")],
        vec![("system", "be kind"), ("user", "ask 1"), ("assistant", "reply 1"), ("user", "more")],
    ];
    let mut columns = [Vec::new(), Vec::new()];
    let (mut defined, mut repeated) = (Vec::new(), Vec::new());
    for turns in conversations.iter().cycle().take(600) {
        for (number, (role, content)) in turns.iter().enumerate() {
            columns[0].push(ByteArray::from(*content));
            columns[1].push(ByteArray::from(*role));
            defined.push(4);
            repeated.push(i16::from(number > 0));
        }
    }
    let [contents, roles] = columns;
    let columns = vec![
        Column::Text(contents, Some(defined.clone()), Some(repeated.clone())),
        Column::Text(roles, Some(defined), Some(repeated)),
    ];
    let bytes = file(schema, packed(Compression::ZSTD(ZstdLevel::default())), &[columns]);
    let loaded = read_file("a.parquet", &bytes, json!({})).expect("conversations");
    assert_eq!((loaded.samples.len(), loaded.schema), (600, Schema::Messages));
    let turn = |role, content: &str| Message { role, content: content.into() };
    let first = Sample { ask: Ask::instruction("ask 0"), answer: "reply 0".into() };
    let ask = Ask::Messages(vec![turn(Role::System, "be kind"), turn(Role::User, "ask 1")]);
    let second = Sample { ask, answer: "reply 1".into() };
    assert_eq!(loaded.samples[598..], [first, second]);

    // A null list, an empty one, a null turn, and a turn without content.
    let levels = [0_i16, 1, 2, 3, 4];
    let columns = vec![
        Column::Text(vec!["ask".into()], Some(levels.to_vec()), Some(vec![0; 5])),
        Column::Text(vec!["user".into()], Some(levels.to_vec()), Some(vec![0; 5])),
    ];
    let bytes = file(schema, packed(Compression::SNAPPY), &[columns]);
    let directory = directory(&[("nulls.parquet", &bytes)]);
    let source = source(&directory.path().join("nulls.parquet"), json!({"schema": "messages"}));
    let loaded = read_as(&source, Use::Asked, true).expect("one that is asked");
    assert_eq!(loaded.samples, [Sample { ask: Ask::instruction("ask"), answer: String::new() }]);
    let problems: Vec<_> = loaded.origin.bad_rows.iter().map(|bad| bad.problem.as_str()).collect();
    assert_says(
        &problems.join("\n"),
        &["the turns are null", "no answer", "turn 1: it has no `role`", "turn 1: `role` is null"],
    );
    assert_says(&loaded.origin.bad_rows[0].place, &["nulls.parquet, row 1"]);
}

#[test]
fn nulls_are_not_empty_bytes() {
    let schema = "message schema {
        optional binary prompt (UTF8);
        optional binary response;
        required binary picture;
    }";
    let column = |values: [Option<&str>; 3]| optional(&values);
    let picture = Column::Text(vec![vec![0xff_u8, 0xfe].into(); 3], None, None);
    let columns = vec![
        column([Some("ask"), Some("ask"), None]),
        column([Some("reply"), None, Some("reply")]),
        picture,
    ];
    let bytes = file(schema, packed(Compression::SNAPPY), &[columns]);
    assert_says(
        &fault("b.parquet", &bytes, json!({})),
        &["b.parquet, row 2", "`response` is null"],
    );
    let loaded = read_file("b.parquet", &bytes, json!({"take": 1})).expect("the first");
    assert_eq!(loaded.samples[0].answer, "reply");
}

#[test]
fn files_without_rows_or_of_another_kind_are_errors() {
    let empty =
        file("message schema { required binary prompt (UTF8); }", packed(Compression::SNAPPY), &[]);
    assert_says(&fault("e.parquet", &empty, json!({})), &["there are no rows"]);
    assert_says(&fault("e.parquet", b"{\"prompt\": \"a\"}\n", json!({})), &["not a Parquet file"]);
    assert_says(&fault("e.parquet", b"PAR1", json!({})), &["not a Parquet file"]);
    let whole = pairs(packed(Compression::SNAPPY), 1, 50);
    let cut = &whole[..whole.len() - 30];
    assert_says(&fault("e.parquet", cut, json!({})), &["the end of the file is missing"]);
    let mut secret = whole.clone();
    let end = secret.len() - 4;
    secret[end..].copy_from_slice(b"PARE");
    assert_says(&fault("e.parquet", &secret, json!({})), &["encrypted"]);
    let mut long = whole;
    long[end - 4..end].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_says(&fault("e.parquet", &long, json!({})), &["damaged"]);
}

/// Settings for rows of any kind of fixture.
pub(crate) fn as_pairs() -> Value {
    json!({"schema": "prompt_completion"})
}

/// A file of two labelled sentences, with this description by the Python library `datasets`.
fn labelled(description: Option<&str>) -> Vec<u8> {
    let entry = description.map(|text| vec![KeyValue::new("huggingface".into(), text.to_owned())]);
    let properties = WriterProperties::builder().set_key_value_metadata(entry).build();
    let schema = "message schema { required binary sentence (UTF8); required int64 label; }";
    let sentences = texts(["warm", "cold"].map(str::to_owned));
    file(schema, properties, &[vec![sentences, Column::Long(vec![0, 1], None)]])
}

#[test]
fn metadata_names_the_classes_of_labels() {
    let named = |names: Value| {
        let label = json!({"_type": "ClassLabel", "names": names});
        json!({"info": {"features": {"label": label}}}).to_string()
    };
    for (description, expected) in [
        (None, ["negative", "positive"]),
        (Some(named(json!(["positive", "negative"]))), ["positive", "negative"]),
        (Some(named(json!(["neg", "pos"]))), ["negative", "positive"]),
        (Some(named(json!(null))), ["negative", "positive"]),
    ] {
        let bytes = labelled(description.as_deref());
        let loaded = read_file("a.parquet", &bytes, json!({})).expect("labels");
        let answers = loaded.samples.iter().map(|sample| sample.answer.as_str());
        assert_eq!(answers.collect::<Vec<_>>(), expected, "{description:?}");
    }
    let moods = labelled(Some(&named(json!(["sad", "glad", "cross"]))));
    let parts = ["metadata `huggingface`", "`label` sad, glad, cross", "negative, positive"];
    assert_says(&fault("a.parquet", &moods, json!({})), &parts);
    assert_says(&fault("a.parquet", &labelled(Some("{")), json!({})), &["not JSON"]);

    // A card that says the opposite of the file.
    let card = "---\ndataset_info:\n  features:\n  - name: label\n    dtype: {class_label: {names: \
                [negative, positive]}}\n---\n";
    let opposite = labelled(Some(&named(json!(["positive", "negative"]))));
    let directory = directory(&[("README.md", card.as_bytes()), ("a.parquet", &opposite)]);
    let error =
        read_as(&source(directory.path(), json!({})), Use::Trained, false).expect_err("two");
    let parts = ["a.parquet", "README.md (dataset_info) and its metadata", "0 (negative)"];
    assert_says(&error.to_string(), &parts);
    assert!(
        read_as(&source(&directory.path().join("a.parquet"), json!({})), Use::Trained, false)
            .is_ok()
    );
}
