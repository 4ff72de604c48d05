//! One repository's folder in the cache, as Python's `huggingface_hub` lays it out.
//!
//! ```text
//! models--owner--name/blobs/<tag>                   contents, by digest
//! models--owner--name/blobs/<tag>.incomplete        what has arrived of one
//! models--owner--name/refs/<revision>               the commit it was at, last time
//! models--owner--name/snapshots/<commit>/<file>     a link to the blob
//! models--owner--name/.no_exist/<commit>/<file>     empty: the commit has no such file
//! .locks/models--owner--name/<tag>.lock             held by whoever downloads the blob
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::name;
use crate::reference::{Kind, Reference};

/// The folder of one repository.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    locks: PathBuf,
}

impl Folder {
    /// The folder of `reference` in the cache; creates nothing.
    pub(crate) fn new(cache: &Path, kind: Kind, reference: &Reference) -> Self {
        let name = format!("{}--{}", kind.plural(), reference.id().replace('/', "--"));
        Self { root: cache.join(&name), locks: cache.join(".locks").join(&name) }
    }

    /// The directory of a commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// A file of a commit.
    pub(crate) fn file(&self, commit: &str, file: &str) -> PathBuf {
        self.snapshot(commit).join(file)
    }

    /// The path of the blob with this tag.
    pub(crate) fn blob(&self, tag: &str) -> PathBuf {
        self.root.join("blobs").join(tag)
    }

    /// The path of the partial download of this tag.
    pub(crate) fn partial(&self, tag: &str) -> PathBuf {
        self.blob(&format!("{tag}.incomplete"))
    }

    /// The commit of a revision at its last download.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| name::is_commit(commit))
    }

    /// Stores the commit of a revision, for offline use.
    ///
    /// Failure is ignored: a read-only cache, for example a cluster's shared one, still works.
    pub(crate) fn remember(&self, revision: &str, commit: &str) {
        if revision != commit && self.commit(revision).as_deref() != Some(commit) {
            let _ = write(&self.root.join("refs").join(revision), commit);
        }
    }

    /// Whether the cache knows that a commit does not have this file.
    pub(crate) fn is_absent(&self, commit: &str, file: &str) -> bool {
        self.absence(commit, file).exists()
    }

    /// Stores that a commit does not have this file, so that the hub is not asked again.
    pub(crate) fn mark_absent(&self, commit: &str, file: &str) {
        let _ = write(&self.absence(commit, file), "");
    }

    fn absence(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }

    /// Waits until no other process downloads this blob, and locks it.
    ///
    /// Python's `huggingface_hub` takes the same lock. On a file system without locks, two
    /// processes may write one partial file; see [`Partial`](crate::partial::Partial).
    pub(crate) fn lock(&self, tag: &str) -> Result<File> {
        fs::create_dir_all(&self.locks).map_err(Error::io("create", &self.locks))?;
        let path = self.locks.join(format!("{tag}.lock"));
        let mut options = File::options();
        options.write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io("create", &path))?;
        let _ = file.lock();
        Ok(file)
    }

    /// Links a file of a commit to the blob with this tag.
    pub(crate) fn link(&self, commit: &str, file: &str, tag: &str) -> Result<()> {
        let (path, blob) = (self.file(commit, file), self.blob(tag));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        if !path.is_file() && path.is_symlink() {
            fs::remove_file(&path).map_err(Error::io("replace", &path))?;
        }
        let up = "../".repeat(file.matches('/').count() + 2);
        symlink(Path::new(&format!("{up}blobs/{tag}")), &path)
            .or_else(|_| fs::hard_link(&blob, &path))
            // Another process may have created the link first.
            .or_else(|error| if path.is_file() { Ok(()) } else { Err(error) })
            .map_err(Error::io("link", &path))
    }

    /// Whether a cached file is inside this folder after following links.
    ///
    /// Links from a commit to a blob are the cache's layout; any other link out of the folder was
    /// made by someone else. The blob directory itself may be on another disk.
    pub(crate) fn contains(&self, path: &Path) -> bool {
        let Ok(real) = path.canonicalize() else { return false };
        let homes = [self.root.clone(), self.root.join("blobs")];
        homes.iter().any(|home| home.canonicalize().is_ok_and(|home| real.starts_with(home)))
    }

    /// The cached files of a commit, or `None` if its directory does not exist.
    pub(crate) fn list(&self, commit: &str) -> Result<Option<Vec<String>>> {
        let root = self.snapshot(commit);
        if !root.is_dir() {
            return Ok(None);
        }
        let (mut found, mut rest) = (Vec::new(), vec![root.clone()]);
        while let Some(directory) = rest.pop() {
            for entry in fs::read_dir(&directory).map_err(Error::io("read", &directory))? {
                let path = entry.map_err(Error::io("read", &directory))?.path();
                if path.is_dir() {
                    rest.push(path);
                } else if let (true, Ok(inside)) = (path.is_file(), path.strip_prefix(&root)) {
                    let parts = inside.iter().map(|part| part.to_string_lossy());
                    found.push(parts.collect::<Vec<_>>().join("/"));
                }
            }
        }
        found.sort();
        Ok(Some(found))
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

#[cfg(unix)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(windows)]
fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, path)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
