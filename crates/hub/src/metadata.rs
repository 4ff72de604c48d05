//! Metadata of a file, from the response headers of a HEAD request.

use crate::client::Response;
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
    pub(crate) fn is_in(response: &Response) -> bool {
        response.header("x-linked-etag").is_some() && response.header("x-linked-size").is_some()
    }

    /// Reads the headers of a HEAD response, for a file of `commit`.
    pub(crate) fn read(response: &Response, commit: &str) -> Result<Self, Error> {
        if let Some(other) = response.header("x-repo-commit").filter(|other| *other != commit) {
            return Err(response
                .unexpected(format!("it responds with commit {other:?} instead of {commit}")));
        }
        let linked = response.header("x-linked-etag");
        let tag = linked
            .or_else(|| response.header("etag"))
            .map(|tag| tag.trim_start_matches("W/").trim_matches('"'))
            .filter(|tag| name::is_tag(tag))
            .ok_or_else(|| response.unexpected("the response for a file has no usable ETag"))?;
        let size = response
            .number(if linked.is_some() { "x-linked-size" } else { "content-length" })
            .or_else(|| response.number("content-length").filter(|_| response.is_success()))
            .ok_or_else(|| response.unexpected("the response for a file has no size"))?;
        Ok(Self { tag: tag.to_owned(), size, digest: Digest::of_tag(tag, linked.is_some()) })
    }
}
