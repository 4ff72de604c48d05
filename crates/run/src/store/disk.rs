//! Disk operations behind a trait, so that tests can make each of them fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Prefix of the names of incomplete files. Whoever holds the lock may remove them.
pub(crate) const PARTIAL: &str = ".partial-";

/// The write operations of an experiment.
pub trait Disk: Debug + Send + Sync {
    /// Creates a directory and its parents; an existing one is kept.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates or replaces a file.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Appends to a file, which is created if missing.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Truncates a file to `length` bytes.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()>;
    /// Flushes a file, or the names in a directory, to the disk.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or directory; an existing file is replaced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, or a directory with its content; a missing one is not an error.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct FileSystem;

impl Disk for FileSystem {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        fs::write(path, bytes)
    }

    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        OpenOptions::new().create(true).append(true).open(path)?.write_all(bytes)
    }

    fn truncate(&self, path: &Path, length: u64) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_len(length)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let done = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// Replaces a file atomically: write a temporary file, sync it, rename it, sync the directory.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> crate::Result<()> {
    let fail = |error| crate::Error::io("write", path)(error);
    let partial = beside(path);
    let put = || {
        disk.write(&partial, bytes)?;
        disk.sync(&partial)?;
        disk.rename(&partial, path)?;
        disk.sync(parent(path))
    };
    put().map_err(fail)
}

/// Creates a directory atomically: `fill` writes into `partial`, which is synced file by file and
/// renamed. `partial` is next to `path` or further up.
pub(crate) fn place(
    disk: &dyn Disk,
    partial: &Path,
    path: &Path,
    fill: impl FnOnce(&Path) -> crate::Result<()>,
) -> crate::Result<()> {
    let fail = |error| crate::Error::io("write", path)(error);
    let put = || {
        disk.remove(partial).map_err(fail)?;
        disk.create_dir(partial).map_err(fail)?;
        fill(partial)?;
        settle(disk, partial).map_err(fail)?;
        disk.create_dir(parent(path)).map_err(fail)?;
        disk.rename(partial, path).map_err(fail)?;
        // Parent directories may be new, so their names are synced too.
        let top = parent(partial);
        for directory in parent(path).ancestors() {
            disk.sync(directory).map_err(fail)?;
            if directory == top {
                break;
            }
        }
        Ok(())
    };
    put().inspect_err(|_| {
        // What cannot be removed now is removed by the next process that holds the lock.
        let _ = disk.remove(partial);
    })
}

/// Syncs everything in `directory`, and then the directory.
fn settle(disk: &dyn Disk, directory: &Path) -> io::Result<()> {
    let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        match path.is_dir() {
            true => settle(disk, &path)?,
            false => disk.sync(&path)?,
        }
    }
    disk.sync(directory)
}

/// The temporary name under which `path` is written.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{PARTIAL}{name}"))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
