//! Content digests as the hub's entity tags state them.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The digest that an entity tag states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digest {
    /// SHA-256 of the content, for files in large file storage.
    Sha256,
    /// SHA-1 of the git blob (a header with the length, then the content), for all other files.
    Git,
    /// None: a mirror with its own tags. Only the length is compared.
    Unknown,
}

impl Digest {
    /// Parses a tag; `linked` says that it came as `X-Linked-Etag`.
    ///
    /// A plain tag of 64 digits is not a SHA-256: storage networks use it for digests of chunks.
    pub(crate) fn of_tag(tag: &str, linked: bool) -> Self {
        let digits = tag.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match (digits, tag.len()) {
            (true, 64) if linked => Self::Sha256,
            (true, 40) => Self::Git,
            _ => Self::Unknown,
        }
    }
}

/// An incremental hasher.
#[derive(Debug)]
pub(crate) enum Hasher {
    /// See [`Digest::Sha256`].
    Sha256(Sha256),
    /// See [`Digest::Git`].
    Git(Sha1),
    /// See [`Digest::Unknown`].
    Unknown,
}

impl Hasher {
    /// A hasher for content of `size` bytes.
    pub(crate) fn new(digest: Digest, size: u64) -> Self {
        match digest {
            Digest::Sha256 => Self::Sha256(Sha256::new()),
            Digest::Git => Self::Git(Sha1::new().chain_update(format!("blob {size}\0"))),
            Digest::Unknown => Self::Unknown,
        }
    }

    /// Adds the next bytes of the content.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Git(hash) => hash.update(bytes),
            Self::Unknown => {}
        }
    }

    /// The digest in hexadecimal, if the kind has one.
    pub(crate) fn finish(self) -> Option<String> {
        match self {
            Self::Sha256(hash) => Some(hex::encode(hash.finalize())),
            Self::Git(hash) => Some(hex::encode(hash.finalize())),
            Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digest: Digest, content: &[u8]) -> Option<String> {
        let mut hasher = Hasher::new(digest, content.len() as u64);
        content.chunks(3).for_each(|chunk| hasher.update(chunk));
        hasher.finish()
    }

    /// The expected values are those of `git hash-object` and `sha256sum`.
    #[test]
    fn known_digests() {
        let git = digest(Digest::Git, b"hello\n").expect("a digest");
        assert_eq!(git, "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(Digest::of_tag(&git, false), Digest::Git);
        let sha = digest(Digest::Sha256, b"hello\n").expect("a digest");
        assert_eq!(sha, "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
        assert_eq!(Digest::of_tag(&sha, true), Digest::Sha256);
        assert_eq!(Digest::of_tag(&sha, false), Digest::Unknown);
        assert_eq!(Digest::of_tag("d41d8cd98f00b204e9800998ecf8427e-3", true), Digest::Unknown);
        assert_eq!(digest(Digest::Unknown, b"hello\n"), None);
    }
}
