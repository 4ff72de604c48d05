//! Downloads one file into the cache.

use std::io::Read;

use crate::client::Response;
use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::metadata::Metadata;
use crate::name::quoted;
use crate::partial::Partial;
use crate::repository::Repository;
use crate::retry::{RetryState, renamed};

/// Downloads `file`, unless its content is cached under another commit, and links it.
pub(crate) fn download(repository: &Repository<'_>, file: &str) -> Result<()> {
    let hub = repository.hub();
    let url =
        format!("{}/resolve/{}/{}", repository.page(), repository.commit(), quoted(file, "/"));
    let metadata = hub.retries().with(|| {
        let response = hub.client().send("HEAD", &url, 0, Metadata::is_in)?;
        if response.is_success() || Metadata::is_in(&response) {
            Ok(Metadata::read(&response, repository.commit())?)
        } else {
            Err(repository.status_fault(&response, Some(file)))
        }
    })?;
    let (folder, tag) = (repository.folder(), &metadata.tag);
    let blob = folder.blob(tag);
    if !blob.is_file() {
        let _lock = folder.lock(tag)?;
        // The previous holder of the lock may have downloaded it.
        if !blob.is_file() {
            let fetch = Fetch { repository, file, url: &url, metadata: &metadata };
            // A partial file from another program may have holes, so a wrong digest gets one retry.
            if fetch.complete()?.finish(&blob)?.is_some()
                && let Some(found) = fetch.complete()?.finish(&blob)?
            {
                let (id, file) = (repository.id(), file.to_owned());
                return Err(Error::Damaged { id, file, expected: metadata.tag, found });
            }
        }
    }
    folder.link(repository.commit(), file, tag)
}

struct Fetch<'a> {
    repository: &'a Repository<'a>,
    file: &'a str,
    url: &'a str,
    metadata: &'a Metadata,
}

impl Fetch<'_> {
    /// Downloads the missing part, with retries; returns the complete partial file.
    fn complete(&self) -> Result<Partial> {
        let hub = self.repository.hub();
        let path = self.repository.folder().partial(&self.metadata.tag);
        let mut partial = Partial::open(path, self.metadata)?;
        let mut retries: RetryState = hub.retries();
        let mut milestone = partial.length() + hub.settings().retry.renewed_by;
        self.report(&partial);
        while partial.missing() > 0 {
            let Err(fault) = self.stream(&mut partial) else { continue };
            if partial.length() >= milestone {
                milestone = partial.length() + hub.settings().retry.renewed_by;
                retries.reset();
            }
            retries.wait_or_fail(renamed(fault, |error| self.interrupted(error, &partial)))?;
        }
        Ok(partial)
    }

    /// Makes one request and streams as much of the missing part as arrives.
    fn stream(&self, partial: &mut Partial) -> Result<(), Fault> {
        let start = partial.length();
        // Through the hub each time, because storage addresses expire.
        let mut response =
            self.repository.hub().client().send("GET", self.url, start, |_| false)?;
        match response.status {
            200 if start > 0 => partial.restart()?,
            200 => {}
            206 if start > 0 && begins_at(&response, start) => {}
            206 => return Err(response.unexpected("it sends another range than requested").into()),
            416 => {
                partial.restart()?;
                return Err(Fault::Again(
                    response.unexpected("the file is shorter than its metadata says"),
                    None,
                ));
            }
            _ => return Err(self.repository.status_fault(&response, Some(self.file))),
        }
        if response.number("content-length").is_some_and(|length| length != partial.missing()) {
            let problem = "the length of a file differs from its metadata";
            return Err(Fault::Again(response.unexpected(problem), None));
        }
        let mut buffer = vec![0; 128 << 10];
        let mut reader = response.body.as_reader();
        while partial.missing() > 0 {
            // Never read more than is missing, even if a body without a length continues.
            let room = partial.missing().min(buffer.len() as u64) as usize;
            let reason = match reader.read(&mut buffer[..room]) {
                Ok(0) => "the connection was closed".to_owned(),
                Ok(read) => {
                    partial.write(&buffer[..read])?;
                    self.report(partial);
                    continue;
                }
                Err(error) => error.to_string(),
            };
            let error = Error::NoConnection { host: response.host.clone(), reason, cached: false };
            return Err(Fault::Again(error, None));
        }
        Ok(())
    }

    /// Reports a connection lost in the middle of a file as an interrupted download.
    fn interrupted(&self, error: Error, partial: &Partial) -> Error {
        match error {
            Error::NoConnection { reason, .. } if partial.length() > 0 => Error::Interrupted {
                id: self.repository.id(),
                file: self.file.to_owned(),
                done: partial.length(),
                total: self.metadata.size,
                reason,
            },
            other => other,
        }
    }

    fn report(&self, partial: &Partial) {
        self.repository.report(self.file, partial.length(), self.metadata.size);
    }
}

/// Whether a partial response begins at `start`.
fn begins_at(response: &Response, start: u64) -> bool {
    response
        .header("content-range")
        .and_then(|range| range.strip_prefix("bytes "))
        .and_then(|range| range.split('-').next()?.trim().parse::<u64>().ok())
        == Some(start)
}
