//! The files that a source was read from.

use std::path::Path;

use serde::{Deserialize, Serialize};
use vxf_untrusted::ContentDigest;

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

/// Computes the digest of the file at `path`, called `name` within its source.
pub(crate) fn digest(path: &Path, name: &str) -> Result<FileRead> {
    let ContentDigest { sha256, bytes } = vxf_untrusted::content_digest(path).map_err(|error| {
        Error::File { path: path.to_owned(), problem: crate::files::io_problem(&error) }
    })?;
    Ok(FileRead { path: name.to_owned(), sha256, bytes })
}
