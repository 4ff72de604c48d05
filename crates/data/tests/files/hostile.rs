//! Damaged files never cause a panic or an endless loop, and errors name the file.

use std::io::Write;

use parquet::basic::Compression;
use proptest::prelude::*;
use serde_json::{Value, json};

use vxf_data::Use;

use crate::common::{assert_says, directory, fault, gzip, lines, read_as, row, source};
use crate::parquet::{as_pairs, every_kind, packed, pairs};

/// One change to a file's bytes.
#[derive(Clone, Debug)]
enum Damage {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        4 => (at(), 0_u8..8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), 1_usize..40).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..40))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), 1_usize..200).prop_map(|(at, length)| Damage::Repeat(at, length)),
    ]
}

impl Damage {
    /// Damages only the bytes after `from`.
    fn apply(&self, bytes: &mut Vec<u8>, from: usize) {
        let length = bytes.len();
        if length <= from {
            return;
        }
        let place = |at: &prop::sample::Index| from + at.index(length - from);
        match self {
            Self::Set(at, byte) => bytes[place(at)] = *byte,
            Self::Flip(at, bit) => bytes[place(at)] ^= 1 << bit,
            Self::Cut(at) => bytes.truncate(place(at)),
            Self::Remove(at, count) => {
                let at = place(at);
                bytes.drain(at..(at + count).min(length));
            }
            Self::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Repeat(at, count) => {
                let at = place(at);
                let again = bytes[at..(at + count).min(length)].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

/// Reads a damaged file with and without skipping invalid rows.
fn survives(name: &str, bytes: &[u8], settings: Value) -> Result<(), TestCaseError> {
    let directory = directory(&[(name, bytes)]);
    let source = source(&directory.path().join(name), settings);
    for (usage, skip_bad_rows) in [(Use::Trained, false), (Use::Asked, true)] {
        if let Err(error) = read_as(&source, usage, skip_bad_rows) {
            let error = error.to_string();
            prop_assert!(error.contains(name), "{error}");
            prop_assert!(error.len() < 3000, "{error}");
        }
    }
    Ok(())
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(damage(), 1..5)
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage], from: usize) -> Vec<u8> {
    damages.iter().for_each(|damage| damage.apply(&mut bytes, from));
    bytes
}

fn conversation(number: usize) -> Value {
    json!({"messages": [
        {"role": "user", "content": format!("placeholder request {number} \u{e9} \"[{{")},
        {"role": "assistant", "content": "placeholder answer"},
    ]})
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 200, ..Default::default() })]

    #[test]
    fn lines_survive(damages in damages(), turns: bool) {
        let rows = (0..12).map(if turns { conversation } else { row });
        survives("x.jsonl", &damaged(lines(rows), &damages, 0), json!({}))?;
    }

    #[test]
    fn documents_survive(damages in damages(), pretty: bool, wrapped: bool) {
        let rows: Vec<Value> = (0..12).map(row).collect();
        let value = if wrapped { json!({"version": "1", "data": rows}) } else { json!(rows) };
        let bytes = match pretty {
            true => serde_json::to_vec_pretty(&value),
            false => serde_json::to_vec(&value),
        };
        survives("x.json", &damaged(bytes.expect("json"), &damages, 0), json!({}))?;
    }

    #[test]
    fn packed_files_survive(damages in damages(), document: bool) {
        let rows: Vec<Value> = (0..12).map(row).collect();
        match document {
            true => {
                let bytes = gzip(&serde_json::to_vec(&rows).expect("json"));
                survives("x.json.gz", &damaged(bytes, &damages, 0), json!({}))?;
            }
            false => {
                survives("x.jsonl.gz", &damaged(gzip(&lines(rows)), &damages, 0), json!({}))?;
            }
        }
    }

    #[test]
    fn cards_survive(damages in damages(), split in "[a-z_]{0,8}") {
        let card = b"---\nconfigs:\n- config_name: a\n  data_files:\n  - split: train\n    path: \"t*.jsonl\"\n  - split: test\n    path:\n    - x/**\n---\n";
        let card = damaged(card.to_vec(), &damages, 4);
        let directory = directory(&[("README.md", &card), ("train.jsonl", &lines([row(1)]))]);
        let source = source(directory.path(), json!({"split": split}));
        if let Err(error) = read_as(&source, Use::Trained, false) {
            prop_assert!(error.to_string().contains(&source.path), "{error}");
        }
    }
}

/// Silences the parquet crate's assertions, which the reader turns into errors.
#[allow(clippy::disallowed_methods, reason = "a test program's own hook")]
fn quieten() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !vxf_untrusted::is_panic_expected() {
                hook(panic);
            }
        }));
    });
}

/// Parquet files of every kind, damaged from the offset `from` on.
fn parquets(cases: u32, from: impl Fn(&[u8]) -> usize) {
    let files: Vec<_> =
        every_kind().into_iter().map(|(name, kind)| (name, pairs(kind, 2, 30))).collect();
    quieten();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters: 100,
        ..Default::default()
    });
    let result = runner.run(&(0..files.len(), damages()), |(kind, damages)| {
        let (_, bytes) = &files[kind];
        let start = from(bytes);
        survives("x.parquet", &damaged(bytes.clone(), &damages, start), as_pairs())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn parquet_files_survive() {
    parquets(400, |_| 4);
}

#[test]
fn parquet_footers_survive() {
    parquets(400, |bytes| {
        let end = bytes.len() - 8;
        let length = u32::from_le_bytes(bytes[end..end + 4].try_into().expect("four bytes"));
        end - length as usize
    });
}

/// The file with its footer replaced.
fn with_footer(bytes: &[u8], change: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 8;
    let length = u32::from_le_bytes(bytes[end..end + 4].try_into().expect("four bytes")) as usize;
    let footer = change(&bytes[end - length..end]);
    let mut file = bytes[..end - length].to_vec();
    file.extend(&footer);
    file.extend((footer.len() as u32).to_le_bytes());
    file.extend(b"PAR1");
    file
}

#[test]
fn claimed_sizes_are_checked() {
    let good = pairs(packed(Compression::UNCOMPRESSED), 1, 30);
    // A schema of one element that claims two billion children.
    let children = with_footer(&good, |_| {
        let mut footer = vec![0x15, 4, 0x19, 0x1c];
        footer.extend([0x48, 1, b's', 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0]);
        footer.extend([0x16, 0, 0x19, 0x0c, 0]);
        footer
    });
    assert_says(&fault("c.parquet", &children, json!({})), &["inner columns", "damaged"]);
    // Columns nested a hundred thousand deep.
    let deep = with_footer(&good, |_| {
        let mut footer = vec![0x15, 4, 0x19, 0xfc];
        footer.extend([0xa0, 0x8d, 0x06]);
        for _ in 0..100_000 {
            footer.extend([0x35, 2, 0x18, 1, b's', 0x15, 2, 0]);
        }
        footer.extend([0x16, 0, 0x19, 0x0c, 0]);
        footer
    });
    assert_says(&fault("d.parquet", &deep, json!({})), &["d.parquet", "nested deeper"]);
    // A page of a few bytes that claims to expand to two gigabytes.
    for compression in [Compression::SNAPPY, Compression::UNCOMPRESSED] {
        let mut page = pairs(packed(compression), 1, 30);
        // Its header begins after the magic: type, then the size.
        assert_eq!(page[4], 0x15);
        let sizes = 7..9;
        assert!(page[sizes.clone()].iter().any(|byte| byte & 0x80 != 0));
        page.splice(sizes, [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_says(&fault("p.parquet", &page, as_pairs()), &["p.parquet: after row 0"]);
    }
}

#[test]
fn the_size_of_a_gzipped_page_is_limited() {
    let mut bytes = pairs(every_kind().remove(2).1, 1, 30);
    // Replaces the first page's bytes by the beginning of a gzipped megabyte of zeros.
    let mut flood = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    flood.write_all(&vec![0; 1 << 20]).expect("into memory");
    let flood = flood.finish().expect("into memory");
    let at = bytes.windows(2).position(|pair| pair == [0x1f, 0x8b]).expect("a packed page");
    let length = 100.min(flood.len());
    bytes[at..at + length].copy_from_slice(&flood[..length]);
    assert_says(&fault("g.parquet", &bytes, as_pairs()), &["g.parquet: after row 0"]);
}
