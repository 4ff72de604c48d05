//! A frozen list of tasks, and the scripts beside it.

use std::fs;
use std::path::{Path, PathBuf};

use vxf_recipe::digest;
use vxf_run::Pending;
use vxf_run::store::disk::{self, FileSystem};

use crate::Result;
use crate::error::io;

/// The directory of lists and scripts in an experiment's.
const TASKS: &str = "tasks";
/// The directory of the jobs' messages.
const LOGS: &str = "logs";

/// A list of tasks on disk, one a line: digest and run, parents first. It never changes, because queued jobs
/// read their lines of it: other tasks have a list of another name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskList {
    /// The file.
    pub path: PathBuf,
    /// The directory of the jobs' messages.
    pub logs: PathBuf,
    /// How many tasks there are at each position in the pipeline.
    pub depths: Vec<usize>,
}

impl TaskList {
    /// Writes the list of `pending` runs into the experiment in `root`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(root: &Path, pending: &[Pending]) -> Result<Self> {
        // Jobs may start in another directory.
        let root = root.canonicalize().map_err(io("read", root))?;
        let text: String = pending.iter().map(Pending::line).collect();
        let (tasks, logs) = (root.join(TASKS), root.join(LOGS));
        for directory in [&tasks, &logs] {
            fs::create_dir_all(directory).map_err(io("create", directory))?;
        }
        let name = digest(&serde_json::json!(text));
        let path = tasks.join(format!("{}.txt", &name[..12]));
        disk::replace(&FileSystem, &path, text.as_bytes())?;
        let mut depths: Vec<usize> = Vec::new();
        for (index, each) in pending.iter().enumerate() {
            match index > 0 && pending[index - 1].depth == each.depth {
                true => depths.last_mut().into_iter().for_each(|count| *count += 1),
                false => depths.push(1),
            }
        }
        Ok(Self { path, logs, depths })
    }

    /// Number of tasks.
    pub fn count(&self) -> usize {
        self.depths.iter().sum()
    }

    /// Writes a script beside the list, with the same name and this `ending`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn script(&self, ending: &str, text: &str) -> Result<PathBuf> {
        let path = self.path.with_extension(ending);
        disk::replace(&FileSystem, &path, text.as_bytes())?;
        Ok(path)
    }
}

/// `text` as one word of a shell command.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,%@+".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A command as it is typed in a shell.
pub fn typed(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for word in ["plain-1.5", "two words", "it's", "$HOME", "", "a\nb", "*"] {
            let script = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output();
            let output = output.expect("there is a shell");
            assert_eq!(String::from_utf8_lossy(&output.stdout), word);
        }
    }

    #[test]
    fn a_list_is_written_once_and_counts_its_depths() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let pending = |run: usize, depth| Pending {
            run,
            digest: format!("{run:064x}"),
            path: format!("sft/{run}"),
            depth,
        };
        let all = [pending(0, 0), pending(1, 0), pending(3, 1), pending(4, 1), pending(2, 2)];
        let list = TaskList::write(root.path(), &all).expect("it is written");
        assert_eq!((list.depths.as_slice(), list.count()), (&[2, 2, 1][..], 5));
        let text = fs::read_to_string(&list.path).expect("a list");
        assert_eq!(text.lines().nth(2), Some(format!("{:064x} sft/3", 3).as_str()));
        let other = TaskList::write(root.path(), &all[1..]).expect("it is written");
        assert_ne!(other.path, list.path);
        assert_eq!(TaskList::write(root.path(), &all).expect("it is written"), list);
    }
}
