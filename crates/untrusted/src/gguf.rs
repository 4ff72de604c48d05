//! Reads the header of a GGUF file: its metadata, and where its tensors are.
//!
//! Layout (version 2 and 3, little-endian): magic, version, number of tensors, number of entries;
//! the entries (key, type, value); for each tensor its name, sizes (the innermost first), type and
//! offset; then, aligned, the data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value};

/// The first bytes of every GGUF file.
const MAGIC: &[u8; 4] = b"GGUF";
/// The most bytes of a header; the largest vocabularies need about twenty MiB.
const LONGEST_HEADER: u64 = 128 << 20;
/// The most values in all lists together; a vocabulary has a list each of tokens, scores and types.
const MOST_VALUES: u64 = 1 << 22;
/// The most tensors and entries.
const MOST: u64 = 1 << 16;
/// The largest alignment of the data.
const LARGEST_ALIGNMENT: u64 = 1 << 16;

/// The header of a file.
#[derive(Debug)]
pub struct Gguf {
    /// The metadata by key.
    pub metadata: Map<String, Value>,
    /// The tensors by name.
    pub tensors: BTreeMap<String, GgufTensor>,
}

/// A tensor in a file.
#[derive(Clone, Debug)]
pub struct GgufTensor {
    /// Its sizes, the outermost first.
    pub shape: Vec<usize>,
    /// The code of its type.
    pub kind: u32,
    /// Where its bytes begin in the file.
    pub start: u64,
}

/// Reads the header of `path`.
///
/// # Errors
/// Says what is wrong, in a message that reads well after the file's name.
pub fn header(path: &Path) -> Result<Gguf, String> {
    let file = File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let length = file.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
    let mut source = Source { read: BufReader::new(file).take(LONGEST_HEADER), done: 0, values: 0 };
    if source.bytes::<4>()? != *MAGIC {
        crate::no_lfs_pointer(path)?;
        return Err("is not a GGUF file: it does not begin with `GGUF`".to_owned());
    }
    let version = source.u32()?;
    if !(2..=3).contains(&version) {
        return Err(format!("is of GGUF version {version}; supported are 2 and 3"));
    }
    let (tensors, entries) = (source.count("tensors")?, source.count("entries")?);
    let mut metadata = Map::new();
    for _ in 0..entries {
        let key = source.text()?;
        let kind = source.u32()?;
        let value = source.value(kind, true)?;
        metadata.insert(key, value);
    }
    let mut places = Vec::new();
    for _ in 0..tensors {
        let name = source.text()?;
        let sizes = source.u32()?;
        if sizes > 4 {
            return Err(format!("has a tensor `{name}` of {sizes} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..sizes {
            let size = usize::try_from(source.u64()?).ok().filter(|size| *size <= 1 << 32);
            shape.push(size.ok_or_else(|| format!("has a tensor `{name}` of an impossible size"))?);
        }
        shape.reverse();
        places.push((name, shape, source.u32()?, source.u64()?));
    }
    let alignment = metadata.get("general.alignment").and_then(Value::as_u64).unwrap_or(32);
    if !(1..=LARGEST_ALIGNMENT).contains(&alignment) {
        return Err(format!("has an alignment of {alignment} bytes"));
    }
    let data = source.done.next_multiple_of(alignment);
    let place = |(name, shape, kind, offset): (String, Vec<usize>, u32, u64)| {
        let start = data.checked_add(offset).filter(|start| *start <= length);
        let start = start.ok_or_else(|| format!("has a tensor `{name}` after its end"))?;
        Ok((name, GgufTensor { shape, kind, start }))
    };
    let tensors = places.into_iter().map(place).collect::<Result<_, String>>()?;
    Ok(Gguf { metadata, tensors })
}

/// The bytes of a header.
struct Source<R> {
    read: R,
    done: u64,
    /// Values of lists that were read so far.
    values: u64,
}

impl<R: Read> Source<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.read.read_exact(&mut bytes).map_err(|_| "ends within its header".to_owned())?;
        self.done += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &str) -> Result<u64, String> {
        match self.u64()? {
            count @ 0..=MOST => Ok(count),
            count => Err(format!("claims {count} {what}; no model has as many")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        let mut bytes = Vec::new();
        let read = self.read.by_ref().take(length).read_to_end(&mut bytes);
        if read.is_err() || bytes.len() as u64 != length {
            return Err("ends within its header".to_owned());
        }
        self.done += length;
        String::from_utf8(bytes).map_err(|_| "holds a text that is not UTF-8".to_owned())
    }

    /// A value of the type with code `kind`; lists of lists do not occur.
    fn value(&mut self, kind: u32, lists: bool) -> Result<Value, String> {
        Ok(match kind {
            0 => self.bytes::<1>()?[0].into(),
            1 => i8::from_le_bytes(self.bytes()?).into(),
            2 => u16::from_le_bytes(self.bytes()?).into(),
            3 => i16::from_le_bytes(self.bytes()?).into(),
            4 => self.u32()?.into(),
            5 => i32::from_le_bytes(self.bytes()?).into(),
            6 => f64::from(f32::from_le_bytes(self.bytes()?)).into(),
            7 => (self.bytes::<1>()?[0] != 0).into(),
            8 => self.text()?.into(),
            9 if lists => {
                let (kind, count) = (self.u32()?, self.u64()?);
                self.values = self.values.saturating_add(count);
                if self.values > MOST_VALUES {
                    return Err(format!("holds lists of more than {MOST_VALUES} values"));
                }
                (0..count).map(|_| self.value(kind, false)).collect::<Result<_, _>>()?
            }
            10 => self.u64()?.into(),
            11 => i64::from_le_bytes(self.bytes()?).into(),
            12 => f64::from_le_bytes(self.bytes()?).into(),
            kind => return Err(format!("holds a value of the unknown type {kind}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    /// A file with two entries and one tensor of four numbers.
    fn file() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend([1_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
        bytes.extend([text("name"), 8_u32.to_le_bytes().to_vec(), text("x")].concat());
        bytes.extend([text("list"), 9_u32.to_le_bytes().to_vec()].concat());
        bytes.extend(
            [&4_u32.to_le_bytes()[..], &2_u64.to_le_bytes(), &[1, 0, 0, 0, 2, 0, 0, 0]].concat(),
        );
        bytes.extend([text("w"), 2_u32.to_le_bytes().to_vec()].concat());
        bytes.extend([2_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
        bytes.extend([0_u32.to_le_bytes().to_vec(), 0_u64.to_le_bytes().to_vec()].concat());
        bytes.resize(bytes.len().next_multiple_of(32) + 16, 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Gguf, String> {
        let place = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(place.path(), bytes).expect("written");
        header(place.path())
    }

    #[test]
    fn a_header_is_read() {
        let read = read(&file()).expect("a header");
        assert_eq!(read.metadata["name"], "x");
        assert_eq!(read.metadata["list"], serde_json::json!([1, 2]));
        let tensor = &read.tensors["w"];
        assert_eq!((tensor.shape.as_slice(), tensor.kind), (&[2, 2][..], 0));
        assert_eq!(tensor.start as usize, file().len() - 16);
    }

    /// Every cut and every changed byte gives a header or an error, without large allocations.
    #[test]
    fn damaged_headers_are_refused() {
        let whole = file();
        for end in 0..whole.len() - 48 {
            assert!(read(&whole[..end]).is_err(), "cut after {end} bytes");
        }
        for at in 0..whole.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = read(&bytes);
            }
        }
        assert!(read(b"this is a text").expect_err("no magic").contains("not a GGUF file"));
    }
}
