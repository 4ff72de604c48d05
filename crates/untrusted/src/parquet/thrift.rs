//! A reader for the part of Thrift's compact protocol that Parquet metadata uses.
//!
//! The parquet crate allocates what a footer and its page headers claim. Two bytes can claim two
//! billion children, and a failed allocation aborts the process. So this reader visits the claims
//! first without allocating, and the crate only sees files whose claims are plausible.

use std::io::{self, Read};

/// The maximum nesting depth of structures; the format itself needs seven.
const DEEPEST: usize = 24;

/// An event while reading a structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A structure begins.
    Begin,
    /// A list with this many elements begins.
    List(u64),
    /// An integer.
    Number(i64),
    /// A boolean.
    Truth(bool),
}

/// A visitor of events; an error text says why the file is refused.
pub(super) type Visit<'a> = dyn FnMut(&[i16], Event) -> std::result::Result<(), String> + 'a;

/// Reads one structure and passes each event to a visitor, with the path of field numbers to it.
///
/// The elements of a list have the path of the list.
pub(super) struct Walk<'a, R> {
    input: R,
    read: u64,
    path: Vec<i16>,
    visit: &'a mut Visit<'a>,
}

/// Why a walk ended early.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes are not a valid structure, or end too early.
    Broken,
    /// The visitor refused a claim.
    Claim(String),
    /// An I/O error.
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Broken,
            _ => Self::Io(error),
        }
    }
}

type Result<T, E = Fault> = std::result::Result<T, E>;

/// Reads the structure at the start of `input` and returns its length in bytes.
pub(super) fn walk<'a, R: Read>(input: R, visit: &'a mut Visit<'a>) -> Result<u64> {
    let mut walk = Walk { input, read: 0, path: Vec::new(), visit };
    walk.structure()?;
    Ok(walk.read)
}

impl<R: Read> Walk<'_, R> {
    fn emit(&mut self, event: Event) -> Result<()> {
        (self.visit)(&self.path, event).map_err(Fault::Claim)
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.input.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Broken)
    }

    fn number(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn skip(&mut self, length: u64) -> Result<()> {
        let skipped = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        self.read += skipped;
        if skipped == length { Ok(()) } else { Err(Fault::Broken) }
    }

    fn structure(&mut self) -> Result<()> {
        self.emit(Event::Begin)?;
        let mut id = 0_i16;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Ok(());
            }
            id = match head >> 4 {
                0 => i16::try_from(self.number()?).map_err(|_| Fault::Broken)?,
                step => id.checked_add(i16::from(step)).ok_or(Fault::Broken)?,
            };
            self.path.push(id);
            match head & 0x0f {
                kind @ (1 | 2) => self.emit(Event::Truth(kind == 1))?,
                kind => self.value(kind)?,
            }
            self.path.pop();
        }
    }

    fn value(&mut self, kind: u8) -> Result<()> {
        if self.path.len() > DEEPEST {
            return Err(Fault::Broken);
        }
        match kind {
            // Booleans take a byte each within lists.
            1..=3 => self.skip(1),
            4..=6 => {
                let number = self.number()?;
                self.emit(Event::Number(number))
            }
            7 => self.skip(8),
            8 => {
                let length = self.varint()?;
                self.skip(length)
            }
            9 | 10 => self.list(),
            12 => self.structure(),
            13 => self.skip(16),
            // Maps do not occur in the format.
            _ => Err(Fault::Broken),
        }
    }

    fn list(&mut self) -> Result<()> {
        let head = self.byte()?;
        let length = match head >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        self.emit(Event::List(length))?;
        // Nested lists count as one more level of depth, under the path of the outer list.
        let id = self.path.last().copied().unwrap_or_default();
        for _ in 0..length {
            match head & 0x0f {
                12 => self.structure()?,
                9 | 10 => {
                    self.path.push(id);
                    self.value(head & 0x0f)?;
                    self.path.pop();
                }
                kind => self.value(kind)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::type_complexity, reason = "read in one place")]
    fn events(bytes: &[u8]) -> Result<(u64, Vec<(Vec<i16>, Event)>)> {
        let mut seen = Vec::new();
        let read = walk(bytes, &mut |path, event| {
            seen.push((path.to_vec(), event));
            Ok(())
        })?;
        Ok((read, seen))
    }

    #[test]
    fn a_structure_is_read_to_its_end() -> Result<()> {
        // 1: i32 = -3; 2: list of two structures {1: true}; 5: binary "ab"; stop.
        let bytes = [0x15, 5, 0x19, 0x2c, 0x11, 0, 0x12, 0, 0x38, 2, b'a', b'b', 0, 99];
        let (read, seen) = events(&bytes)?;
        assert_eq!(read, 13);
        let expected = [
            (vec![], Event::Begin),
            (vec![1], Event::Number(-3)),
            (vec![2], Event::List(2)),
            (vec![2], Event::Begin),
            (vec![2, 1], Event::Truth(true)),
            (vec![2], Event::Begin),
            (vec![2, 1], Event::Truth(false)),
        ];
        assert_eq!(seen, expected);
        Ok(())
    }

    #[test]
    fn nesting_and_length_are_limited() {
        for bytes in [
            vec![0x1c; 4000],
            [vec![0x19], vec![0x19; 4000]].concat(),
            vec![0x18, 0xff, 0xff, 0xff, 0xff, 0x0f],
            vec![0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0],
            vec![0x1b, 0],
            vec![],
        ] {
            assert!(
                matches!(events(&bytes), Err(Fault::Broken)),
                "{:?}",
                &bytes[..bytes.len().min(9)]
            );
        }
    }
}
