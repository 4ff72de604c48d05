//! Generated answers of an unfinished measurement, stored as they are made.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vxf_core::generate::AnswerCache;

use crate::execute::control::Control;
use crate::store::disk::Disk;
use crate::{Error, Result};

/// The answers of one trained model, in a file of JSON lines.
pub(crate) struct KeptAnswers<'a> {
    disk: &'a dyn Disk,
    path: PathBuf,
    control: Control<'a>,
    /// For each set, a digest of what its answers are generated from.
    sets: &'a BTreeMap<String, String>,
    known: RefCell<BTreeMap<(String, usize), String>>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    set: String,
    index: usize,
    answer: String,
    #[serde(default)]
    from: String,
}

impl<'a> KeptAnswers<'a> {
    /// Opens the file `path`, if it exists, and takes the answers whose digest is the one in `sets`, and
    /// those in `known`. A truncated line ends the file.
    pub(crate) fn open(
        disk: &'a dyn Disk,
        path: PathBuf,
        control: Control<'a>,
        sets: &'a BTreeMap<String, String>,
        mut known: BTreeMap<(String, usize), String>,
    ) -> Result<Self> {
        if let Some(parent) = path.parent() {
            disk.create_dir(parent).map_err(Error::io("create", parent))?;
        }
        let text = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let mut whole = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let read = line.strip_suffix(b"\n").map(serde_json::from_slice);
            let Some(Ok(Line { set, index, answer, from })) = read else { break };
            if sets.get(&set) == Some(&from) {
                known.insert((set, index), answer);
            }
            whole += line.len();
        }
        if whole < text.len() {
            disk.truncate(&path, whole as u64).map_err(Error::io("write", &path))?;
        }
        Ok(Self { disk, path, control, sets, known: RefCell::new(known) })
    }

    fn write(&self, set: &str, made: &[(usize, String)]) -> Result<()> {
        let mut text = String::new();
        let from = self.sets.get(set).cloned().unwrap_or_default();
        for (index, answer) in made {
            let (set, from) = (set.to_owned(), from.clone());
            let line = Line { set, index: *index, answer: answer.clone(), from };
            let line = serde_json::to_string(&line);
            text += &line.map_err(|source| Error::Record { path: self.path.clone(), source })?;
            text.push('\n');
        }
        self.disk.append(&self.path, text.as_bytes()).map_err(Error::io("write", &self.path))
    }
}

impl AnswerCache for KeptAnswers<'_> {
    fn get(&self, set: &str, index: usize) -> Option<String> {
        self.known.borrow().get(&(set.to_owned(), index)).cloned()
    }

    fn store(&self, set: &str, made: &[(usize, String)]) -> vxf_core::Result<()> {
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
    use crate::execute::control::Every;
    use crate::store::disk::FileSystem;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn a_truncated_line_is_generated_again() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("answers.jsonl");
        let stop = AtomicBool::new(false);
        let control = Control::new(Every::default(), &stop);
        let sets = BTreeMap::from([("task".to_owned(), "settings".to_owned())]);
        let open = || {
            let known = BTreeMap::new();
            KeptAnswers::open(&FileSystem, path.clone(), control, &sets, known).expect("readable")
        };
        let made = [(0, "placeholder".to_owned()), (3, "two\nlines".to_owned())];
        open().store("task", &made).expect("writable");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .and_then(|mut file| std::io::Write::write_all(&mut file, b"{\"set\":\"task\",\"ind"))
            .expect("writable");
        let kept = open();
        assert_eq!(kept.get("task", 3).as_deref(), Some("two\nlines"));
        assert_eq!(kept.get("task", 1), None);
        assert_eq!(kept.get("harmful", 0), None);
        kept.store("task", &[(1, "later".to_owned())]).expect("writable");
        assert_eq!(open().get("task", 1).as_deref(), Some("later"));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let stopped = kept.store("task", &[(2, "last".to_owned())]);
        assert!(matches!(stopped, Err(vxf_core::Error::Stopped)));
        assert_eq!(open().get("task", 2).as_deref(), Some("last"));
    }

    #[test]
    fn answers_from_other_prompts_or_settings_are_not_used() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let path = place.path().join("answers.jsonl");
        let stop = AtomicBool::new(false);
        let control = Control::new(Every::default(), &stop);
        let sets = |from: &str| BTreeMap::from([("task".to_owned(), from.to_owned())]);
        let (short, long) = (sets("4 tokens"), sets("8 tokens"));
        let open = |sets| {
            let known = BTreeMap::from([(("task".to_owned(), 1), "given".to_owned())]);
            KeptAnswers::open(&FileSystem, path.clone(), control, sets, known).expect("readable")
        };
        open(&short).store("task", &[(0, "placeholder".to_owned())]).expect("writable");
        assert_eq!(open(&short).get("task", 0).as_deref(), Some("placeholder"));
        assert_eq!(open(&long).get("task", 0), None);
        assert_eq!(open(&long).get("task", 1).as_deref(), Some("given"));
    }
}
