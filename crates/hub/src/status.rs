//! Maps HTTP error statuses to errors.

use crate::client::Response;
use crate::error::Error;
use crate::fault::Fault;
use crate::repository::Repository;

impl Repository<'_> {
    /// The fault for a 4xx or 5xx response.
    pub(crate) fn status_fault(&self, response: &Response, file: Option<&str>) -> Fault {
        let token = self.hub().client().has_token();
        let (status, wait) = (response.status, response.wait());
        let code = response.header("x-error-code").unwrap_or_default();
        let message = self.hub().client().message(response);
        let disabled = message.contains("disabled");
        let (id, page) = (self.reference().id().to_owned(), self.page());
        let host = response.host.clone();
        let other = |message| Error::Status { host: response.host.clone(), status, message };
        let error = match (status, code) {
            (429, _) => return Fault::Again(Error::RateLimited { host, wait, token }, wait),
            (408 | 500..=599, _) => return Fault::Again(other(message), wait),
            // The storage address has expired; the next attempt gets a new one.
            _ if !response.own && code.is_empty() => return Fault::Again(other(message), wait),
            (_, "GatedRepo") => Error::Refused { id, page, status, gated: true, token },
            (_, "RevisionNotFound") => self.no_revision(),
            (404, "EntryNotFound") => self.missing(file.unwrap_or_default(), Vec::new()),
            (401 | 403, _) if !disabled => Error::Refused { id, page, status, gated: false, token },
            (404, "") if file.is_some() => self.missing(file.unwrap_or_default(), Vec::new()),
            (404, "") if self.reference().revision() != "main" => self.no_revision(),
            (404, _) => {
                let endpoint = self.hub().settings().endpoint.clone();
                Error::NoRepository { kind: self.kind(), id, endpoint, token }
            }
            _ => other(message),
        };
        Fault::Final(error)
    }

    fn no_revision(&self) -> Error {
        let (id, revision) = (self.reference().id(), self.reference().revision());
        Error::NoRevision { id: id.to_owned(), revision: revision.to_owned(), page: self.page() }
    }

    /// The error for a missing file, suggesting files of similar names.
    pub(crate) fn no_file(&self, file: &str) -> Error {
        // Suggestions are optional, so a failed listing is ignored.
        let files = self.listing().unwrap_or_default();
        let last = |name: &str| name.rsplit('/').next().unwrap_or_default().to_owned();
        let mut near: Vec<_> = files
            .iter()
            .map(|known| (strsim::jaro_winkler(&last(file), &last(known)), known))
            .filter(|(score, _)| *score > 0.82)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        self.missing(file, near.into_iter().take(3).map(|(_, known)| known.clone()).collect())
    }

    fn missing(&self, file: &str, near: Vec<String>) -> Error {
        let page = format!("{}/tree/{}", self.page(), self.commit());
        Error::NoFile { id: self.id(), file: file.to_owned(), near, page }
    }
}
