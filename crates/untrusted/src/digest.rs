//! Content digests of files.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use sha2::{Digest, Sha256};

/// The digest of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentDigest {
    /// The SHA-256 of the bytes as they are on disk, in hexadecimal.
    pub sha256: String,
    /// The number of bytes.
    pub bytes: u64,
}

/// Computes the digest of a file's content; the file is streamed.
///
/// # Errors
/// When the file cannot be opened or read.
pub fn content_digest(path: &Path) -> io::Result<ContentDigest> {
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut file = BufReader::with_capacity(1 << 18, File::open(path)?);
    loop {
        let chunk = file.fill_buf()?;
        let length = chunk.len();
        if length == 0 {
            return Ok(ContentDigest { sha256: hex::encode(hash.finalize()), bytes });
        }
        hash.update(chunk);
        bytes += length as u64;
        file.consume(length);
    }
}
