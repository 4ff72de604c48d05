//! Answers of a measurement that is under way, kept as they are made.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vxf_core::generate::Keeper;

use crate::control::Control;
use crate::disk::Disk;
use crate::{Error, Result};

/// Answers in a file of JSON lines. They are those of one model, the one that a stage ends with:
/// trained again from an earlier checkpoint it comes out the same, and so do they.
pub(crate) struct KeptAnswers<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    control: Control<'a>,
    known: RefCell<BTreeMap<(String, usize), String>>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    set: String,
    index: usize,
    answer: String,
}

impl<'a> KeptAnswers<'a> {
    /// Those in the file `path`, if it is there; a line that was cut short ends it.
    pub(crate) fn open(disk: &'a dyn Disk, path: PathBuf, control: Control<'a>) -> Result<Self> {
        let text = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let mut known = BTreeMap::new();
        let mut whole = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let read = line.strip_suffix(b"\n").map(serde_json::from_slice);
            let Some(Ok(Line { set, index, answer })) = read else { break };
            known.insert((set, index), answer);
            whole += line.len();
        }
        if whole < text.len() {
            disk.truncate(&path, whole as u64).map_err(Error::io("write", &path))?;
        }
        Ok(Self { disk, path, control, known: RefCell::new(known) })
    }

    fn write(&self, set: &str, made: &[(usize, String)]) -> Result<()> {
        let mut text = String::new();
        for (index, answer) in made {
            let line = Line { set: set.to_owned(), index: *index, answer: answer.clone() };
            let line = serde_json::to_string(&line);
            text += &line.map_err(|source| Error::Record { path: self.path.clone(), source })?;
            text.push('\n');
        }
        self.disk.append(&self.path, text.as_bytes()).map_err(Error::io("write", &self.path))
    }
}

impl Keeper for KeptAnswers<'_> {
    fn kept(&self, set: &str, index: usize) -> Option<String> {
        self.known.borrow().get(&(set.to_owned(), index)).cloned()
    }

    fn keep(&self, set: &str, made: &[(usize, String)]) -> vxf_core::Result<()> {
        self.write(set, made).map_err(|error| match error {
            Error::Io { path, source, .. } => {
                vxf_core::Error::Io { path: path.display().to_string(), source }
            }
            other => vxf_core::Error::Plugin { plugin: "answers", source: Box::new(other) },
        })?;
        let mut known = self.known.borrow_mut();
        known.extend(made.iter().map(|(index, answer)| ((set.to_owned(), *index), answer.clone())));
        match self.control.stops() {
            true => Err(vxf_core::Error::Stopped),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Every;
    use crate::disk::FileSystem;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_line_cut_short_is_made_again() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("answers.jsonl");
        let stop = AtomicBool::new(false);
        let control = Control::new(Every::default(), &stop);
        let open = || KeptAnswers::open(&FileSystem, path.clone(), control).expect("readable");
        let made = [(0, "placeholder".to_owned()), (3, "two\nlines".to_owned())];
        open().keep("task", &made).expect("writable");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"{\"set\":\"task\",\"ind"))
            .expect("writable");
        let kept = open();
        assert_eq!(kept.kept("task", 3).as_deref(), Some("two\nlines"));
        assert_eq!(kept.kept("task", 1), None);
        assert_eq!(kept.kept("harmful", 0), None);
        kept.keep("task", &[(1, "later".to_owned())]).expect("writable");
        assert_eq!(open().kept("task", 1).as_deref(), Some("later"));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let stopped = kept.keep("task", &[(2, "last".to_owned())]);
        assert!(matches!(stopped, Err(vxf_core::Error::Stopped)));
        assert_eq!(open().kept("task", 2).as_deref(), Some("last"));
    }
}
