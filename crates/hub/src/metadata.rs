//! What the hub says about a file before sending it.

use crate::client::Answer;
use crate::digest::Digest;
use crate::error::Error;
use crate::name;

/// Tag, size and digest of a file.
#[derive(Debug, Clone)]
pub(crate) struct Metadata {
    /// The blob's name.
    pub(crate) tag: String,
    /// Bytes.
    pub(crate) size: u64,
    /// What the tag says about the content.
    pub(crate) digest: Digest,
}

impl Metadata {
    /// Whether an answer says all, and what it redirects to need not be asked.
    ///
    /// That is so for large files: the storage behind the redirect knows other tags.
    pub(crate) fn is_in(answer: &Answer) -> bool {
        answer.header("x-linked-etag").is_some() && answer.header("x-linked-size").is_some()
    }

    /// Reads the headers of an answer to HEAD, for a file of `commit`.
    pub(crate) fn read(answer: &Answer, commit: &str) -> Result<Self, Error> {
        if let Some(other) = answer.header("x-repo-commit").filter(|other| *other != commit) {
            return Err(answer.strange(format!("asked for commit {commit}, it answers {other:?}")));
        }
        let linked = answer.header("x-linked-etag");
        let tag = linked
            .or_else(|| answer.header("etag"))
            .map(|tag| tag.trim_start_matches("W/").trim_matches('"'))
            .filter(|tag| name::is_tag(tag))
            .ok_or_else(|| answer.strange("it gives a file no usable ETag"))?;
        let size = answer
            .number(if linked.is_some() { "x-linked-size" } else { "content-length" })
            .or_else(|| answer.number("content-length").filter(|_| answer.is_success()))
            .ok_or_else(|| answer.strange("it gives a file no size"))?;
        Ok(Self { tag: tag.to_owned(), size, digest: Digest::of_tag(tag, linked.is_some()) })
    }
}
