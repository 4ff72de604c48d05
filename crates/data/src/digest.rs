//! The digest of a file that was read.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRead {
    /// Its path within the source.
    pub path: String,
    /// The SHA-256 of its bytes as they are on disk, in hexadecimal.
    pub sha256: String,
    /// The number of bytes.
    pub bytes: u64,
}

/// Computes the digest of a file.
pub(crate) fn digest(path: &Path, name: &str) -> Result<FileRead> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let hashed = File::open(path).and_then(|file| {
        let mut file = BufReader::with_capacity(1 << 18, file);
        loop {
            let chunk = file.fill_buf()?;
            let length = chunk.len();
            if length == 0 {
                return Ok(());
            }
            hash.update(chunk);
            bytes += length as u64;
            file.consume(length);
        }
    });
    hashed.map_err(|error| Error::File {
        path: path.to_owned(),
        problem: crate::files::io_problem(&error),
    })?;
    let sha256 = hex::encode(hash.finalize());
    Ok(FileRead { path: name.to_owned(), sha256, bytes })
}
