//! A file on its way into the cache.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::metadata::Metadata;

/// What has arrived of a file, and its digest so far.
///
/// Bytes are written where they belong, neither appended nor behind a truncation. So two processes
/// that write one file, because their file system grants one lock twice, write the same bytes to
/// the same places.
#[derive(Debug)]
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    length: u64,
    hasher: Hasher,
}

impl Partial {
    /// Continues the file at `path`, or begins it.
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
        partial.take_up()?;
        Ok(partial)
    }

    /// Reads what is there into the digest.
    fn take_up(&mut self) -> Result<()> {
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

    /// Bytes that are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes still to come.
    pub(crate) fn missing(&self) -> u64 {
        self.metadata.size.saturating_sub(self.length)
    }

    /// The next bytes.
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

    /// Begins from the first byte, for a server that does not go on in the middle.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.file.rewind().map_err(Error::io("write", &self.path))?;
        self.length = 0;
        self.hasher = Hasher::new(self.metadata.digest, self.metadata.size);
        Ok(())
    }

    /// Makes a whole file the blob; `Some` is the digest of one that is not what it should be, and
    /// that file is gone.
    pub(crate) fn finish(self, blob: &Path) -> Result<Option<String>> {
        let Self { path, file, metadata, hasher, .. } = self;
        if let Some(found) = hasher.finish().filter(|found| *found != metadata.tag) {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            return Ok(Some(found));
        }
        // What is in the cache is trusted from now on, also after a power failure.
        file.sync_all().map_err(Error::io("write", &path))?;
        match fs::rename(&path, blob) {
            // Without locks, somebody else may have finished the same file.
            Err(_) if blob.is_file() => Ok(None),
            renamed => renamed.map(|()| None).map_err(Error::io("rename", &path)),
        }
    }
}
