//! Pre-scan of pickles: refuses those that would not load in bounded memory.
//!
//! The pickle reader runs no code: it builds a tree of values and never calls what the pickle
//! names. But it copies memoised values, so that a kilobyte can ask for more nested copies than
//! there is memory; it allocates strings of any claimed length; and it drops trees recursively.
//! So the pickle is scanned here first, with size estimates in place of values, and the reader only
//! sees pickles that stay small.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;

/// The maximum size of the pickle in bytes; it names tensors and does not contain them.
const LONGEST: u64 = 16 << 20;

/// The maximum number of values created or copied; a thousand tensors take about fifty thousand.
const MOST_PARTS: u64 = 1 << 18;

/// The maximum bytes of text created or copied.
const MOST_TEXT: u64 = 16 << 20;

/// Values, or bytes of text, allowed per byte of the pickle. PyTorch's pickles need about one.
const PER_BYTE: u64 = 8;

/// Values and bytes of text allowed for any pickle.
const FREE: u64 = 4096;

/// The maximum nesting depth; a state dictionary has about six levels.
const DEEPEST: u32 = 64;

const BROKEN: &str = "its pickle is broken";

/// Checks every pickle that the reader would open in the zip archive `file`.
pub fn check(file: &Path) -> Result<(), String> {
    let archive = File::open(file).map_err(|error| error.to_string())?;
    let mut archive =
        ZipArchive::new(BufReader::new(archive)).map_err(|error| error.to_string())?;
    let names: Vec<String> =
        archive.file_names().flatten().map(std::borrow::Cow::into_owned).collect();
    for name in names.iter().filter(|name| name.ends_with("data.pkl")) {
        let pickle = archive.by_name(name).map_err(|error| error.to_string())?;
        let pickle = crate::all(pickle, LONGEST).map_err(|error| format!("{name}: {error}"))?;
        Scan::new(&pickle).run().map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}

/// The estimated size of a value.
#[derive(Clone, Copy, Default)]
struct SizeEstimate {
    parts: u64,
    text: u64,
    depth: u32,
}

impl SizeEstimate {
    /// This value with the values of `inner` inside it.
    fn around(self, inner: impl IntoIterator<Item = SizeEstimate>) -> Self {
        inner.into_iter().fold(self, |all, one| Self {
            parts: all.parts.saturating_add(one.parts),
            text: all.text.saturating_add(one.text),
            depth: all.depth.max(one.depth + 1),
        })
    }
}

/// An entry of the pickle machine's stack.
#[derive(Clone, Copy)]
enum Item {
    Mark,
    Value(SizeEstimate),
}

struct Scan<'a> {
    rest: &'a [u8],
    stack: Vec<Item>,
    memo: HashMap<u32, SizeEstimate>,
    made: SizeEstimate,
    most: SizeEstimate,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Scan<'a> {
    fn new(pickle: &'a [u8]) -> Self {
        let allowed = FREE + PER_BYTE * pickle.len() as u64;
        let (parts, text) = (allowed.min(MOST_PARTS), allowed.min(MOST_TEXT));
        Self {
            rest: pickle,
            stack: Vec::new(),
            memo: HashMap::new(),
            made: SizeEstimate::default(),
            most: SizeEstimate { parts, text, depth: DEEPEST },
        }
    }

    fn run(mut self) -> Step {
        while self.operation()? {}
        Ok(())
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BROKEN)?;
        self.rest = rest;
        Ok(taken)
    }

    /// Reads a little-endian number of `bytes` bytes.
    fn number(&mut self, bytes: usize) -> Step<u32> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn line(&mut self) -> Step<u64> {
        let length = self.rest.iter().position(|byte| *byte == b'\n').ok_or(BROKEN)?;
        self.take(length + 1)?;
        Ok(length as u64)
    }

    /// Pushes a value that takes memory of its own.
    fn make(&mut self, value: SizeEstimate) -> Step {
        self.made = self.made.around([value]);
        if self.made.parts > self.most.parts || self.made.text > self.most.text {
            return Err("its pickle creates or copies too many values".to_owned());
        }
        self.put(value)
    }

    /// Pushes a value that is built from values already counted.
    fn put(&mut self, value: SizeEstimate) -> Step {
        if value.depth > DEEPEST {
            return Err(format!("its pickle is nested deeper than {DEEPEST} levels"));
        }
        self.stack.push(Item::Value(value));
        Ok(())
    }

    fn text(&mut self, length: u64) -> Step {
        self.make(SizeEstimate { parts: 1, text: length, depth: 0 })
    }

    fn plain(&mut self) -> Step {
        self.text(0)
    }

    fn pop(&mut self) -> Step<SizeEstimate> {
        match self.stack.pop() {
            Some(Item::Value(value)) => Ok(value),
            // The reader treats a mark as an empty value.
            Some(Item::Mark) => Ok(SizeEstimate::default()),
            None => Err(BROKEN.to_owned()),
        }
    }

    fn pop_to_mark(&mut self) -> Step<SizeEstimate> {
        let mut all = SizeEstimate::default();
        loop {
            match self.stack.pop() {
                Some(Item::Value(value)) => all = all.around([value]),
                Some(Item::Mark) => return Ok(all),
                None => return Err(BROKEN.to_owned()),
            }
        }
    }

    /// Pushes a new value that contains `inner`.
    fn wrap(&mut self, inner: impl IntoIterator<Item = SizeEstimate>) -> Step {
        self.make(SizeEstimate { parts: 1, ..SizeEstimate::default() })?;
        self.stack.pop();
        self.put(SizeEstimate { parts: 1, ..SizeEstimate::default() }.around(inner))
    }

    fn wrap_last(&mut self, count: usize) -> Step {
        let inner: Vec<SizeEstimate> = (0..count).map(|_| self.pop()).collect::<Step<_>>()?;
        self.wrap(inner)
    }

    fn add_to_last(&mut self, inner: SizeEstimate) -> Step {
        let last = self.pop()?;
        self.put(last.around([inner]))
    }

    /// Executes one opcode; returns whether another follows.
    fn operation(&mut self) -> Step<bool> {
        let code = self.take(1)?[0];
        match code {
            0x80 => _ = self.take(1)?,
            b'c' => {
                let length = self.line()? + self.line()?;
                self.text(length)?;
            }
            b'X' => {
                let length = self.number(4)?;
                self.take(length as usize)?;
                self.text(u64::from(length))?;
            }
            b'K' => self.take(1).and_then(|_| self.plain())?,
            b'M' => self.take(2).and_then(|_| self.plain())?,
            b'J' => self.take(4).and_then(|_| self.plain())?,
            b'G' => self.take(8).and_then(|_| self.plain())?,
            0x8a => {
                let length = self.number(1)?;
                self.take(length as usize)?;
                self.plain()?;
            }
            b'N' | 0x88 | 0x89 | b')' | b'}' | b'd' | b']' => self.plain()?,
            b'(' => self.stack.push(Item::Mark),
            b't' => {
                let inner = self.pop_to_mark()?;
                self.wrap([inner])?;
            }
            b'Q' | 0x85 => self.wrap_last(1)?,
            // A callable with arguments, an object with state, or a pair.
            b'R' | 0x81 | b'b' | 0x86 => self.wrap_last(2)?,
            0x87 => self.wrap_last(3)?,
            b'a' => {
                let value = self.pop()?;
                self.add_to_last(value)?;
            }
            b's' => {
                let pair = [self.pop()?, self.pop()?];
                self.add_to_last(SizeEstimate::default().around(pair))?;
            }
            b'e' | b'u' => {
                let values = self.pop_to_mark()?;
                self.add_to_last(values)?;
            }
            b'q' | b'r' => {
                let name = self.number(if code == b'q' { 1 } else { 4 })?;
                let value = self.pop()?;
                self.make(value)?;
                self.memo.insert(name, value);
            }
            b'h' | b'j' => {
                let name = self.number(if code == b'h' { 1 } else { 4 })?;
                let value = *self.memo.get(&name).ok_or(BROKEN)?;
                self.make(value)?;
            }
            b'.' => return Ok(false),
            other => {
                return Err(format!(
                    "its pickle has the operation {other:#04x}, which no \
                                         dictionary of tensors needs"
                ));
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(pickle: &[u8]) -> Step {
        Scan::new(pickle).run()
    }

    #[test]
    fn copies_of_copies_are_rejected() {
        // A memoised value; a memoised pair of it; and so on: 2^30 values in 300 bytes.
        let mut bomb = vec![0x80, 2, b'K', 1, b'q', 0];
        for name in 0..30 {
            bomb.extend([b'h', name, b'h', name, 0x86, b'q', name + 1]);
        }
        bomb.push(b'.');
        assert!(scan(&bomb).expect_err("a bomb").contains("copies too many"));
        let text = [&[b'X', 0, 0, 0, 1][..], &[b'x'; 1 << 24], b"q\0"].concat();
        let copies = [text, b"h\0".repeat(20), b".".to_vec()].concat();
        assert!(scan(&copies).expect_err("a bomb").contains("copies too many"));
    }

    #[test]
    fn depth_and_length_are_limited() {
        let deep = [b"N".to_vec(), vec![0x85; 100_000], b".".to_vec()].concat();
        assert!(scan(&deep).expect_err("deep").contains("deeper"));
        let marks = [b"(".repeat(1000), b"N".to_vec(), b"t".repeat(1000), b".".to_vec()].concat();
        assert!(scan(&marks).expect_err("deep").contains("deeper"));
        // Four gigabytes of text, in six bytes.
        assert_eq!(scan(&[b'X', 255, 255, 255, 255, b'.']), Err(BROKEN.to_owned()));
        for broken in [&b""[..], b"t.", b"h\0.", b"cos\nsystem", b"R.", b"a."] {
            assert_eq!(scan(broken), Err(BROKEN.to_owned()), "{broken:?}");
        }
        assert!(scan(b"I1\n.").expect_err("not known").contains("0x49"));
    }

    #[test]
    fn calls_are_not_executed() {
        // A pickle that calls `os.system("true")` is scanned only.
        assert_eq!(scan(b"cos\nsystem\nX\x04\0\0\0true\x85R."), Ok(()));
    }
}
