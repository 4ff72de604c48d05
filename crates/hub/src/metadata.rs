//! Metadata of a file, from the response headers of a HEAD request.

use crate::client::Answer;
use crate::digest::Digest;
use crate::error::Error;
use crate::name;

/// Tag, size and digest of a file.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    /// The entity tag, which names the blob.
    pub(crate) tag: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// The digest that the tag states.
    pub(crate) digest: Digest,
}

impl Metadata {
    /// Whether a response has all metadata, so that its redirect need not be followed.
    ///
    /// This is so for large files: the storage behind the redirect uses other tags.
    pub(crate) fn is_in(answer: &Answer) -> bool {
        answer.header("x-linked-etag").is_some() && answer.header("x-linked-size").is_some()
    }

    /// Reads the headers of a HEAD response, for a file of `commit`.
    pub(crate) fn read(answer: &Answer, commit: &str) -> Result<Self, Error> {
        if let Some(other) = answer.header("x-repo-commit").filter(|other| *other != commit) {
            return Err(
                answer.unexpected(format!("asked for commit {commit}, it answers {other:?}"))
            );
        }
        let linked = answer.header("x-linked-etag");
        let tag = linked
            .or_else(|| answer.header("etag"))
            .map(|tag| tag.trim_start_matches("W/").trim_matches('"'))
            .filter(|tag| name::is_tag(tag))
            .ok_or_else(|| answer.unexpected("it gives a file no usable ETag"))?;
        let size = answer
            .number(if linked.is_some() { "x-linked-size" } else { "content-length" })
            .or_else(|| answer.number("content-length").filter(|_| answer.is_success()))
            .ok_or_else(|| answer.unexpected("it gives a file no size"))?;
        Ok(Self { tag: tag.to_owned(), size, digest: Digest::of_tag(tag, linked.is_some()) })
    }
}
