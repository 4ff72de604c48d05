//! Runs the real program and checks its output.
#![allow(dead_code, reason = "each test file uses a part")]

mod checkpoint;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use checkpoint::RECIPE;

/// Arguments of an experiment that takes a second or two.
pub(crate) const TINY: &[&str] = &[
    "--seed=1",
    "--harmful-ratio=0.5",
    "--set=world.alignment_samples=16",
    "--set=world.user_samples=16",
    "--set=world.harmful_test=6",
    "--set=world.task_test=6",
    "--set=world.benign_test=4",
    "--set=world.alignment_probe=4",
    "--set=world.max_new_tokens=4",
    "--set=alignment.epochs=2",
    "--set=fine_tuning.epochs=1",
];

/// The output of the program.
#[derive(Debug)]
pub(crate) struct Told {
    /// Exit code.
    pub(crate) code: i32,
    /// Results.
    pub(crate) stdout: String,
    /// Messages.
    pub(crate) stderr: String,
}

impl Told {
    /// Asserts the exit code, that stderr contains all `parts`, and that there was no panic.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in:\n{}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert!(self.stdout.is_empty(), "{}", self.stdout);
    }

    /// Asserts success and returns stdout.
    #[track_caller]
    pub(crate) fn ok(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        &self.stdout
    }

    /// Asserts success and parses stdout as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).expect("stdout is one JSON value")
    }
}

impl From<Output> for Told {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A temporary directory.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("it can be written");
        path
    }

    /// The program, with this working directory.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vxf"));
        command.args(args).current_dir(self.0.path());
        command
    }

    /// Runs the program in this directory.
    pub(crate) fn vxf(&self, args: &[&str]) -> Told {
        self.command(args).output().expect("it starts").into()
    }

    /// `vxf run` at the smallest size, with additional arguments.
    pub(crate) fn tiny(&self, args: &[&str]) -> Told {
        self.vxf(&[&["run"], TINY, args].concat())
    }

    /// A copy of the embedded model as a directory.
    pub(crate) fn model(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        std::fs::create_dir(&to).expect("a new directory");
        let tokenizer = vxf_world::tokenizer_json().expect("the world has one");
        let files = [
            ("config.json", vxf_world::CONFIG.as_bytes()),
            ("model.safetensors", vxf_world::WEIGHTS),
            ("tokenizer.json", tokenizer.as_bytes()),
        ];
        for (name, content) in files {
            std::fs::write(to.join(name), content).expect("it can be written");
        }
        to
    }

    /// Changes a JSON file.
    pub(crate) fn edit(&self, file: &Path, change: impl FnOnce(&mut serde_json::Value)) {
        let text = std::fs::read_to_string(file).expect("it is there");
        let mut value = serde_json::from_str(&text).expect("JSON");
        change(&mut value);
        std::fs::write(file, value.to_string()).expect("it can be written");
    }

    /// The names in this directory.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).expect("it is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("it is there").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }
}
