//! A partially downloaded file.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::metadata::Metadata;

/// A partially downloaded file, with the digest of the part that exists.
///
/// Bytes are written at their offset, neither appended nor after a truncation. So if two processes
/// write one file, because their file system grants one lock twice, they write the same bytes at
/// the same offsets.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    length: u64,
    hasher: Hasher,
}

impl Partial {
    /// Opens the file at `path` to continue it, or creates it.
    pub(crate) fn open(path: PathBuf, metadata: &Metadata) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        if path.metadata().is_ok_and(|found| found.len() > metadata.size) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(Error::io("create", &path))?;
        let hasher = Hasher::new(metadata.digest, metadata.size);
        let mut partial = Self { path, file, metadata: metadata.clone(), length: 0, hasher };
        partial.hash_existing()?;
        Ok(partial)
    }

    /// Adds the existing bytes to the digest.
    fn hash_existing(&mut self) -> Result<()> {
        let mut buffer = vec![0; 1 << 20];
        let mut file = (&self.file).take(self.metadata.size);
        loop {
            let read = file.read(&mut buffer).map_err(Error::io("read", &self.path))?;
            if read == 0 {
                return Ok(());
            }
            self.hasher.update(&buffer[..read]);
            self.length += read as u64;
        }
    }

    /// Bytes downloaded.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes not downloaded yet.
    pub(crate) fn missing(&self) -> u64 {
        self.metadata.size.saturating_sub(self.length)
    }

    /// Writes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Error::DiskFull { path: self.path.clone(), missing: self.missing() }
            }
            _ => Error::io("write", &self.path)(error),
        })?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Restarts from the first byte, for a server that does not support ranges.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.rewind().map_err(Error::io("write", &self.path))?;
        self.length = 0;
        self.hasher = Hasher::new(self.metadata.digest, self.metadata.size);
        Ok(())
    }

    /// Checks the digest and renames the complete file to the blob. `Some` is the digest of a damaged
    /// file, which is then deleted.
    pub(crate) fn finish(self, blob: &Path) -> Result<Option<String>> {
        let Self { path, file, metadata, hasher, .. } = self;
        if let Some(found) = hasher.finish().filter(|found| *found != metadata.tag) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            return Ok(Some(found));
        }
        // Cached content is trusted from now on, so it must survive a power failure.
        file.sync_all().map_err(Error::io("write", &path))?;
        match fs::rename(&path, blob) {
            // Without locks, another process may have finished the same file.
            Err(_) if blob.is_file() => Ok(None),
            renamed => renamed.map(|()| None).map_err(Error::io("rename", &path)),
        }
    }
}
