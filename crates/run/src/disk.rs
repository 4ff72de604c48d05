//! What is done to disks, so that a test can make any of it fail.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What begins the name of everything that is not yet whole. A process that finds one while it
/// holds the lock may remove it.
pub(crate) const PARTIAL: &str = ".partial-";

/// The changes that an experiment makes to a disk.
pub trait Disk: Debug + Send + Sync {
    /// Makes a directory and those above it; one that is there is kept.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes or replaces a file.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Adds to the end of a file, which is made if it is not there.
    fn append(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Cuts a file to its first `length` bytes.
    fn truncate(&self, path: &Path, length: u64) -> io::Result<()>;
    /// Waits until a file, or the names in a directory, are on the disk itself.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// Renames a file or directory, in the place of a file that is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or a directory with all that is in it; what is not there is not missed.
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

/// Puts a file in place whole: written beside it, synced, renamed, and the name synced.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> crate::Result<()> {
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

/// Puts a directory in place whole: `fill` writes into `partial`, which lies beside it or further
/// up; that is synced file by file and renamed, and its name synced.
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
        // Directories on the way may be new: their names too have to last.
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
        // What cannot be removed now is swept away by the next process that holds the lock.
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

/// Where what becomes `path` is written first.
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
