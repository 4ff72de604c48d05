//! Errors of this crate, by cause.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::reference::Kind;
use crate::settings::Offline;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error about a reference, the hub, the network, or the cache.
///
/// Each message says what to do next. No message contains a token or the query of an address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that begins with `hf:` or was used as a reference is not a valid reference.
    #[error("`{text}` {problem}; write owner/name or owner/name@revision")]
    Reference {
        /// As typed.
        text: String,
        /// Which part is invalid.
        problem: &'static str,
    },
    /// An environment variable has an invalid value.
    #[error("{name} {problem}")]
    Setting {
        /// The variable.
        name: &'static str,
        /// What is wrong with it, and what to set.
        problem: String,
    },
    /// 401 or 403: gated, private, or a token that is not valid.
    #[error("{id} {}", refused(*.status, *.gated, *.token, .page))]
    Refused {
        /// The repository.
        id: String,
        /// The page where its terms can be accepted.
        page: String,
        /// 401 or 403.
        status: u16,
        /// Whether the hub reports the repository as gated.
        gated: bool,
        /// Whether a token was sent.
        token: bool,
    },
    /// 404 for the repository.
    #[error(
        "there is no {kind} {id} at {endpoint}{}; check owner and name",
        if *.token { ", or the token has no access" } else { ", or it is private (set HF_TOKEN)" }
    )]
    NoRepository {
        /// Model or data set.
        kind: Kind,
        /// The repository.
        id: String,
        /// The endpoint.
        endpoint: String,
        /// Whether a token was sent.
        token: bool,
    },
    /// 404 for the revision.
    #[error("{id} has no revision `{revision}`; its branches, tags and commits are at {page}")]
    NoRevision {
        /// The repository.
        id: String,
        /// As requested.
        revision: String,
        /// The page that lists the revisions.
        page: String,
    },
    /// 404 for a file, or the file list does not contain it.
    #[error("{id} has no file `{file}`{}", nearby(.near, .page))]
    NoFile {
        /// The repository.
        id: String,
        /// As requested.
        file: String,
        /// Files of a similar name.
        near: Vec<String>,
        /// The page that lists all files.
        page: String,
    },
    /// A model has no supported weights.
    #[error(
        "{id} has no model.safetensors, pytorch_model.bin or adapter_model.safetensors{}; \
         look for a repository with safetensors files",
        instead(.found)
    )]
    NoWeights {
        /// The repository.
        id: String,
        /// Weight files in unsupported formats.
        found: Vec<String>,
    },
    /// 429 after all retries, or with a delay longer than the retry policy allows.
    #[error(
        "{host} responded with status 429 (too many requests); try again {}{}",
        after(.wait),
        if *.token { "" } else { ", or set HF_TOKEN: the limit is higher with a token" }
    )]
    RateLimited {
        /// The host that limits requests.
        host: String,
        /// The delay that the host asks for, if any.
        wait: Option<Duration>,
        /// Whether a token was sent.
        token: bool,
    },
    /// Offline, and the cache does not have it.
    #[error(
        "{what} of {id} is not in the cache {}, and {offline} forbids the network; run once \
         without it to download",
        cache.display()
    )]
    NotCached {
        /// Repository and revision.
        id: String,
        /// The missing file, or the revision.
        what: String,
        /// The cache.
        cache: PathBuf,
        /// What forbids the network: flag or variable.
        offline: Offline,
    },
    /// The host cannot be reached, or every connection breaks.
    #[error(
        "no connection to {host}: {reason}; check the network, HTTPS_PROXY and HF_ENDPOINT{}",
        if *.cached { ", or add --offline to use the files downloaded before" } else { "" }
    )]
    NoConnection {
        /// The host.
        host: String,
        /// The operating system's reason.
        reason: String,
        /// Whether the cache has some commit of the revision.
        cached: bool,
    },
    /// A download was interrupted, also after all retries.
    #[error(
        "the download of {file} of {id} was interrupted repeatedly, at {done} of {total} bytes: \
         {reason}; run again to resume it"
    )]
    Interrupted {
        /// The repository.
        id: String,
        /// The file.
        file: String,
        /// Bytes that arrived.
        done: u64,
        /// Bytes in all.
        total: u64,
        /// Why the last connection broke.
        reason: String,
    },
    /// 5xx after all retries, or an unexpected status.
    #[error("{host} responded with status {status}{}; try again later", quoted(.message))]
    Status {
        /// The host.
        host: String,
        /// The status of the last response.
        status: u16,
        /// The server's explanation, if any.
        message: String,
    },
    /// The digest of the downloaded file was wrong, twice.
    #[error(
        "{file} of {id} was damaged in two downloads: its digest is {found}, the hub's is \
         {expected}; the copy was removed; run again, and check for a proxy or mirror that changes \
         files"
    )]
    Damaged {
        /// The repository.
        id: String,
        /// The file.
        file: String,
        /// SHA-256 or git's SHA-1, as the hub names it.
        expected: String,
        /// The digest of the downloaded file.
        found: String,
    },
    /// A file in the cache is a link to a target outside the cache.
    #[error(
        "{id}: {} in the cache is a link out of the repository's folder; remove it and run again \
         to download the file", path.display()
    )]
    LeadsAway {
        /// The repository.
        id: String,
        /// The link.
        path: PathBuf,
    },
    /// A file name leads out of the cache.
    #[error("{id}: the file name {name:?} leads out of the cache; it was not downloaded")]
    UnsafeName {
        /// The repository.
        id: String,
        /// The name as written by the server, an index or the caller.
        name: String,
    },
    /// The server does not respond like a hub.
    #[error("{host} does not respond like a hub: {problem}; check HF_ENDPOINT and proxies")]
    UnexpectedResponse {
        /// The host.
        host: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of the repository is invalid.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file in the cache.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk is full.
    #[error(
        "no space left on the disk for {}: {missing} bytes are missing; free some space and run \
         again to resume, or set HF_HOME to a directory on another disk",
        path.display()
    )]
    DiskFull {
        /// The partial file.
        path: PathBuf,
        /// Bytes not downloaded yet.
        missing: u64,
    },
    /// The cache cannot be read or written.
    #[error("cannot {action} {}: {source}; HF_HOME sets the directory for downloads", path.display())]
    Io {
        /// `read`, `write`, `create`, ...
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
}

impl Error {
    /// An I/O error about `path`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// The same error about a reference, quoting it as typed.
    pub(crate) fn about_text(self, typed: &str) -> Self {
        match self {
            Self::Reference { problem, .. } => Self::Reference { text: typed.to_owned(), problem },
            other => other,
        }
    }
}

fn refused(status: u16, gated: bool, token: bool, page: &str) -> String {
    let what = match gated {
        true => format!("is gated ({status})"),
        // Without a token, the hub does not distinguish a private repository from a missing one.
        false if !token => format!("is private, gated or misspelt ({status})"),
        false => format!("is not readable with the current token ({status})"),
    };
    match token {
        true => format!(
            "{what}: accept its terms at {page} with the account of the token, and check that the \
             token is valid and has access"
        ),
        false => format!("{what}: accept its terms at {page} and set HF_TOKEN"),
    }
}

fn nearby(near: &[String], page: &str) -> String {
    match near {
        [] => format!("; its files are listed at {page}"),
        near => format!("; did you mean {}?", near.join(" or ")),
    }
}

fn instead(found: &[String]) -> String {
    match found {
        [] => String::new(),
        found => format!(" (but {})", found.join(", ")),
    }
}

fn after(wait: &Option<Duration>) -> String {
    wait.map_or_else(|| "in a few minutes".to_owned(), |wait| format!("in {} s", wait.as_secs()))
}

fn quoted(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (\"{message}\")") }
}
