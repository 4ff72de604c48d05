//! Whether a pickle can be taken apart in bounded memory, before anything is made of it.
//!
//! The reader that takes pickles apart runs no code: it makes a tree of what it meets and never
//! calls what the pickle names. But it copies what it is told to remember, so that a kilobyte can
//! ask for more copies of copies than there is memory; it makes room for texts as long as they are
//! said to be; and it takes trees apart by recursion. So the pickle is walked here first with sizes
//! in place of values, and the reader sees only those that stay small.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;

/// Bytes of the pickle itself, which names tensors and holds none of them.
const LONGEST: u64 = 16 << 20;

/// Parts that are made or copied in all; a thousand tensors take some fifty thousand.
const MOST_PARTS: u64 = 1 << 18;

/// Bytes of text that are made or copied in all.
const MOST_TEXT: u64 = 16 << 20;

/// Parts, or bytes of text, that each byte of a pickle may stand for. Those of PyTorch stand for
/// about one.
const PER_BYTE: u64 = 8;

/// Parts and bytes of text that any pickle may have.
const FREE: u64 = 4096;

/// Parts within parts; a state dictionary has about six.
const DEEPEST: u32 = 64;

const BROKEN: &str = "its pickle is broken";

/// Checks every pickle that the reader would open in the archive `file`.
pub fn check(file: &Path) -> Result<(), String> {
    let archive = File::open(file).map_err(|error| error.to_string())?;
    let mut archive =
        ZipArchive::new(BufReader::new(archive)).map_err(|error| error.to_string())?;
    let names: Vec<String> =
        archive.file_names().flatten().map(std::borrow::Cow::into_owned).collect();
    for name in names.iter().filter(|name| name.ends_with("data.pkl")) {
        let pickle = archive.by_name(name).map_err(|error| error.to_string())?;
        let pickle = crate::all(pickle, LONGEST).map_err(|error| format!("{name}: {error}"))?;
        Walk::new(&pickle).whole().map_err(|problem| format!("{name}: {problem}"))?;
    }
    Ok(())
}

/// The size of a value.
#[derive(Clone, Copy, Default)]
struct Sketch {
    parts: u64,
    text: u64,
    depth: u32,
}

impl Sketch {
    /// The value with others inside.
    fn around(self, inner: impl IntoIterator<Item = Sketch>) -> Self {
        inner.into_iter().fold(self, |all, one| Self {
            parts: all.parts.saturating_add(one.parts),
            text: all.text.saturating_add(one.text),
            depth: all.depth.max(one.depth + 1),
        })
    }
}

/// What the reader's stack would hold.
#[derive(Clone, Copy)]
enum Item {
    Mark,
    Value(Sketch),
}

struct Walk<'a> {
    rest: &'a [u8],
    stack: Vec<Item>,
    memo: HashMap<u32, Sketch>,
    made: Sketch,
    most: Sketch,
}

type Step<T = ()> = Result<T, String>;

impl<'a> Walk<'a> {
    fn new(pickle: &'a [u8]) -> Self {
        let allowed = FREE + PER_BYTE * pickle.len() as u64;
        let (parts, text) = (allowed.min(MOST_PARTS), allowed.min(MOST_TEXT));
        Self {
            rest: pickle,
            stack: Vec::new(),
            memo: HashMap::new(),
            made: Sketch::default(),
            most: Sketch { parts, text, depth: DEEPEST },
        }
    }

    fn whole(mut self) -> Step {
        while self.operation()? {}
        Ok(())
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(BROKEN)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A number of so many bytes, the lowest first.
    fn number(&mut self, bytes: usize) -> Step<u32> {
        let taken = self.take(bytes)?;
        Ok(taken.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn line(&mut self) -> Step<u64> {
        let length = self.rest.iter().position(|byte| *byte == b'\n').ok_or(BROKEN)?;
        self.take(length + 1)?;
        Ok(length as u64)
    }

    /// Puts a value that takes memory of its own.
    fn make(&mut self, value: Sketch) -> Step {
        self.made = self.made.around([value]);
        if self.made.parts > self.most.parts || self.made.text > self.most.text {
            return Err("its pickle makes or copies more than any model's".to_owned());
        }
        self.put(value)
    }

    /// Puts a value that is made of others.
    fn put(&mut self, value: Sketch) -> Step {
        if value.depth > DEEPEST {
            return Err(format!("its pickle nests deeper than {DEEPEST}"));
        }
        self.stack.push(Item::Value(value));
        Ok(())
    }

    fn text(&mut self, length: u64) -> Step {
        self.make(Sketch { parts: 1, text: length, depth: 0 })
    }

    fn plain(&mut self) -> Step {
        self.text(0)
    }

    fn pop(&mut self) -> Step<Sketch> {
        match self.stack.pop() {
            Some(Item::Value(value)) => Ok(value),
            // The reader treats a mark as a value of no size.
            Some(Item::Mark) => Ok(Sketch::default()),
            None => Err(BROKEN.to_owned()),
        }
    }

    fn pop_to_mark(&mut self) -> Step<Sketch> {
        let mut all = Sketch::default();
        loop {
            match self.stack.pop() {
                Some(Item::Value(value)) => all = all.around([value]),
                Some(Item::Mark) => return Ok(all),
                None => return Err(BROKEN.to_owned()),
            }
        }
    }

    /// Puts what `inner` is inside of.
    fn wrap(&mut self, inner: impl IntoIterator<Item = Sketch>) -> Step {
        self.make(Sketch { parts: 1, ..Sketch::default() })?;
        self.stack.pop();
        self.put(Sketch { parts: 1, ..Sketch::default() }.around(inner))
    }

    fn wrap_last(&mut self, count: usize) -> Step {
        let inner: Vec<Sketch> = (0..count).map(|_| self.pop()).collect::<Step<_>>()?;
        self.wrap(inner)
    }

    fn add_to_last(&mut self, inner: Sketch) -> Step {
        let last = self.pop()?;
        self.put(last.around([inner]))
    }

    /// One operation of those that the reader knows; whether there is another.
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
            // A callable and its arguments, an object and its state, a pair.
            b'R' | 0x81 | b'b' | 0x86 => self.wrap_last(2)?,
            0x87 => self.wrap_last(3)?,
            b'a' => {
                let value = self.pop()?;
                self.add_to_last(value)?;
            }
            b's' => {
                let pair = [self.pop()?, self.pop()?];
                self.add_to_last(Sketch::default().around(pair))?;
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

    fn walk(pickle: &[u8]) -> Step {
        Walk::new(pickle).whole()
    }

    #[test]
    fn copies_of_copies_are_refused() {
        // A pair, remembered; a pair of it twice, remembered; and so on: 2^30 parts in 300 bytes.
        let mut bomb = vec![0x80, 2, b'K', 1, b'q', 0];
        for name in 0..30 {
            bomb.extend([b'h', name, b'h', name, 0x86, b'q', name + 1]);
        }
        bomb.push(b'.');
        assert!(walk(&bomb).expect_err("a bomb").contains("copies more"));
        let text = [&[b'X', 0, 0, 0, 1][..], &[b'x'; 1 << 24], b"q\0"].concat();
        let copies = [text, b"h\0".repeat(20), b".".to_vec()].concat();
        assert!(walk(&copies).expect_err("a bomb").contains("copies more"));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = [b"N".to_vec(), vec![0x85; 100_000], b".".to_vec()].concat();
        assert!(walk(&deep).expect_err("deep").contains("deeper"));
        let marks = [b"(".repeat(1000), b"N".to_vec(), b"t".repeat(1000), b".".to_vec()].concat();
        assert!(walk(&marks).expect_err("deep").contains("deeper"));
        // Four gigabytes of text, in six bytes.
        assert_eq!(walk(&[b'X', 255, 255, 255, 255, b'.']), Err(BROKEN.to_owned()));
        for broken in [&b""[..], b"t.", b"h\0.", b"cos\nsystem", b"R.", b"a."] {
            assert_eq!(walk(broken), Err(BROKEN.to_owned()), "{broken:?}");
        }
        assert!(walk(b"I1\n.").expect_err("not known").contains("0x49"));
    }

    #[test]
    fn a_call_is_a_value_of_no_consequence() {
        // `os.system("true")`, as a pickle would ask for it: walked, never called.
        assert_eq!(walk(b"cos\nsystem\nX\x04\0\0\0true\x85R."), Ok(()));
    }
}
